"""Paths to descriptors beneath a root: no escape, no length limit.

A request names a file by its path from the mount's root. The kernel has resolved the symlinks of the
mount, so a symlink met on the way down in the backing directory is either one that someone has just put
there, or an attack: following it could leave the root. So nothing here follows one. openat2(2) does the
whole walk in one call (Linux 5.6); where it is missing, each component is opened with O_NOFOLLOW.

Descriptors for directories are not cached: a cached one would still point at its directory after
someone has moved that out of the root. Opening one costs about a microsecond.
"""

import errno
import os
import stat
from typing import List, Optional, Tuple, Union

from fusepy_legacy import syscalls
from fusepy_legacy.covered import Covered, MountPoint, covered_by

PATH_MAX = 4096  # linux/limits.h; counts the terminating NUL

_RESOLVE = syscalls.RESOLVE_BENEATH | syscalls.RESOLVE_NO_SYMLINKS | syscalls.RESOLVE_NO_MAGICLINKS
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
TMPFILE_BIT = os.O_TMPFILE & ~os.O_DIRECTORY  # open(2): O_TMPFILE has both
_ATTEMPTS = 100  # at a walk, among renames, before EAGAIN is taken for a lease
# openat2(2) refuses bits it does not know, and the kernel hands some on that are its own (__FMODE_EXEC).
_OPEN_FLAGS = (
    os.O_ACCMODE
    | os.O_APPEND
    | os.O_CREAT
    | os.O_DIRECTORY
    | os.O_DSYNC
    | os.O_EXCL
    | os.O_NOATIME
    | os.O_NONBLOCK
    | os.O_PATH
    | os.O_SYNC
    | os.O_TMPFILE
    | os.O_TRUNC
)


class Held(str):
    """A path that leads to one file even when that has lost its name, until `close`.

    As text it is the path that the file had.
    """

    descriptor = -1

    @classmethod
    def of(cls, path: str, descriptor: int) -> "Held":
        """Return a path to what `descriptor` is open for; as text it is `path`."""
        held = cls(path)
        # Closing a duplicate would drop the process's record locks; O_PATH has none (fcntl(2)).
        held.descriptor = os.open(f"/proc/self/fd/{descriptor}", os.O_PATH | os.O_CLOEXEC)
        return held

    def name(self) -> str:
        """Return what the file is called from its own descriptor: "." for a directory, else ""."""
        return "." if stat.S_ISDIR(os.fstat(self.descriptor).st_mode) else ""

    def close(self) -> None:
        """Let the file go."""
        os.close(self.descriptor)


class Parent:
    """Context manager: the (descriptor, name) of a file's directory and its name there.

    Without an `owner` the descriptor is its own to close; the owner keeps it open as long as it lives.
    """

    __slots__ = ("descriptor", "name", "owner")

    def __init__(self, descriptor: int, name: str, owner: "Optional[Beneath]" = None) -> None:
        self.descriptor = descriptor
        self.name = name
        self.owner = owner

    def __enter__(self) -> Tuple[int, str]:
        return self.descriptor, self.name

    def __exit__(self, *exception: object) -> None:
        if self.owner is None:
            os.close(self.descriptor)


class Reference:
    """Context manager: a path in /proc that names one file whatever happens to its name.

    It is for the calls that take no directory descriptor (xattrs, chmod, truncate), and is not followed
    further when the file is a symlink (proc_pid_fd(5)).
    """

    __slots__ = ("descriptor",)

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __enter__(self) -> str:
        return f"/proc/self/fd/{self.descriptor}"

    def __exit__(self, *exception: object) -> None:
        os.close(self.descriptor)


