"""Print the arguments, and end with the exit code 3."""

import sys

if __name__ == "__main__":
    print(sys.argv[1:])
    sys.exit(3)
