"""One directory as a mount shows it: without what is hidden, without other filesystems, maybe read-only.

`Root` has the calls of `Beneath`, and ones that tell what they are for: `parent` and `reference` are for
looking, or for changing attributes, `old` is for a name that shall go, `new` for one that shall be. A hidden
name does not exist (ENOENT), also not for who wants to make it. `Roots` has the same methods for several.

What a path leads to is compared with what the engine means (meant.py) before anything is done to it: ESTALE.

A directory may be moved to where a pattern hides what is in it, or shows what was hidden: patterns go by
paths, and the move does not look into the directory.
"""

import errno
import os
import stat
import threading
from typing import Callable, Iterator, List, NamedTuple, Optional, Tuple, Union

from fusepy_legacy import syscalls
from fusepy_legacy.beneath import TMPFILE_BIT, Beneath, Held, Parent, Reference
from fusepy_legacy.covered import MountPoint
from fusepy_legacy.dirents import DirectoryStream, Dirent
from fusepy_legacy.exclusion import (
    DIRECTORY_HIDDEN,
    FILE_HIDDEN,
    HIDDEN,
    VISIBLE,
    Exclusion,
)
from fusepy_legacy.inodes import InodeNumbers, numbered
from fusepy_legacy.kernel.meant import FileId, Meant

# Flags of open(2) that change something.
CHANGES = os.O_CREAT | os.O_ACCMODE | os.O_TRUNC | TMPFILE_BIT
_NUMBER_SHIFT = 32  # the kernel's device numbers have 32 bits


def error(number: int, path: str) -> OSError:
    """Return the OSError of an errno."""
    return OSError(number, os.strerror(number), path)


class Rules(NamedTuple):
    """What a root shows, and lets do."""

    read_only: bool = False
    one_file_system: bool = False
    exclusion: Optional[Exclusion] = None


NO_RULES = Rules()


