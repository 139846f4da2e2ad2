"""The decrypted view: an encrypted tree shown plain, to be read and written.

    content_file          reading and writing encrypted content
    stored_names          what names are called on the disk
    stored_paths          plain paths to descriptors
    stored_directories    directories with an IV in them
    long_names            the companions of names that are hashed on the disk

The steps are in such an order that whoever dies in between loses nothing that was there before.
"""

import errno
import functools
import logging
import os
import stat
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, Optional, Sequence, Union

from fusepy_legacy.beneath import Held
from fusepy_legacy.crypt.config import Config
from fusepy_legacy.crypt.content import ContentCipher
from fusepy_legacy.crypt.errors import CryptError, OutOfRange, UnencryptableName
from fusepy_legacy.crypt.internal import CONFIG_NAME
from fusepy_legacy.crypt.metadata import decrypt_attribute, decrypt_target, encrypt_target
from fusepy_legacy.crypt.names import ATTRIBUTE_PREFIX, PLAIN_ATTRIBUTES, NameCipher
from fusepy_legacy.dirents import Dirent
from fusepy_legacy.errors import EXIT_MOUNTPOINT, EXIT_USAGE, MountError
from fusepy_legacy.kernel.attributes import with_size
from fusepy_legacy.kernel.context import current
from fusepy_legacy.kernel.options import MountArguments
from fusepy_legacy.passthrough import Passthrough, PassthroughDirectory, PassthroughFile
from fusepy_legacy.root import Root, RootDirectory
from fusepy_legacy.views import stored_directories
from fusepy_legacy.views.content_file import (
    FALLOC_KEEP_SIZE,
    FALLOC_PUNCH_HOLE,
    FALLOC_ZERO_RANGE,
    ContentFile,
    Inodes,
)
from fusepy_legacy.views.keyed import KeyedView
from fusepy_legacy.views.long_names import LongNames
from fusepy_legacy.views.stored_directories import EncryptedNames, PlainNames
from fusepy_legacy.views.stored_names import StoredNames
from fusepy_legacy.views.stored_paths import PlainPaths, StoredPaths

logger = logging.getLogger(__name__)

_ATTRIBUTES = 256  # names whose encrypted form is remembered


class DecryptedFile(PassthroughFile):
    """One open file: the descriptor of the encrypted one, and its content behind it."""

    filesystem: "DecryptedView"

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
            self.content = self.filesystem.content_of(self.fd)
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
        return self.filesystem.with_plain_size(self.root.shown(os.fstat(self.fd), self.fd))

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
        with self.filesystem.changing(made=[path]):
            super().linkat(path)


class DecryptedDirectory(PassthroughDirectory):
    """One open directory, with what has a plain name in it."""

    filesystem: "DecryptedView"
    stream: RootDirectory

    def __init__(self, path: str) -> None:
        """Open a directory: open(2) with O_DIRECTORY."""
        super().__init__(path)
        self._path = path.rstrip("/")
        try:
            self._names = self.filesystem.names_in(path, self.stream.descriptor)
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
        stored = self._stored.get(name) or self._names.stored(name)
        return self.filesystem.status_at(self.stream.descriptor, stored, f"{self._path}/{name}")

    def fsyncdir(self, datasync: bool) -> None:
        """Bring the directory to the disk, and what its names need."""
        self._names.sync()
        super().fsyncdir(datasync)


