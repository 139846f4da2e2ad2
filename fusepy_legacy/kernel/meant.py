"""A path together with the files that it has to lead to.

A handler gets a path, but the kernel means a file: the one that it has looked up, and checked the caller's
rights for. Someone may have put another in its place since. A filesystem whose inode numbers are real can
compare what it has opened, before it does anything with it, and raise ESTALE. The kernel then looks the path
up again and checks again.
"""

from typing import Optional, Tuple

FileId = Tuple[int, int]  # st_dev, st_ino


class Meant(str):
    """A path of the mount.

    `file` identifies the file that the kernel knows by it, `directory` the one that it is in; each is None
    where it is not known, or need not be the same.
    """

    __slots__ = ("file", "directory")

    file: Optional[FileId]
    directory: Optional[FileId]


def meant(path: str, file: Optional[FileId], directory: Optional[FileId] = None) -> Meant:
    """Return a path with what is meant by it, in half the time that a constructor takes."""
    made = _new(Meant, path)
    made.file = file
    made.directory = directory
    return made


_new = str.__new__
