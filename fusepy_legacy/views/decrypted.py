"""The decrypted view: encrypted trees shown plain, to be read and written.

    content_file          reading and writing encrypted content
    decrypted_root        the root of a tree, and what is known of all that is in it
    stored_names          what names are called on the disk
    stored_paths          plain paths to descriptors
    stored_directories    directories with an IV in them
    long_names            the companions of names that are hashed on the disk

The steps are in such an order that whoever dies in between loses nothing that was there before.
"""

import errno
import logging
import os
import stat
import threading
from contextlib import suppress
from typing import Any, Dict, Iterator, List, Tuple, Union

from fusepy_legacy.beneath import Held
from fusepy_legacy.crypt.errors import CryptError, OutOfRange
from fusepy_legacy.crypt.internal import CONFIG_NAME
from fusepy_legacy.crypt.metadata import decrypt_attribute, encrypt_target
from fusepy_legacy.dirents import Dirent
from fusepy_legacy.errors import EXIT_CONFIG, EXIT_MOUNTPOINT, EXIT_USAGE, MountError
from fusepy_legacy.kernel.context import current
from fusepy_legacy.kernel.options import MountArguments
from fusepy_legacy.passthrough import Passthrough, PassthroughDirectory, PassthroughFile
from fusepy_legacy.root import Root, RootDirectory, Rules
from fusepy_legacy.views import stored_directories
from fusepy_legacy.views.content_file import (
    FALLOC_KEEP_SIZE,
    FALLOC_PUNCH_HOLE,
    FALLOC_ZERO_RANGE,
    ContentFile,
    Inodes,
)
from fusepy_legacy.views.decrypted_root import Ciphers, DecryptedRoot, EncryptedNamesRoot
from fusepy_legacy.views.keyed import KeyedView
from fusepy_legacy.views.long_names import LongNames
from fusepy_legacy.views.stored_directories import PlainNames

logger = logging.getLogger(__name__)


class DecryptedFile(PassthroughFile):
    """One open file: the descriptor of the encrypted one, and its content behind it."""

    filesystem: "DecryptedView"
    root: DecryptedRoot

    def __init__(self, path: str, flags: int, *mode: int) -> None:
        """Open a file, or create it with `mode`: open(2).

        Whoever writes a part of a block reads the block, so a file that is written is opened for both.
        O_TRUNC and O_APPEND are about the plaintext, so they are carried out here.
        """
        appends = bool(flags & os.O_APPEND)
        truncates = bool(flags & os.O_TRUNC)
        if flags & os.O_ACCMODE != os.O_RDONLY or truncates:
            flags = flags & ~os.O_ACCMODE | os.O_RDWR
        super().__init__(path, flags & ~(os.O_APPEND | os.O_TRUNC), *mode)
        self._appends = appends
        try:
            self.content = self.filesystem.content_of(self.root, self.fd)
            # A new file is empty. Cutting it all the same makes ext4 write it out when it is closed, as
            # something that replaces what was there (fs/ext4/inode.c, EXT4_STATE_DA_ALLOC_CLOSE).
            if truncates and not mode:
                self.root.confirm(path, self.fd)
                self.content.truncate(0)
        except BaseException:
            self.release(flags)
            raise

    def read(self, length: int, offset: int) -> bytes:
        """Return `length` bytes from `offset`, fewer at the end of the file; EIO where it is damaged."""
        try:
            return self.content.read(length, offset)
        except CryptError as error:
            raise failure(self.fd, error) from None

    def write(self, data: bytes, offset: int) -> int:
        """Write at `offset`, or at the end after O_APPEND; return how many bytes."""
        try:
            if self._appends and not current.at_offset:
                return self.content.append(data)
            return self.content.write(data, offset)
        except CryptError as error:
            raise failure(self.fd, error) from None

    def ftruncate(self, length: int) -> None:
        """Cut or extend the file."""
        try:
            self.content.truncate(length)
        except CryptError as error:
            raise failure(self.fd, error) from None

    def fgetattr(self) -> os.stat_result:
        """Return the attributes, with the size of the plaintext."""
        return self.root.with_plain_size(self.root.shown(os.fstat(self.fd), self.fd))

    def fallocate(self, mode: int, offset: int, length: int) -> None:
        """Reserve, punch or zero a range: fallocate(2); EOPNOTSUPP for what moves data."""
        kind = mode & ~FALLOC_KEEP_SIZE
        try:
            if not kind:
                self.content.allocate(offset, length, keep_size=bool(mode))
            elif kind in (FALLOC_PUNCH_HOLE, FALLOC_ZERO_RANGE):
                self.content.zero(offset, length, mode)
            else:
                raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        except CryptError as error:
            raise failure(self.fd, error) from None

    def lseek(self, offset: int, whence: int) -> int:
        """Return where the next data or hole is: lseek(2)."""
        try:
            return self.content.seek(offset, whence)
        except CryptError as error:
            raise failure(self.fd, error) from None

    def copy_file_range(self, *arguments: Any) -> int:
        """Refuse: encrypted blocks belong to their file. The kernel reads and writes instead."""
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    def linkat(self, path: str) -> None:
        """Give an open file a (new) name: linkat(2)."""
        root, inner = self.filesystem.tree(path, making=True)
        with root.changing(made=[inner]):
            super().linkat(path)


