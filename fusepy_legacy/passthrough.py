"""The mirror: a directory shown at a mount point, every operation handed to the filesystem underneath.

This is the file to copy or to subclass. `Passthrough` has the operations that take a path;
`PassthroughFile` is one open file and `PassthroughDirectory` one open directory, each holding the operating
system's descriptor. All raise OSError, as the calls they make do.
"""

import errno
import fcntl
import os
import select
import stat
import struct
from typing import Any, Dict, Iterator, List, Optional, Union

from fusepy_legacy import syscalls
from fusepy_legacy.beneath import Held
from fusepy_legacy.binding import fuse
from fusepy_legacy.dirents import Dirent
from fusepy_legacy.identity import ActingAs
from fusepy_legacy.kernel.context import current
from fusepy_legacy.locks import Lock, LockTable, wait_for
from fusepy_legacy.root import Root
from fusepy_legacy.rooted import Rooted


def _inode_flags(*longs: int) -> Dict[int, int]:
    """Return what lsattr and chattr ask for, and how many bytes are returned, for these sizes of a long.

    asm-generic/ioctl.h and linux/fs.h. The kernel makes FSGETXATTR of the looking that goes before a change
    (fs/file_attr.c).
    """
    numbers = {0x801C581F: 28, 0x401C5820: 0}  # FS_IOC_FSGETXATTR and FS_IOC_FSSETXATTR
    for long in longs:
        size = long << 16
        numbers[0x80006601 | size] = long  # FS_IOC_GETFLAGS
        numbers[0x40006602 | size] = 0  # FS_IOC_SETFLAGS
        numbers[0x80007601 | size] = long  # FS_IOC_GETVERSION
    return numbers


# The kernel asks with its own long, which has 64 bits for 32-bit programs, too, on a 64-bit machine.
_INODE_FLAGS = _inode_flags(8, struct.calcsize("l"))

_RWF_NOAPPEND = 0x20  # linux/fs.h, Linux 6.9
_UNCHANGED = 0xFFFFFFFF  # chown(2): an id of -1 is left as it is


class _Opened:
    """What an open file and an open directory can be asked, also when they have no name any more."""

    filesystem: "Passthrough"

    def writable(self) -> int:
        """Return the descriptor; EROFS when nothing may be changed through it."""
        raise NotImplementedError

    def fchmod(self, mode: int) -> None:
        """Set the permission bits: fchmod(2)."""
        os.fchmod(self.writable(), stat.S_IMODE(mode))

    def fchown(self, uid: int, gid: int) -> None:
        """Set owner and group: fchown(2)."""
        os.fchown(self.writable(), uid, gid)

    def futimens(self, atime: syscalls.Timestamp, mtime: syscalls.Timestamp) -> None:
        """Set the times: futimens(3)."""
        syscalls.futimens(self.writable(), atime, mtime)

    def fhold(self, path: str) -> Held:
        """Return a path that leads to this open file, for what is done by path; as text it is `path`."""
        raise NotImplementedError


