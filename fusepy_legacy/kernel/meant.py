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

    def __new__(
        cls, path: str, file: Optional[FileId] = None, directory: Optional[FileId] = None
    ) -> "Meant":
        meant = super().__new__(cls, path)
        meant.file = file
        meant.directory = directory
        return meant

    file: Optional[FileId]
    directory: Optional[FileId]