class DecryptedView(KeyedView):
    """The encrypted tree `-o root=DIR`, shown plain."""

    file_class: type = DecryptedFile
    dir_class: type = DecryptedDirectory
    direct = ("fgetattr", "fstatat", "read", "write")
    wanted = Passthrough.wanted | {"readdirplus_always"}
    config_hint = "DIR has to be an encrypted tree; make one with: fusepy-vault init DIR"
    beneath: Root

    _content: ContentCipher
    _names: NameCipher
    _long_names: Optional[LongNames] = None

    def __init__(self, *args: Any, **kw: Any) -> None:
        super().__init__(*args, **kw)
        self._inodes = Inodes()

    def default_config(self) -> str:
        """Return the path of `gocryptfs.conf` in the tree."""
        return os.path.join(str(self.root), CONFIG_NAME)

    def prepare(self, arguments: MountArguments) -> MountArguments:
        """Open the tree and get the keys, after refusing what is for plain directories only."""
        for option in "roots", "relative_symlinks":
            if getattr(self, option):
                raise MountError(f"-o {option} does not go with -o forward", EXIT_USAGE)
        return super().prepare(arguments)

    def use_keys(self, config: Config, master_key: bytes) -> None:
        """Make the ciphers, and look at the tree through them from now on.

        Raises CryptError, and MountError for a mount point in the tree: no plain name leads there.
        """
        encrypted, root = self.beneath, str(self.root)
        if encrypted.covered is not None:
            raise MountError("the mount point is in the encrypted directory", EXIT_MOUNTPOINT)
        self._content = config.content_cipher(master_key)
        self._names = config.name_cipher(master_key)
        # The kernel asks for security.capability of each file that is written.
        self._attribute = functools.lru_cache(maxsize=_ATTRIBUTES)(self._stored_attribute)
        if config.plaintext_names:
            self.beneath = PlainPaths(root, rules=encrypted.rules)
        else:
            names = StoredNames(self._names)
            paths = StoredPaths(root, names, config.directory_ivs, encrypted.rules)
            self.beneath, self._long_names = paths, LongNames(paths)
        encrypted.close()

    # What the file and directory objects need

    def content_of(self, descriptor: int) -> ContentFile:
        """Return the content behind the descriptor of an open file."""
        return ContentFile(self._content, descriptor, self._inodes)

    def names_in(self, path: str, descriptor: int) -> PlainNames:
        """Return how the names in an open directory are translated; one that was removed has none."""
        if isinstance(path, Held):
            return PlainNames()
        top = path == "/"
        foreign = os.fstat(descriptor).st_dev != self.beneath.device
        if not isinstance(self.beneath, StoredPaths) or (foreign and self.one_file_system):
            return PlainNames(top)
        iv = self.beneath.iv(path, descriptor)
        return EncryptedNames(self.beneath.names, iv, descriptor, top)

    @contextmanager
    def changing(self, made: Sequence[str] = (), removed: Sequence[str] = ()) -> Iterator[None]:
        """Around making and removing the names of plain paths."""
        if self._long_names is None:
            yield
            return
        with self._long_names.changing(made, removed):
            yield

    def with_plain_size(self, status: os.stat_result) -> os.stat_result:
        """Return a regular file's attributes with the size of the plaintext."""
        return with_size(status, self._content.plaintext_size(status.st_size), status.st_blocks)

    def status_at(self, directory: int, stored: str, path: str) -> os.stat_result:
        """Return the attributes of what is called `stored` in an open directory, and has this path.

        With "" it is what is open itself.
        """
        status = (
            os.stat(stored, dir_fd=directory, follow_symlinks=False)
            if stored
            else os.fstat(directory)
        )
        device = status.st_dev
        if device == self.beneath.device or device == os.fstat(directory).st_dev:
            status = self.beneath.shown(status, directory)
        else:
            descriptor = self.beneath.open(path, os.O_PATH)
            try:
                status = self.beneath.shown(status, descriptor)
            finally:
                os.close(descriptor)
        if stat.S_ISREG(status.st_mode):
            return self.with_plain_size(status)
        if stat.S_ISLNK(status.st_mode):
            try:
                size = len(os.fsencode(self._target(directory, stored)))
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                size = 0  # without a status, nobody could remove it
            return with_size(status, size, status.st_blocks)
        return status

    # Attributes

    def getattr(self, path: str) -> os.stat_result:
        """Return a file's attributes, with the size of the plaintext: lstat(2)."""
        with self.beneath.parent(path) as (directory, stored):
            return self.status_at(directory, stored, path)

    def truncate(self, path: str, length: int) -> None:
        """Cut or extend a file that need not be open: truncate(2)."""
        self.beneath.check(path, change=True)
        descriptor = self._open_for_both(path, os.O_NONBLOCK)
        try:
            self.beneath.confirm(path, descriptor)
            self.content_of(descriptor).truncate(length)
        except CryptError as error:
            raise failure(descriptor, error) from None
        finally:
            os.close(descriptor)

    # Names

    def open_beneath(self, root: Root, path: str, flags: int, *mode: int) -> int:
        """Open or create a file; what is created belongs to the caller."""
        if not mode and flags & os.O_ACCMODE == os.O_RDWR:
            return self._open_for_both(path, flags)
        if not mode or flags & os.O_TMPFILE == os.O_TMPFILE:
            return super().open_beneath(root, path, flags, *mode)
        with self.changing(made=[path]):
            return super().open_beneath(root, path, flags, *mode)

    def _open_for_both(self, path: str, flags: int) -> int:
        """Open for reading and writing a file that one may perhaps only write.

        Whoever is not root is not allowed to then, as its owner, without giving that right for a moment.
        """
        flags = flags & ~os.O_ACCMODE | os.O_RDWR
        try:
            return self.beneath.open(path, flags)
        except PermissionError:
            mode = stat.S_IMODE(self.beneath.stat(path).st_mode)
            if mode & stat.S_IRUSR or not mode & stat.S_IWUSR:
                raise
        self.chmod(path, mode | stat.S_IRUSR)
        try:
            return self.beneath.open(path, flags)
        finally:
            self.chmod(path, mode)

    def mknod(self, path: str, mode: int, device: int) -> None:
        """Create a file, fifo, socket or device node that belongs to the caller: mknod(2)."""
        with self.changing(made=[path]):
            super().mknod(path, mode, device)

    def mkdir(self, path: str, mode: int) -> None:
        """Create a directory that belongs to the caller: mkdir(2)."""
        with self.changing(made=[path]):
            if not self.config.directory_ivs:
                super().mkdir(path, mode)
                return
            with self.beneath.new(path, stat.S_IFDIR) as (directory, stored):
                stored_directories.make(directory, stored, mode, self.caller())

    def symlink(self, target: str, path: str) -> None:
        """Create a symlink that belongs to the caller: symlink(2); ENAMETOOLONG over 3039 bytes."""
        if not self.config.plaintext_names:
            try:
                text = encrypt_target(self._content, self._names, os.fsencode(target))
            except OutOfRange:
                raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG)) from None
            target = os.fsdecode(text)
        with self.changing(made=[path]):
            super().symlink(target, path)

    def readlink(self, path: str) -> str:
        """Return a symlink's target: readlink(2)."""
        with self.beneath.parent(path) as (directory, stored):
            return self._target(directory, stored)

    def _target(self, directory: int, stored: str) -> str:
        text = os.readlink(stored, dir_fd=directory)
        if self.config.plaintext_names:
            return text
        try:
            return os.fsdecode(decrypt_target(self._content, self._names, os.fsencode(text)))
        except CryptError as error:
            logger.error("symlink %s: %s", stored, error)
            raise OSError(errno.EIO, os.strerror(errno.EIO)) from None

    def link(self, old: str, new: str) -> None:
        """Give a file a second name: link(2)."""
        with self.changing(made=[new]):
            super().link(old, new)

    def rename(self, old: str, new: str, flags: int = 0) -> None:
        """Rename, replacing what has the new name unless RENAME_ flags say otherwise: renameat2(2)."""
        with self.changing(made=[new], removed=[old]):
            try:
                super().rename(old, new, flags)
            except OSError as error:
                if flags or error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                if self.config.plaintext_names:
                    raise
                with self.beneath.old(old) as old_place, self.beneath.replaced(new) as new_place:
                    stored_directories.replace(*old_place, *new_place)

    def unlink(self, path: str) -> None:
        """Take a name away: unlink(2)."""
        with self.changing(removed=[path]):
            super().unlink(path)

    def rmdir(self, path: str) -> None:
        """Remove an empty directory: rmdir(2)."""
        if self.config.plaintext_names:
            super().rmdir(path)
            return
        with self.changing(removed=[path]), self.beneath.old(path) as (directory, stored):
            stored_directories.remove(directory, stored)

    # Extended attributes

    def getxattr(self, path: str, name: str, size: int) -> Union[int, str]:
        """Return an attribute's value, or its length when `size` is 0: lgetxattr(2)."""
        stored = self._attribute(name)
        with self.beneath.reference(path) as reference:
            value = os.getxattr(reference, stored)
        if stored != name:
            try:
                value = decrypt_attribute(self._content, self._names, value)
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
        stored = self._attribute(name)
        data = value.encode("utf-8", "surrogateescape")
        if stored != name:
            data = self._content.encrypt_value(data)
        with self.beneath.reference(path, change=True) as reference:
            os.setxattr(reference, stored, data, flags)

    def listxattr(self, path: str, size: int) -> Union[int, List[str]]:
        """Return the attributes' names, or their length with NULs when `size` is 0: llistxattr(2)."""
        with self.beneath.reference(path) as reference:
            listed = map(os.fsencode, os.listxattr(reference))
        names = [name for name in map(self._plain_attribute, listed) if name is not None]
        length = sum(len(name) + 1 for name in names)
        if size == 0:
            return length
        if length > size:
            raise OSError(errno.ERANGE, os.strerror(errno.ERANGE))
        return [os.fsdecode(name) for name in names]

    def removexattr(self, path: str, name: str) -> None:
        """Remove an attribute: lremovexattr(2)."""
        with self.beneath.reference(path, change=True) as reference:
            os.removexattr(reference, self._attribute(name))

    def _stored_attribute(self, name: str) -> str:
        """Return what an attribute is called on the disk; ERANGE for more than 175 bytes: xattr(7)."""
        try:
            return os.fsdecode(self._names.encrypt_attribute_name(os.fsencode(name)))
        except UnencryptableName:
            raise OSError(errno.ERANGE, os.strerror(errno.ERANGE)) from None

    def _plain_attribute(self, stored: bytes) -> Optional[bytes]:
        if stored not in PLAIN_ATTRIBUTES and not stored.startswith(ATTRIBUTE_PREFIX):
            return None  # not of the plain file: the tree's own, or of a security module
        try:
            return self._names.decrypt_attribute_name(stored)
        except CryptError as error:
            logger.warning("attribute %a is not shown: %s", stored, error)
            return None


def failure(descriptor: int, error: CryptError) -> OSError:
    """Return what the caller gets; the log says which file is damaged, not what it is called."""
    if isinstance(error, OutOfRange):
        return OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    logger.error("inode %d: %s", os.fstat(descriptor).st_ino, error)
    return OSError(errno.EIO, os.strerror(errno.EIO))