class Root(Beneath):
    """A directory with rules.

    `numbers` are shared by the roots of one mount, and `number` tells a root from the others: the statuses'
    `st_dev` has it above bit 32, so that the engine takes no file of one for one of another. It is closed
    with its last reference, so that nobody's request is left with a descriptor that is not its own.
    """

    descriptor = -1  # until it is open, and again when it is closed
    on_closed: Callable[[], None] = staticmethod(lambda: None)

    def __init__(
        self,
        path: str,
        mountpoint: Union[str, MountPoint, None] = None,
        rules: Rules = NO_RULES,
        numbers: Optional[InodeNumbers] = None,
        number: int = 0,
    ) -> None:
        """Open a directory; raises OSError as open(2)."""
        super().__init__(path, mountpoint)
        self.path = path
        self.rules = rules
        self.device = os.fstat(self.descriptor).st_dev
        self.numbers = numbers or InodeNumbers()
        self._number = number << _NUMBER_SHIFT
        if number == 0:
            self.numbers.keep(self.device)
        self.bits = self.numbers.learn(self.device, self.descriptor)
        self._device = self.shown_device(self.device)
        # Most files need no look at the rules, and most mounts have none.
        self.hides = rules.one_file_system or rules.exclusion is not None
        self._as_it_is = not self.bits and not self._number
        self.opens = 0
        self.on_unused: Callable[[], None] = lambda: None
        self._guard = threading.Lock()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptors, once."""
        if self.descriptor >= 0:
            super().close()
            self.descriptor = -1
            self.on_closed()

    def await_missing(self) -> bool:
        """Tell whether a directory is still missing that may be: here none is."""
        return False

    # Who has files open here

    def at(self, path: str) -> "Root":
        """Return the root that a path is in."""
        return self

    def locate(
        self, path: str, making: bool = False, virtual: int = errno.EISDIR
    ) -> "Tuple[Root, str]":
        """Return the root that a path is in, or is to be made in, and the path in it."""
        return self, path

    def common(self, old: str, new: str) -> "Tuple[Root, str, str]":
        """Return the root that both names are in, and the paths in it."""
        return self, old, new

    def opened(self) -> None:
        """Count an open file."""
        with self._guard:
            self.opens += 1

    def released(self) -> None:
        """Take one away."""
        with self._guard:
            self.opens -= 1
            unused = self.opens == 0
        if unused:
            self.on_unused()

    def shown_ids(self, device: int, number: int) -> List[FileId]:
        """Return what identifies a file of the filesystem `device` as `stat` shows it, if it is in here."""
        return [(self.shown_device(device), number ^ self.numbers.bits.get(device, 0))]

    # Looking

    def stat(self, path: str) -> os.stat_result:
        """Return a file's attributes as the mount shows them."""
        status = super().stat(path)
        if self.hides and not isinstance(path, Held):
            self._check_status(path, status)
        if status.st_dev == self.device:
            if self._as_it_is:
                return status
            return numbered(status, status.st_ino ^ self.bits, self._device)
        if isinstance(path, Held):
            return self.shown(status, path.descriptor)
        descriptor = super().open(path, os.O_PATH)
        try:
            return self.shown(status, descriptor)
        finally:
            os.close(descriptor)

    def shown(self, status: os.stat_result, descriptor: int) -> os.stat_result:
        """Return attributes as the mount shows them; `descriptor` is of any file on the same filesystem."""
        device = status.st_dev
        if device == self.device:
            if self._as_it_is:
                return status
            return numbered(status, status.st_ino ^ self.bits, self._device)
        bits = self.numbers.learn(device, descriptor)
        return numbered(status, status.st_ino ^ bits, self.shown_device(device))

    def shown_device(self, device: int) -> int:
        """Return the st_dev under which the files of a filesystem are shown."""
        return device | self._number

    def open(self, path: str, flags: int, mode: int = 0) -> int:
        """Open a file as open(2) does, never following a symlink; return its descriptor."""
        if self.hides and not isinstance(path, Held):
            self._check(path, stat.S_IFREG if flags & os.O_CREAT else 0)
            if flags & TMPFILE_BIT:
                self.check(path, change=True)
        if self.rules.read_only and flags & CHANGES:
            raise error(errno.EROFS, path)
        if isinstance(path, Meant):
            return self._open_meant(path, flags, mode)
        return super().open(path, flags, mode)

    def _open_meant(self, path: Meant, flags: int, mode: int) -> int:
        """Open or create what is meant. Which file was opened is for who opens it to compare (`confirm`)."""
        if flags & TMPFILE_BIT:
            with self.reference(path) as reference:
                return os.open(reference, flags | os.O_CLOEXEC, mode)
        if flags & os.O_CREAT and path.directory is not None:
            parent = super().parent(path)
            with parent as (directory, name):
                self._compare_directory(path, name, directory)
                flags |= os.O_NOFOLLOW | os.O_CLOEXEC
                return os.open(name, flags, mode, dir_fd=directory)
        if not flags & os.O_TRUNC or path.file is None:
            return super().open(path, flags, mode)
        descriptor = super().open(path, flags & ~os.O_TRUNC)
        try:
            self.confirm(path, descriptor)
            only_read = flags & os.O_ACCMODE == os.O_RDONLY
            os.truncate(f"/proc/self/fd/{descriptor}" if only_read else descriptor, 0)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def confirm(self, path: str, descriptor: int) -> None:
        """Raise ESTALE if what was opened by a path is another file than is meant by it."""
        if isinstance(path, Meant) and path.file is not None:
            self._compare(path, path.file, descriptor)

    def _compare(self, path: str, expected: FileId, descriptor: int) -> os.stat_result:
        status = os.fstat(descriptor)
        if not self._as_it_is or status.st_dev != self.device:
            status = self.shown(status, descriptor)
        if (status.st_dev, status.st_ino) != expected:
            raise error(errno.ESTALE, path)
        return status

    def opendir(self, path: str) -> "RootDirectory":
        """Return an open directory."""
        return RootDirectory(self, path)

    def access(self, path: str, mode: int) -> None:
        """Raise EACCES unless this process has these rights: access(2)."""
        with self.parent(path, change=bool(mode & os.W_OK)) as (directory, name):
            if not os.access(name, mode, dir_fd=directory, follow_symlinks=False):
                raise error(errno.EACCES, path)

    def statvfs(self, path: str) -> os.statvfs_result:
        """Return size and room of the filesystem that a file is on: statvfs(3)."""
        descriptor = self.open(path, os.O_PATH)
        try:
            return os.fstatvfs(descriptor)
        finally:
            os.close(descriptor)

    def sync(self) -> None:
        """Write the filesystem back: syncfs(2)."""
        descriptor = super().open("/", os.O_RDONLY | os.O_DIRECTORY)
        try:
            syscalls.syncfs(descriptor)
        finally:
            os.close(descriptor)

    def inside(self, target: str) -> Optional[str]:
        """Return the path on the mount of an absolute path below the root, None when it is elsewhere."""
        root = self.path.rstrip("/")
        if target != root and not target.startswith(root + "/"):
            return None
        return target[len(root) :] or "/"

    # Directories and names, by what they are wanted for

    def parent(self, path: str, change: bool = False) -> Parent:
        """Return the directory and the name of a file to look at, or whose attributes to `change`."""
        if change or self.hides:
            self.check(path, change)
        return self._confirmed(super().parent(path), path)

    def reference(self, path: str, change: bool = False) -> Reference:
        """Return a path in /proc of a file to look at, or whose attributes or size to `change`."""
        if change:
            self.check(path, change)
        reference = super().reference(path)
        try:
            self.confirm(path, reference.descriptor)
        except BaseException:
            reference.__exit__()
            raise
        return reference

    def old(self, path: str) -> Parent:
        """Return the directory and the name of a file that shall lose this name."""
        self.check(path, change=True)
        return self._confirmed(super().parent(path), path, taking=True)

    def replaced(self, path: str) -> Parent:
        """Return the directory and the name that a file shall get, from another that may have it."""
        self.check(path)
        return self._confirmed(super().parent(path), path, taking=True)

    def new(self, path: str, kind: int) -> Parent:
        """Return the directory and the name for a new file of a kind (S_IFMT)."""
        if self.hides:
            self._check(path, kind)
        self.check_writable(path)
        return self._confirmed(super().parent(path), path)

    def _confirmed(self, parent: Parent, path: str, taking: bool = False) -> Parent:
        """Return the parent; raise ESTALE if it is not the directory that is meant.

        Where a name is to be taken from a file, it also has to be the file that is meant.
        """
        try:
            directory = self._compare_directory(path, parent.name, parent.descriptor)
            if taking and isinstance(path, Meant) and path.file is not None:
                self._compare_entry(path, path.file, parent, directory)
        except BaseException:
            parent.__exit__()
            raise
        return parent

    def _compare_directory(self, path: str, name: str, descriptor: int) -> Optional[os.stat_result]:
        """Raise ESTALE if a directory is not the one that is meant; return its status if it was asked for."""
        # A directory that the mount covers is "." in itself.
        if isinstance(path, Meant) and path.directory is not None and name != ".":
            return self._compare(path, path.directory, descriptor)
        return None

    def _compare_entry(
        self, path: str, expected: FileId, parent: Parent, directory: Optional[os.stat_result]
    ) -> None:
        """Raise ESTALE if a name in a sticky directory is that of another file than is meant.

        Only there it matters whose it is: unlink(2), EPERM.
        """
        if directory is None:
            directory = os.fstat(parent.descriptor)
        if not directory.st_mode & stat.S_ISVTX:
            return
        status = os.stat(parent.name, dir_fd=parent.descriptor, follow_symlinks=False)
        if status.st_dev == self.device:
            status = self.shown(status, parent.descriptor)
            if (status.st_dev, status.st_ino) != expected:
                raise error(errno.ESTALE, path)

    def check(self, path: str, change: bool = False) -> None:
        """Raise ENOENT for what is hidden; for a `change`, EROFS where there can be none."""
        if self.hides and not isinstance(path, Held):
            self._check(path)
            if change and self._is_foreign(path):
                raise error(errno.EROFS, path)
        if change:
            self.check_writable(path)

    def check_writable(self, path: str = "/") -> None:
        """Raise EROFS when the root is read-only."""
        if self.rules.read_only:
            raise error(errno.EROFS, path)

    def check_rename(self, old: str, new: str, flags: int) -> None:
        """Raise what keeps a file from being renamed: its kind must not be hidden by its new name."""
        self.check(old, change=True)
        if self.hides:
            self._check(new, _kind(super().stat(old)))
            if flags & syscalls.RENAME_EXCHANGE:
                self._check(old, _kind(super().stat(new)))

    # What is hidden, and what is foreign

    def _check(self, path: str, making: int = 0) -> None:
        """Raise ENOENT for what is hidden, or would be as a new file of the kind `making`."""
        exclusion = self.rules.exclusion
        verdict = VISIBLE if exclusion is None else exclusion.verdict(path[1:])
        if verdict == HIDDEN or verdict & _bit(making):
            raise error(errno.ENOENT, path)
        if not self._is_reached(path):
            raise error(errno.EROFS if making else errno.ENOENT, path)
        if verdict == VISIBLE and not self.rules.one_file_system:
            return
        try:
            status = super().stat(path)
        except OSError:
            return  # the call itself meets this too, and can say what it means for it
        if verdict & _bit(status.st_mode) or self._is_foreign_file(status):
            raise error(errno.ENOENT, path)

    def _check_status(self, path: str, status: os.stat_result) -> None:
        """Raise ENOENT for what is hidden, when its attributes are known."""
        exclusion = self.rules.exclusion
        if exclusion is not None and exclusion.verdict(path[1:]) & _bit(status.st_mode):
            raise error(errno.ENOENT, path)
        if self._is_foreign_file(status) or not self._is_reached(path):
            raise error(errno.ENOENT, path)

    def _is_foreign_file(self, status: os.stat_result) -> bool:
        """Tell whether something is mounted on a file, which then is not shown: it cannot be empty."""
        foreign = self.rules.one_file_system and status.st_dev != self.device
        return foreign and not stat.S_ISDIR(status.st_mode)

    def _is_foreign(self, path: str) -> bool:
        """Tell whether a path is another filesystem's top, shown as an empty directory."""
        return self.rules.one_file_system and super().stat(path).st_dev != self.device

    def _is_reached(self, path: str) -> bool:
        """Tell whether a path's directory is on the root's own filesystem, or missing."""
        if not self.rules.one_file_system or path.rfind("/") == 0:
            return True
        try:
            with super().parent(path) as (directory, _):
                return os.fstat(directory).st_dev == self.device
        except OSError:
            return True  # there is nothing to hide

    def is_shown(self, path: str, directory: int, entry: Dirent) -> bool:
        """Tell whether an entry of an open directory, whose path it has in front, is shown in listings."""
        exclusion = self.rules.exclusion
        verdict = VISIBLE if exclusion is None else exclusion.verdict(f"{path}/{entry.name}"[1:])
        if verdict in (VISIBLE, HIDDEN) and not self.rules.one_file_system:
            return verdict == VISIBLE
        kind = entry.type
        if kind == 0 or (self.rules.one_file_system and kind != stat.S_IFDIR):
            try:
                status = os.stat(entry.name, dir_fd=directory, follow_symlinks=False)
            except OSError:
                return False  # it has just gone
            if self._is_foreign_file(status):
                return False
            kind = status.st_mode
        return not verdict & _bit(kind)