class PassthroughFile(_Opened):
    """One open file.

    `filesystem` is the Passthrough it belongs to, `root` the directory of it that the file is in; `fd` is
    its descriptor, and `fileno()` says so to the engine. A subclass that transforms data overrides `read`
    and `write`.
    """

    # Of this class's read and write; a subclass that overrides one is asked as ever.
    kernel_io = True
    _writes = True  # of one who does without this __init__
    _appends = False

    def __init__(self, path: str, flags: int, *mode: int) -> None:
        """Open a file, or create it with `mode`: open(2)."""
        # O_DIRECT asks for aligned buffers, which Python's are not; it holds between program and kernel.
        flags &= ~os.O_DIRECT
        self.root, inner = self.filesystem.beneath.locate(path, making=bool(mode))
        self.fd = self.filesystem.open_beneath(self.root, inner, flags, *mode)
        self._writes = flags & os.O_ACCMODE != os.O_RDONLY
        self._appends = bool(flags & os.O_APPEND)
        self.root.opened()

    def fileno(self) -> int:
        """Return the descriptor."""
        return self.fd

    def read(self, length: int, offset: int) -> bytes:
        """Return `length` bytes from `offset`, fewer at the end of the file: pread(2)."""
        return os.pread(self.fd, length, offset)

    def write(self, data: bytes, offset: int) -> int:
        """Write at `offset`, or at the end after O_APPEND; return how many bytes: pwrite(2)."""
        if self._appends and current.at_offset:
            return self._write_at(data, offset)
        return os.pwrite(self.fd, data, offset)

    def _write_at(self, data: bytes, offset: int) -> int:
        """Write at the offset in spite of O_APPEND, which would put it at the end (pwrite(2), BUGS)."""
        if hasattr(os, "pwritev"):  # Python 3.7
            try:
                return os.pwritev(self.fd, [data], offset, _RWF_NOAPPEND)
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS):
                    raise
        # Not for who may not write to the file by its mode, as its creator might.
        descriptor = os.open(f"/proc/self/fd/{self.fd}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            return os.pwrite(descriptor, data, offset)
        finally:
            os.close(descriptor)

    def flush(self) -> None:
        """Report what close(2) reports, such as a late EDQUOT or EIO; called at each close of a program."""
        if not self._writes:
            return
        try:
            duplicate = os.dup(self.fd)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                return  # closing must work when nothing more can be opened
            raise
        os.close(duplicate)

    def release(self, flags: int) -> None:
        """Close the descriptor; called once, after the last close of a program."""
        try:
            self.filesystem.locks.closing(self.fd)
        finally:
            os.close(self.fd)
            self.root.released()

    def fsync(self, datasync: bool) -> None:
        """Bring the file to the disk: fsync(2), or fdatasync(2)."""
        if datasync:
            os.fdatasync(self.fd)
        else:
            os.fsync(self.fd)

    def fgetattr(self) -> os.stat_result:
        """Return the attributes, also of a file without a name: fstat(2)."""
        return self.root.shown(os.fstat(self.fd), self.fd)

    def writable(self) -> int:
        """Return the descriptor; EROFS when the root is read-only."""
        self.root.check_writable()
        return self.fd

    def fhold(self, path: str) -> Held:
        """Return a path that leads to this open file; as text it is `path`."""
        return Held.of(path, self.fd)

    def ftruncate(self, length: int) -> None:
        """Cut or extend the file: ftruncate(2)."""
        os.ftruncate(self.fd, length)

    # For the kernel engine

    def linkat(self, path: str) -> None:
        """Give an open file a (new) name: linkat(2) with a path in /proc."""
        beneath = self.filesystem.beneath
        if beneath.at(path) is not self.root:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)
        with beneath.new(path, stat.S_IFREG) as (directory, name):
            os.link(f"/proc/self/fd/{self.fd}", name, dst_dir_fd=directory, follow_symlinks=True)

    def fallocate(self, mode: int, offset: int, length: int) -> None:
        """Reserve, punch or zero a range: fallocate(2)."""
        syscalls.fallocate(self.fd, mode, offset, length)

    def lseek(self, offset: int, whence: int) -> int:
        """Return where the next data or hole is: lseek(2). The file position is nobody's."""
        return os.lseek(self.fd, offset, whence)

    def copy_file_range(
        self, offset: int, target: "PassthroughFile", target_offset: int, length: int, flags: int
    ) -> int:
        """Copy to another open file without the data coming up here: copy_file_range(2)."""
        if target._appends:  # the program's does no more, but what is open here still does: F_SETFL
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        return syscalls.copy_file_range(self.fd, offset, target.fd, target_offset, length)

    def flock(self, operation: int) -> None:
        """Take or drop a flock lock: flock(2). It belongs to this open, as it should."""
        interrupted = self.filesystem.interrupted()
        if operation & fcntl.LOCK_NB or interrupted is None:
            fcntl.flock(self.fd, operation)
        else:
            wait_for(lambda: fcntl.flock(self.fd, operation | fcntl.LOCK_NB), interrupted)

    # Record locks

    def lock(
        self, cmd: int, owner: int, l_type: int, l_start: int, l_len: int, l_pid: int
    ) -> Optional[Any]:
        """Test (F_GETLK), take or drop (F_SETLK, F_SETLKW) a record lock for a lock owner: fcntl(2).

        Returns the `fuse.Flock` that is in the way, or one of type F_UNLCK, for F_GETLK; else None.
        """
        locks = self.filesystem.locks
        if l_type == fcntl.F_UNLCK and not locks.holds_any():
            return None  # what each close(2) asks for
        lock = Lock(l_type, l_start, l_len, l_pid)
        if cmd == fcntl.F_GETLK:
            found = locks.test(self.fd, owner, lock)
            if found is None:
                return fuse.Flock(l_type=fcntl.F_UNLCK)
            return fuse.Flock(
                l_type=found.type, l_start=found.start, l_len=found.length, l_pid=found.pid
            )
        wait = cmd == fcntl.F_SETLKW
        thread = self.filesystem.GetContext()["pid"] if wait else 0
        locks.set(self.fd, owner, lock, wait, self.filesystem.interrupted(), thread)
        return None