class DecryptedDirectory(PassthroughDirectory):
    """One open directory, with what has a plain name in it."""

    filesystem: "DecryptedView"

    def __init__(self, path: str) -> None:
        """Open a directory: open(2) with O_DIRECTORY."""
        super().__init__(path)
        self._names = PlainNames()  # labels are as they are
        if isinstance(self.stream, RootDirectory):
            inner = path if isinstance(path, Held) else self.stream.path or "/"
            try:
                self._names = tree_of(self.stream).names_in(inner, self.stream.descriptor)
            except BaseException:
                self.stream.close()
                raise
        self._stored: Dict[str, str] = {}  # of what was yielded since readdir was called

    def readdir(self, offset: int) -> Iterator[Dirent]:
        """Yield each entry from `offset` on under its plain name: getdents(2)."""
        self._stored = {}
        for batch in self.stream.batches(offset):
            self._names.learn([entry.name for entry in batch])
            for stored, ino, kind, following in batch:
                name = self._names.plain(stored)
                if name is not None:
                    self._stored[name] = stored
                    yield Dirent(name, ino, kind, following)

    def fstatat(self, name: str) -> os.stat_result:
        """Return an entry's attributes, for listings with attributes: fstatat(2)."""
        stream = self.stream
        if not isinstance(stream, RootDirectory):
            return super().fstatat(name)
        stored = self._stored.get(name) or self._names.stored(name)
        return tree_of(stream).status_at(stream.descriptor, stored, f"{stream.path}/{name}")

    def fsyncdir(self, datasync: bool) -> None:
        """Bring the directory to the disk, and what its names need."""
        self._names.sync()
        super().fsyncdir(datasync)