class RootDirectory:
    """An open directory of a root. One thread at a time may read it."""

    def __init__(self, root: Root, path: str) -> None:
        self.root = root
        self.path = path.rstrip("/")
        self.descriptor = root.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._device = os.fstat(self.descriptor).st_dev
            self._bits = root.numbers.learn(self._device, self.descriptor)
        except BaseException:
            os.close(self.descriptor)
            raise
        self._shown_device = root.shown_device(self._device)
        self._as_it_is = not self._bits and self._shown_device == self._device
        self._stream = DirectoryStream(self.descriptor, self._bits)

    def entries(self, offset: int) -> Iterator[Dirent]:
        """Yield the entries from `offset` on, as DirectoryStream does."""
        entries = self._stream.entries(offset)
        return filter(self._is_shown, entries) if self.root.hides else entries

    def batches(self, offset: int) -> Iterator[List[Dirent]]:
        """Yield the same entries, many at a time; there may be none in between."""
        for batch in self._stream.batches(offset):
            yield list(filter(self._is_shown, batch)) if self.root.hides else batch

    def stat(self, name: str) -> os.stat_result:
        """Return an entry's attributes: fstatat(2)."""
        covered = self.root.covered
        if covered is not None and covered.is_entry(self.descriptor, name):
            return self.root.shown(os.fstat(covered.descriptor), covered.descriptor)
        status = os.stat(name, dir_fd=self.descriptor, follow_symlinks=False)
        if status.st_dev == self._device:
            if self._as_it_is:
                return status
            return numbered(status, status.st_ino ^ self._bits, self._shown_device)
        return self.root.stat(f"{self.path}/{name}")

    def fstat(self) -> os.stat_result:
        """Return the directory's own attributes: fstat(2)."""
        return self.root.shown(os.fstat(self.descriptor), self.descriptor)

    def writable(self) -> int:
        """Return the descriptor, to change attributes; EROFS when the root is read-only."""
        self.root.check_writable(self.path)
        return self.descriptor

    def hold(self, path: str) -> Held:
        """Return a path that keeps leading to this directory; as text it is `path`."""
        return Held.of(path, self.descriptor)

    def sync(self, datasync: bool) -> None:
        """Bring the directory to the disk: fsync(2), or fdatasync(2)."""
        if datasync:
            os.fdatasync(self.descriptor)
        else:
            os.fsync(self.descriptor)

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.descriptor)

    def _is_shown(self, entry: Dirent) -> bool:
        if entry.name in (".", ".."):
            return True
        if self.root.rules.one_file_system and self._device != self.root.device:
            return False
        return self.root.is_shown(self.path, self.descriptor, entry)


def _kind(status: os.stat_result) -> int:
    return stat.S_IFMT(status.st_mode)


def _bit(mode: int) -> int:
    """Return the bit of a verdict that is about a file of this type; none without a type."""
    kind = stat.S_IFMT(mode)
    if not kind:
        return VISIBLE
    return DIRECTORY_HIDDEN if kind == stat.S_IFDIR else FILE_HIDDEN
