"""A filesystem in memory that hands its arguments to the engine as they are, past fuse-python's parser."""

import sys

from memory import Memory


def main():
    Memory().main(sys.argv)


if __name__ == "__main__":
    main()