class PassthroughDirectory(_Opened):
    """One open directory, read in pieces from its descriptor; `stream` holds it."""

    def __init__(self, path: str) -> None:
        """Open a directory: open(2) with O_DIRECTORY."""
        self.stream = self.filesystem.beneath.opendir(path)
        self.keep_cache = self.filesystem.watch

    def readdir(self, offset: int) -> Iterator[Dirent]:
        """Yield each entry from `offset` on, with what a `fuse.Direntry` has: getdents(2)."""
        return self.stream.entries(offset)

    def fgetattr(self) -> os.stat_result:
        """Return the attributes, also of a directory without a name: fstat(2)."""
        return self.stream.fstat()

    def writable(self) -> int:
        """Return the descriptor; EROFS when the root is read-only, or it is none."""
        return self.stream.writable()

    def fhold(self, path: str) -> Held:
        """Return a path that leads to this directory; as text it is `path`."""
        return self.stream.hold(path)

    def fstatat(self, name: str) -> os.stat_result:
        """Return an entry's attributes, for listings with attributes: fstatat(2)."""
        return self.stream.stat(name)

    def fsyncdir(self, datasync: bool) -> None:
        """Bring the directory to the disk: fsync(2)."""
        self.stream.sync(datasync)

    def releasedir(self) -> None:
        """Close the descriptor."""
        self.stream.close()