class Beneath:
    """Opens files beneath one directory.

    All paths are absolute in the mount ("/" is the root) and arrive as os.fsdecode makes them. Safe for
    threads: nothing changes after construction.

    Raises OSError as open(2) does when the root cannot be opened.
    """

    def __init__(self, root: str, mountpoint: Union[str, MountPoint, None] = None) -> None:
        """Open `root`; `mountpoint` is where the mirror will be mounted, None when nowhere.

        Where it is mounted already, only a MountPoint still tells what is below.
        """
        self.descriptor = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self.covered: Optional[Covered] = None
        try:
            if mountpoint is not None:
                self.covered = covered_by(self.descriptor, mountpoint)
            self._open_below = self._openat2 if self._has_openat2() else self._walk
        except BaseException:
            self.close()
            raise

    def _has_openat2(self) -> bool:
        try:
            os.close(self._openat2(self.descriptor, ".", _DIRECTORY, 0))
        except OSError as error:
            # Old kernels do not know the call; seccomp filters of old containers refuse it.
            if error.errno not in (errno.ENOSYS, errno.EPERM):
                raise
            return False
        return True

    def close(self) -> None:
        """Close the root's descriptors; the object is of no use afterwards."""
        if self.covered is not None:
            self.covered.close()
        os.close(self.descriptor)

    def open(self, path: str, flags: int, mode: int = 0) -> int:
        """Open a file as open(2) does, never following a symlink; return its descriptor.

        ELOOP or ENOTDIR: the last component, or one on the way, is a symlink. EXDEV: the path would leave
        the root. It does not wait for the other end of a fifo: someone may just have put that there, and
        for a regular file O_NONBLOCK means nothing (open(2)).
        """
        flags = flags & _OPEN_FLAGS | os.O_NOFOLLOW | os.O_CLOEXEC
        if isinstance(path, Held):
            return os.open(f"/proc/self/fd/{path.descriptor}", flags & ~os.O_NOFOLLOW)
        directory, relative = self._locate(path)
        if flags & (os.O_PATH | os.O_NONBLOCK):
            return self._open_long(directory, relative, flags, mode)
        try:
            return self._open_long(directory, relative, flags | os.O_NONBLOCK, mode)
        except BlockingIOError:  # someone has a lease (fcntl(2), F_SETLEASE), which ends
            return self._open_long(directory, relative, flags, mode)

    def stat(self, path: str) -> os.stat_result:
        """Return a file's attributes, a symlink's its own (lstat(2))."""
        if isinstance(path, Held):
            return os.fstat(path.descriptor)
        directory, relative = self._locate(path)
        head, slash, name = relative.rpartition("/")
        if name == "..":
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)
        if not slash:
            return os.stat(name, dir_fd=directory, follow_symlinks=False)
        descriptor = self._open_long(directory, head, _DIRECTORY, 0)
        try:
            status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            # In this order: mkdir(2) and others do not ask again after ESTALE for what is not there.
            self._compare_directory(path, name, descriptor)
            return status
        finally:
            os.close(descriptor)

    def _compare_directory(self, path: str, name: str, descriptor: int) -> Optional[os.stat_result]:
        """Raise ESTALE if the directory in which `name` was found is not the one that is meant: see Root."""
        return None

    def parent(self, path: str) -> Parent:
        """Return a context manager that gives the descriptor of the file's directory, and its name there.

        The root, a directory that the mount covers, and a held one are "." in themselves. A held symlink
        is "" (readlink(2)).
        """
        if isinstance(path, Held):
            return Parent(path.descriptor, path.name(), self)
        directory, relative = self._locate(path)
        head, slash, name = relative.rpartition("/")
        if name == "..":
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)
        if not slash:
            return Parent(directory, name, self)
        return Parent(self._open_long(directory, head, _DIRECTORY, 0), name)

    def reference(self, path: str) -> Reference:
        """Return a context manager that gives a path in /proc for calls without a descriptor form."""
        return Reference(self.open(path, os.O_PATH))

    def hold(self, path: str) -> Held:
        """Return a path that keeps leading to the file that has this one now."""
        held = Held(path)
        held.descriptor = self.open(path, os.O_PATH)
        return held

    def _locate(self, path: str) -> Tuple[int, str]:
        """Return the descriptor to start from and the path relative to it."""
        covered = self.covered
        if covered is not None:
            top = covered.path()
            if top is not None and f"{path}/".startswith(f"{top}/"):
                return covered.descriptor, path[len(top) + 1 :] or "."
        return self.descriptor, path[1:] or "."

    def _open_long(self, directory: int, relative: str, flags: int, mode: int) -> int:
        """Open a path of any length, in pieces that the kernel takes (path_resolution(7))."""
        if "/" not in relative and relative != "..":
            # One component needs no resolving, and os.open takes less than half of openat2's 1.5 µs.
            return os.open(relative, flags, mode, dir_fd=directory)
        if len(relative) * 4 < PATH_MAX:  # no character takes more than four bytes
            return self._open_below(directory, relative, flags, mode)
        pieces = _pieces(relative)
        opened = -1
        try:
            for piece in pieces[:-1]:
                following = self._open_below(directory, piece, _DIRECTORY, 0)
                if opened >= 0:
                    os.close(opened)
                directory = opened = following
            return self._open_below(directory, pieces[-1], flags, mode)
        finally:
            if opened >= 0:
                os.close(opened)

    @staticmethod
    def _openat2(directory: int, relative: str, flags: int, mode: int) -> int:
        mode = stat.S_IMODE(mode) if flags & (os.O_CREAT | TMPFILE_BIT) else 0
        if not flags & os.O_PATH:
            # For files over 2 GiB. libc's open adds it; openat2(2) does so on 64-bit machines only
            # (fs/open.c), for which os has 0 (bits/fcntl.h).
            flags |= os.O_LARGEFILE
        attempts = 0
        while True:
            attempts += 1
            try:
                return syscalls.openat2(directory, relative, flags, mode, _RESOLVE)
            except OSError as error:
                # EAGAIN: a rename somewhere got in the way of the walk; openat2(2) says to try again. With
                # O_NONBLOCK it may also be a lease.
                leased = flags & os.O_NONBLOCK and attempts > _ATTEMPTS
                if error.errno not in (errno.EAGAIN, errno.EINTR) or leased:
                    raise

    @staticmethod
    def _walk(directory: int, relative: str, flags: int, mode: int) -> int:
        """Do openat2's work component by component, for kernels without it."""
        *directories, name = relative.split("/")
        opened = -1
        try:
            for component in directories:
                if component == "..":
                    raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), relative)
                following = os.open(component, _DIRECTORY, dir_fd=directory)
                if opened >= 0:
                    os.close(opened)
                directory = opened = following
            if name == "..":
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), relative)
            return os.open(name, flags, mode, dir_fd=directory)
        finally:
            if opened >= 0:
                os.close(opened)


def _pieces(relative: str) -> List[str]:
    """Cut a relative path at slashes into pieces shorter than PATH_MAX."""
    pieces: List[str] = []
    piece = ""
    for component in relative.split("/"):
        longer = f"{piece}/{component}" if piece else component
        if piece and len(os.fsencode(longer)) >= PATH_MAX:
            pieces.append(piece)
            longer = component
        piece = longer
    pieces.append(piece)
    return pieces