class DecryptedView(KeyedView):
    """The encrypted tree `-o root=DIR`, shown plain, or several: one password opens them all."""

    file_class: type = DecryptedFile
    dir_class: type = DecryptedDirectory
    direct = ("fgetattr", "fstatat", "read", "write")
    wanted = Passthrough.wanted | {"readdirplus_always"}
    config_hint = "DIR has to be an encrypted tree; make one with: fusepy-vault init DIR"

    def __init__(self, *args: Any, **kw: Any) -> None:
        super().__init__(*args, **kw)
        self._inodes = Inodes()
        self._long_names = LongNames()
        self._ciphers: Dict[bytes, Ciphers] = {}  # by the config's content
        self._lending = threading.Lock()  # of the right to read

    def prepare(self, arguments: MountArguments) -> MountArguments:
        """Open the trees and get their keys, after refusing what is for plain directories only."""
        if self.relative_symlinks:
            raise MountError("-o relative_symlinks does not go with -o forward", EXIT_USAGE)
        return super().prepare(arguments)

    def open_root(self, path: str, mountpoint: Any, rules: Rules, *numbers: Any) -> DecryptedRoot:
        """Open a tree with its config, which is in it if `config_file` does not say where.

        Raises OSError as open(2), and ENOKEY for a config that has come when the mount was there already;
        MountError for what is wrong with the config or the password, and for a mount point in the tree: no
        plain name leads there.
        """
        os.listdir(path)  # before its config is missed: is it there, and may it be read?
        if rules.exclusion is not None:
            raise MountError(f"{path}: exclude does not go with -o forward", EXIT_CONFIG)
        ciphers = self._ciphers_of(path)
        more = mountpoint, rules, *numbers
        root = (
            DecryptedRoot(path, ciphers, *more)
            if ciphers.config.plaintext_names
            else EncryptedNamesRoot(path, ciphers, self._long_names, *more)
        )
        if root.covered is not None:
            root.close()
            raise MountError("the mount point is in the encrypted directory", EXIT_MOUNTPOINT)
        return root

    def _ciphers_of(self, tree: str) -> Ciphers:
        config = self.read_config(os.path.join(tree, CONFIG_NAME))
        content = config.to_bytes()
        ciphers = self._ciphers.get(content)
        if ciphers is None:
            try:
                ciphers = Ciphers(config, self.master_key(config))
            except MountError as error:
                if not self.roots:
                    raise
                raise MountError(f"{tree}: {error}", error.exit_code) from error
            self._ciphers[content] = ciphers
        return ciphers

    def tree(
        self, path: str, making: bool = False, virtual: int = errno.EISDIR
    ) -> Tuple[DecryptedRoot, str]:
        """Return the tree that a path is in, and the path in it: see Roots.locate."""
        root, inner = self.beneath.locate(path, making, virtual)
        assert isinstance(root, DecryptedRoot)
        return root, inner

    # What the file and directory objects need

    def content_of(self, root: DecryptedRoot, descriptor: int) -> ContentFile:
        """Return the content behind the descriptor of an open file."""
        return ContentFile(root.ciphers.content, descriptor, self._inodes)

    def truncate(self, path: str, length: int) -> None:
        """Cut or extend a file that need not be open: truncate(2)."""
        root, inner = self.tree(path)
        root.check(inner, change=True)
        descriptor = self._open_for_both(root, inner, os.O_NONBLOCK)
        try:
            root.confirm(inner, descriptor)
            self.content_of(root, descriptor).truncate(length)
        except CryptError as error:
            raise failure(descriptor, error) from None
        finally:
            os.close(descriptor)

    # Names

    def open_beneath(self, root: Root, path: str, flags: int, *mode: int) -> int:
        """Open or create a file; what is created belongs to the caller."""
        assert isinstance(root, DecryptedRoot)
        if not mode and flags & os.O_ACCMODE == os.O_RDWR:
            return self._open_for_both(root, path, flags)
        if not mode or flags & os.O_TMPFILE == os.O_TMPFILE:
            return super().open_beneath(root, path, flags, *mode)
        with root.changing(made=[path]):
            return super().open_beneath(root, path, flags, *mode)

    def _open_for_both(self, root: Root, path: str, flags: int) -> int:
        """Open for reading and writing a file that one may perhaps only write.

        Whoever is not root is not allowed to then, as its owner, without giving that right for a moment.
        """
        flags = flags & ~os.O_ACCMODE | os.O_RDWR
        with suppress(PermissionError):
            return root.open(path, flags)
        # One after the other, or the second would see the mode that the first has set.
        with self._lending, root.reference(path, change=True) as reference:
            mode = stat.S_IMODE(os.stat(reference).st_mode)
            lent = mode & (stat.S_IRUSR | stat.S_IWUSR) == stat.S_IWUSR
            if lent:
                os.chmod(reference, mode | stat.S_IRUSR)
            try:
                return os.open(reference, flags & ~os.O_NOFOLLOW | os.O_CLOEXEC)
            finally:
                if lent:
                    os.chmod(reference, mode)

    def mknod(self, path: str, mode: int, device: int) -> None:
        """Create a file, fifo, socket or device node that belongs to the caller: mknod(2)."""
        root, inner = self.tree(path, making=True)
        with root.changing(made=[inner]):
            super().mknod(path, mode, device)

    def mkdir(self, path: str, mode: int) -> None:
        """Create a directory that belongs to the caller: mkdir(2)."""
        root, inner = self.tree(path, making=True)
        with root.changing(made=[inner]):
            if not root.ciphers.config.directory_ivs:
                super().mkdir(path, mode)
                return
            with root.new(inner, stat.S_IFDIR) as (directory, stored):
                stored_directories.make(directory, stored, mode, self.caller())

    def symlink(self, target: str, path: str) -> None:
        """Create a symlink that belongs to the caller: symlink(2); ENAMETOOLONG over 3039 bytes."""
        root, inner = self.tree(path, making=True)
        ciphers = root.ciphers
        if not ciphers.config.plaintext_names:
            try:
                text = encrypt_target(ciphers.content, ciphers.names, os.fsencode(target))
            except OutOfRange:
                raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG)) from None
            target = os.fsdecode(text)
        with root.changing(made=[inner]):
            super().symlink(target, path)

    def readlink(self, path: str) -> str:
        """Return a symlink's target: readlink(2)."""
        root, inner = self.tree(path)
        with root.parent(inner) as (directory, stored):
            return root.target(directory, stored)

    def link(self, old: str, new: str) -> None:
        """Give a file a second name: link(2)."""
        root, _, inner = self._common(old, new)
        with root.changing(made=[inner]):
            super().link(old, new)

    def rename(self, old: str, new: str, flags: int = 0) -> None:
        """Rename, replacing what has the new name unless RENAME_ flags say otherwise: renameat2(2)."""
        root, inner_old, inner_new = self._common(old, new)
        with root.changing(made=[inner_new], removed=[inner_old]):
            try:
                super().rename(old, new, flags)
            except OSError as error:
                if flags or error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                if root.ciphers.config.plaintext_names:
                    raise
                with root.old(inner_old) as old_place, root.replaced(inner_new) as new_place:
                    stored_directories.replace(*old_place, *new_place)

    def _common(self, old: str, new: str) -> Tuple[DecryptedRoot, str, str]:
        root, inner_old, inner_new = self.beneath.common(old, new)
        assert isinstance(root, DecryptedRoot)
        return root, inner_old, inner_new

    def unlink(self, path: str) -> None:
        """Take a name away: unlink(2)."""
        root, inner = self.tree(path, making=True)
        with root.changing(removed=[inner]):
            super().unlink(path)

    def rmdir(self, path: str) -> None:
        """Remove an empty directory: rmdir(2)."""
        root, inner = self.tree(path, making=True)
        if root.ciphers.config.plaintext_names or inner == "/":
            super().rmdir(path)
            return
        with root.changing(removed=[inner]), root.old(inner) as (directory, stored):
            stored_directories.remove(directory, stored)

    # Extended attributes

    def getxattr(self, path: str, name: str, size: int) -> Union[int, str]:
        """Return an attribute's value, or its length when `size` is 0: lgetxattr(2)."""
        root, inner = self.tree(path, virtual=errno.ENODATA)
        ciphers = root.ciphers
        stored = ciphers.stored_attribute(name)
        with root.reference(inner) as reference:
            value = os.getxattr(reference, stored)
        if stored != name:
            try:
                value = decrypt_attribute(ciphers.content, ciphers.names, value)
            except CryptError as error:
                logger.error("attribute %s: %s", stored, error)
                raise OSError(errno.EIO, os.strerror(errno.EIO)) from None
        if size == 0:
            return len(value)
        if len(value) > size:
            raise OSError(errno.ERANGE, os.strerror(errno.ERANGE))
        return value.decode("utf-8", "surrogateescape")

    def setxattr(self, path: str, name: str, value: str, flags: int) -> None:
        """Set an attribute, with XATTR_CREATE or XATTR_REPLACE: lsetxattr(2)."""
        root, inner = self.tree(path, making=True)
        stored = root.ciphers.stored_attribute(name)
        data = value.encode("utf-8", "surrogateescape")
        if stored != name:
            data = root.ciphers.content.encrypt_value(data)
        with root.reference(inner, change=True) as reference:
            os.setxattr(reference, stored, data, flags)

    def listxattr(self, path: str, size: int) -> Union[int, List[str]]:
        """Return the attributes' names, or their length with NULs when `size` is 0: llistxattr(2)."""
        names = self._attributes_of(path)
        length = sum(len(name) + 1 for name in names)
        if size == 0:
            return length
        if length > size:
            raise OSError(errno.ERANGE, os.strerror(errno.ERANGE))
        return [os.fsdecode(name) for name in names]

    def removexattr(self, path: str, name: str) -> None:
        """Remove an attribute: lremovexattr(2)."""
        root, inner = self.tree(path, making=True)
        with root.reference(inner, change=True) as reference:
            os.removexattr(reference, root.ciphers.stored_attribute(name))

    def _attributes_of(self, path: str) -> List[bytes]:
        try:
            root, inner = self.tree(path, virtual=errno.ENODATA)
        except OSError as error:
            if error.errno != errno.ENODATA:
                raise
            return []  # a directory above the roots
        with root.reference(inner) as reference:
            listed = map(os.fsencode, os.listxattr(reference))
        return [name for name in map(root.ciphers.plain_attribute, listed) if name is not None]


def tree_of(stream: RootDirectory) -> DecryptedRoot:
    """Return the tree that an open directory is in."""
    assert isinstance(stream.root, DecryptedRoot)
    return stream.root


def failure(descriptor: int, error: CryptError) -> OSError:
    """Return what the caller gets; the log says which file is damaged, not what it is called."""
    if isinstance(error, OutOfRange):
        return OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    logger.error("inode %d: %s", os.fstat(descriptor).st_ino, error)
    return OSError(errno.EIO, os.strerror(errno.EIO))
