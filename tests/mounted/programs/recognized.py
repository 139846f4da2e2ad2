"""Print the mount options that the engine recognises, as fuse-python finds them out."""

import fuse

fuse.fuse_python_api = (0, 2)


def main():
    found = fuse.Fuse.fuseoptref()
    print(" ".join(sorted(found.optlist | set(found.optdict))))


if __name__ == "__main__":
    main()