class Passthrough(Rooted):
    """A mirror of the directory `root`, set by `-o root=DIR` or by a subclass before `main`.

    rooted.py has the other options that say what is mirrored. With `relative_symlinks`, a link to an absolute
    path below the root reads as a relative one, so that it leads to the mirror of what it points at.
    """

    file_class: type = PassthroughFile
    dir_class: type = PassthroughDirectory
    wanted = frozenset(("atomic_o_trunc", "create_supp_group", "ioctl_dir", "posix_acl"))

    relative_symlinks = False

    def __init__(self, *args: Any, **kw: Any) -> None:
        super().__init__(*args, **kw)
        self.locks = LockTable()
        self.parser.add_option(
            mountopt="relative_symlinks",
            action="store_true",
            help="show links to absolute paths below the root as relative ones",
        )

    def open_beneath(self, root: Root, path: str, flags: int, *mode: int) -> int:
        """Open or create a file by its path in a root; what is created belongs to the caller.

        ESTALE for one to be created that is there already: the kernel, which did not know, looks again and
        checks whether the caller may open it.
        """
        if not mode:
            return root.open(path, flags)
        exclusive = flags & os.O_EXCL
        if flags & os.O_TMPFILE != os.O_TMPFILE:
            flags |= os.O_CREAT | os.O_EXCL
        try:
            with ActingAs(self.caller(), mode[0]):
                return root.open(path, flags, mode[0])
        except FileExistsError:
            if exclusive:
                raise
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), path) from None

    def tmpfile(self, path: str, flags: int, mode: int) -> PassthroughFile:
        """Open a new file without a name in a directory: open(2), O_TMPFILE."""
        opened: PassthroughFile = self.create(path, flags | os.O_TMPFILE, mode)
        return opened

    def hold(self, path: str) -> Held:
        """Return a path that still leads to this file when another has taken its name."""
        return self.beneath.hold(path)

    # Attributes

    def getattr(self, path: str) -> os.stat_result:
        """Return a file's attributes: lstat(2)."""
        return self.beneath.stat(path)

    def birthtime(self, path: str) -> Optional[syscalls.Timestamp]:
        """Return when a file was made, None where that is not known: statx(2)."""
        try:
            reference = self.beneath.reference(path)
        except OSError as error:
            if error.errno != errno.ENODATA:  # a directory above the roots
                raise
            return None
        with reference:
            return syscalls.birthtime(reference.descriptor)

    def access(self, path: str, mode: int) -> None:
        """Raise EACCES unless the daemon's user has these rights; only asked without default_permissions."""
        self.beneath.access(path, mode)

    def chmod(self, path: str, mode: int) -> None:
        """Set the permission bits: chmod(2)."""
        with self.beneath.reference(path, change=True) as reference:
            os.chmod(reference, stat.S_IMODE(mode))

    def chown(self, path: str, uid: int, gid: int) -> None:
        """Set owner and group, -1 leaves one as it is: lchown(2)."""
        with self.beneath.reference(path, change=True) as reference:
            os.chown(reference, _chown_id(uid), _chown_id(gid))

    def truncate(self, path: str, length: int) -> None:
        """Cut or extend a file that need not be open: truncate(2)."""
        with self.beneath.reference(path, change=True) as reference:
            os.truncate(reference, length)

    def utimens(self, path: str, atime: Any, mtime: Any) -> None:
        """Set access and modification time, each with `tv_sec` and `tv_nsec`."""
        self.utimensat(path, atime, mtime)

    def utimensat(self, path: str, atime: Any, mtime: Any) -> None:
        """Set the times, where `tv_nsec` may also be UTIME_NOW or UTIME_OMIT: utimensat(2)."""
        with self.beneath.reference(path, change=True) as reference:
            syscalls.utimensat(reference, atime, mtime)

    def statfs(self, path: str = "/") -> os.statvfs_result:
        """Return size and room of the filesystem underneath a path: statvfs(3)."""
        return self.beneath.statvfs(path)

    def syncfs(self) -> None:
        """Write back the filesystem underneath: syncfs(2)."""
        self.beneath.sync()

    # Names

    def mknod(self, path: str, mode: int, device: int) -> None:
        """Create a file, fifo, socket or device node that belongs to the caller: mknod(2)."""
        kind = stat.S_IFMT(mode) or stat.S_IFREG
        with self.beneath.new(path, kind) as (directory, name), ActingAs(self.caller(), mode):
            os.mknod(name, mode, device, dir_fd=directory)

    def mkdir(self, path: str, mode: int) -> None:
        """Create a directory that belongs to the caller: mkdir(2)."""
        with self.beneath.new(path, stat.S_IFDIR) as (directory, name), ActingAs(self.caller()):
            os.mkdir(name, mode, dir_fd=directory)

    def symlink(self, target: str, path: str) -> None:
        """Create a symlink that belongs to the caller: symlink(2)."""
        with self.beneath.new(path, stat.S_IFLNK) as (directory, name), ActingAs(self.caller()):
            os.symlink(target, name, dir_fd=directory)

    def link(self, old: str, new: str) -> None:
        """Give a file a second name: link(2)."""
        root, old, new = self.beneath.common(old, new)
        with root.reference(old, change=True) as reference:
            with root.new(new, stat.S_IFREG) as (directory, name):
                # Of a symlink the reference leads to the link itself.
                os.link(reference, name, dst_dir_fd=directory, follow_symlinks=True)

    def rename(self, old: str, new: str, flags: int = 0) -> None:
        """Rename, replacing what has the new name unless RENAME_ flags say otherwise: renameat2(2)."""
        root, old, new = self.beneath.common(old, new)
        root.check_rename(old, new, flags)
        with root.old(old) as (old_directory, old_name):
            with root.replaced(new) as (new_directory, new_name):
                if flags:
                    syscalls.renameat2(old_directory, old_name, new_directory, new_name, flags)
                else:
                    os.rename(
                        old_name, new_name, src_dir_fd=old_directory, dst_dir_fd=new_directory
                    )

    def unlink(self, path: str) -> None:
        """Take a name away: unlink(2)."""
        with self.beneath.old(path) as (directory, name):
            os.unlink(name, dir_fd=directory)

    def rmdir(self, path: str) -> None:
        """Remove an empty directory: rmdir(2)."""
        with self.beneath.old(path) as (directory, name):
            os.rmdir(name, dir_fd=directory)

    def readlink(self, path: str) -> str:
        """Return a symlink's target: readlink(2)."""
        with self.beneath.parent(path) as (directory, name):
            target = os.readlink(name, dir_fd=directory)
        if self.relative_symlinks and target.startswith("/"):
            inside = self.beneath.inside(target)
            if inside is not None:
                return os.path.relpath(inside, os.path.dirname(path))
        return target

    # Extended attributes: names are str, values str with surrogateescape, which lose nothing.

    def getxattr(self, path: str, name: str, size: int) -> Union[int, str]:
        """Return an attribute's value, or its length when `size` is 0: lgetxattr(2)."""
        with self.beneath.reference(path) as reference:
            value = os.getxattr(reference, name)
        if size == 0:
            return len(value)
        if len(value) > size:
            raise OSError(errno.ERANGE, os.strerror(errno.ERANGE), path)
        return value.decode("utf-8", "surrogateescape")

    def setxattr(self, path: str, name: str, value: str, flags: int) -> None:
        """Set an attribute, with XATTR_CREATE or XATTR_REPLACE: lsetxattr(2)."""
        with self.beneath.reference(path, change=True) as reference:
            os.setxattr(reference, name, value.encode("utf-8", "surrogateescape"), flags)

    def listxattr(self, path: str, size: int) -> Union[int, List[str]]:
        """Return the attributes' names, or their length with NULs when `size` is 0: llistxattr(2)."""
        names = self._xattr_names(path)
        length = sum(len(os.fsencode(name)) + 1 for name in names)
        if size == 0:
            return length
        if length > size:
            raise OSError(errno.ERANGE, os.strerror(errno.ERANGE), path)
        return names

    def _xattr_names(self, path: str) -> List[str]:
        try:
            with self.beneath.reference(path) as reference:
                return os.listxattr(reference)
        except OSError as error:
            if error.errno != errno.ENODATA:  # a directory above the roots
                raise
            return []

    def removexattr(self, path: str, name: str) -> None:
        """Remove an attribute: lremovexattr(2)."""
        with self.beneath.reference(path, change=True) as reference:
            os.removexattr(reference, name)

    # What regular files and directories need no mirror's help for.

    def bmap(self, path: str, block_size: int, index: int) -> int:
        """Refuse: the blocks of a mirror are not on its own device (ioctl_fibmap(2))."""
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP), path)

    def poll(self, path: str, handle: Any, *file: Any) -> int:
        """Return that regular files are always ready: poll(2)."""
        return select.POLLIN | select.POLLOUT | select.POLLRDNORM | select.POLLWRNORM

    def ioctl(
        self, path: str, cmd: int, data: Optional[bytes], flags: int, *file: Any
    ) -> Union[int, bytes]:
        """Get and set the inode flags of lsattr and chattr, with the caller's rights; else ENOTTY."""
        returned = _INODE_FLAGS.get(cmd)
        if returned is None:
            raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY), path)
        if not returned:
            self.beneath.check(path, change=True)
        # By path it could be another file by now.
        held = file[0].fhold(path) if file and hasattr(file[0], "fhold") else None
        try:
            descriptor = self.beneath.open(held or path, os.O_RDONLY | os.O_NONBLOCK)
        finally:
            if held is not None:
                held.close()
        try:
            if not returned:
                with ActingAs(self.caller()):
                    fcntl.ioctl(descriptor, cmd, data or b"")
                return 0
            # Of flags the request says long, and the kernel writes int: ioctl_iflags(2).
            return fcntl.ioctl(descriptor, cmd, bytes(returned))
        finally:
            os.close(descriptor)


def _chown_id(number: int) -> int:
    """Undo the stock engine's signed 32 bits: ids reach to 4294967294."""
    number &= 0xFFFFFFFF
    return -1 if number == _UNCHANGED else number
