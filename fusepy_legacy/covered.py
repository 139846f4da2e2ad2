"""The directory below the root that the mirror's own mount covers.

Walking into it by its path would enter the mirror itself, and wait for its own answer. A descriptor from
before the mount still means the directory below. Where that directory lies now is asked anew each time:
whoever renames a directory above the mount point takes the mount along, maybe past the mirror.
"""

import os
from typing import NamedTuple, Optional, Union


class MountPoint(NamedTuple):
    """Where the mirror is mounted, without symlinks, and a descriptor from before."""

    path: str
    descriptor: int


class Covered:
    """The covered directory, from before the mount until `close`.

    Raises OSError as open(2) does when the mount point cannot be opened.
    """

    def __init__(self, top: str, mountpoint: Union[str, MountPoint]) -> None:
        """`top` is the root, as a directory above the mount point."""
        path = mountpoint if isinstance(mountpoint, str) else mountpoint.path
        self.name = os.path.basename(path)  # rename(2): EBUSY for a mount point itself
        self._top = _open(top)
        try:
            if isinstance(mountpoint, str):
                self.descriptor = _open(mountpoint)
            else:
                self.descriptor = os.dup(mountpoint.descriptor)
        except BaseException:
            os.close(self._top)
            raise

    def close(self) -> None:
        """Close the descriptors."""
        os.close(self.descriptor)
        os.close(self._top)

    def path(self) -> Optional[str]:
        """Return the directory's path from the root, None when it is not below the root any more."""
        try:
            above, below = _path_of(self._top), _path_of(self.descriptor)
        except OSError:  # ENAMETOOLONG: nobody gets there by a path
            return None
        prefix = above.rstrip("/") + "/"
        return "/" + below[len(prefix) :] if below.startswith(prefix) else None

    def is_entry(self, directory: int, name: str) -> bool:
        """Tell whether an entry of an open directory is the covered directory."""
        if name != self.name:
            return False
        return os.path.samestat(os.fstat(directory), os.stat("..", dir_fd=self.descriptor))


def covered_by(root: int, mountpoint: Union[str, MountPoint]) -> Optional[Covered]:
    """Return what a mount will cover below the root, None when it lies elsewhere or is the root itself.

    Where it is mounted already, only a MountPoint still tells what is below. The root may have several paths
    (bind mounts), so its directory is looked for and not its path.
    """
    status = os.fstat(root)
    if isinstance(mountpoint, str):
        above = mountpoint = os.path.realpath(mountpoint)
    else:
        above = mountpoint.path
    while above != "/":
        above = os.path.dirname(above)
        if os.path.samestat(os.stat(above), status):
            return Covered(above, mountpoint)
    return None


def _open(path: str) -> int:
    return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _path_of(descriptor: int) -> str:
    return os.readlink(f"/proc/self/fd/{descriptor}")
