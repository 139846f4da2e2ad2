"""Plain directories shown encrypted, read-only, in the gocryptfs format: what a backup program copies.

Nothing is stored: names, contents and virtual files are made when they are asked for, and are the same at
every mount as long as the source is. Paths that arrive are the view's; `names` says what they mean.
"""

import errno
import logging
import os
import stat
import time
from array import array
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple, Union

from fusepy_legacy import secrecy, syscalls
from fusepy_legacy.crypt import reverse
from fusepy_legacy.crypt.config import AESSIV_FLAG, REVERSE_CONFIG_FILE, Config
from fusepy_legacy.crypt.content import ContentCipher
from fusepy_legacy.crypt.errors import CryptError, UnencryptableName, UnsupportedConfig
from fusepy_legacy.crypt.metadata import encrypt_target, encrypted_target_size
from fusepy_legacy.crypt.names import PLAIN_ATTRIBUTES, NameCipher
from fusepy_legacy.dirents import Dirent
from fusepy_legacy.errors import EXIT_MOUNTPOINT, EXIT_USAGE, MountError
from fusepy_legacy.kernel.context import current
from fusepy_legacy.kernel.daemon import use_no_terminal
from fusepy_legacy.kernel.operations import ELSEWHERE
from fusepy_legacy.kernel.options import MountArguments
from fusepy_legacy.kernel.readers import LARGE, READERS_MAX, Readers
from fusepy_legacy.root import Root
from fusepy_legacy.views.encrypting import EncryptedContent, server, version_of
from fusepy_legacy.views.identity import Identities, made_inode
from fusepy_legacy.views.keyed import KeyedView
from fusepy_legacy.views.names import HASHED, INVALID, Names
from fusepy_legacy.views.open_ids import OpenIds
from fusepy_legacy.views.open_sizes import OpenSizes
from fusepy_legacy.views.virtual import CONFIG_PATH, VirtualFile, VirtualFiles, resized

logger = logging.getLogger(__name__)

_CONFIG_NAME = os.fsdecode(REVERSE_CONFIG_FILE)
_SEEN = 4096  # files whose cached pages the kernel may keep
_SETTLED = 2.0  # seconds
_READERS = 4  # processes at most, unless more are asked for
_KIND = 0o170000  # S_IFMT of inode(7)

# What a page in the kernel's cache was made of: the file's ID, its size, mtime and ctime.
_Version = Tuple[bytes, int, int, int]


class EncryptedFile:
    """One open file: the plain file's descriptor, and the ID and nonce that its blocks are made with.

    It has the size that it had when it was opened: a log that grows meanwhile is copied as it was, and its
    last block, which was short then, is the one that belongs to that size. The kernel, which may have seen
    an older one, is told to ask.
    """

    filesystem: "EncryptedView"

    def __init__(self, path: str, flags: int) -> None:
        """Open a file for reading: EROFS for anything else."""
        if flags & os.O_ACCMODE != os.O_RDONLY:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        view = self.filesystem
        plain = view.plain(path)
        self.root = view.beneath.at(plain)
        self.fd = view.open_plain(plain)
        try:
            status = self.root.shown(os.fstat(self.fd), self.fd)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
            self.status = status
            key_path = view.identities.key_path(path, plain, status)
            ivs = reverse.file_ivs(key_path)
            size = view.open_sizes.opened(status)
            self.direct_io = not view.open_ids.opened(status, ivs.file_id)
            self.keep_cache = not self.direct_io and view.is_as_seen(status, ivs)
            self.content = EncryptedContent(path, ivs, size, version_of(status))
        except BaseException:
            os.close(self.fd)
            raise
        self.root.opened()
        if view.is_recent(status):
            view.forget_attributes(path)

    def read(self, length: int, offset: int) -> bytes:
        """Return `length` bytes of the encrypted file from `offset`, fewer at its end."""
        view, content = self.filesystem, self.content
        if length >= LARGE and view.readers is not None:
            if not content.changed:
                content.compare(self.fd)
            if view.readers.hand_over(current.unique, self.fd, content.job(length, offset)):
                elsewhere: bytes = ELSEWHERE
                return elsewhere
        return content.read(view.content, self.fd, length, offset)

    def fgetattr(self) -> os.stat_result:
        """Return the attributes, also of a file without a name."""
        status = self.root.shown(os.fstat(self.fd), self.fd)
        return self.filesystem.shown_status(status)

    def release(self, flags: int) -> None:
        """Close the descriptor; what was added to the file may then be seen."""
        view = self.filesystem
        view.open_sizes.released(self.status)
        if not self.direct_io:
            view.open_ids.released(self.status)
        try:
            if os.fstat(self.fd).st_size != self.content.size:
                view.forget_attributes(self.content.path)
        finally:
            os.close(self.fd)
            self.root.released()


class EncryptedDirectory:
    """One open directory, with its virtual files first and each companion behind its hashed name.

    The plain directory's positions may take all 64 bits, so positions here count: first the virtual
    files, then two for each plain entry, of which the second is its companion's.
    """

    filesystem: "EncryptedView"

    def __init__(self, path: str) -> None:
        """Open the plain directory."""
        view = self.filesystem
        plain = view.plain(path)
        self._path = path
        self._prefix, self._plain_prefix = path.rstrip("/") + "/", plain.rstrip("/") + "/"
        self._virtual = list(view.virtual.entries(path))
        self._begins = array("Q", [0])  # where the plain directory goes on, entry by entry
        # Of what was yielded since readdir was called, by the name in the view.
        self._plain_names: Dict[str, str] = {}
        self.directory = view.beneath.opendir(plain)
        self._stat, self._shown_status = self.directory.stat, view.shown_status

    def readdir(self, offset: int) -> Iterator[Dirent]:
        """Yield what is in the directory, from `offset` on."""
        self._plain_names = {}
        for position, (name, inode) in enumerate(self._virtual[offset:], offset + 1):
            yield Dirent(name, inode, stat.S_IFREG, position)
        first = len(self._virtual)
        number, skip = divmod(max(offset - first, 0), 2)
        if number >= len(self._begins):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        yield from self._plain_entries(number, bool(skip), first)

    def releasedir(self) -> None:
        """Close the plain directory."""
        self.directory.close()

    def _plain_entries(self, number: int, skip: bool, first: int) -> Iterator[Dirent]:
        """Yield from the plain entry with this number on; `skip`: its companion only."""
        view, begins = self.filesystem, self._begins
        names, prefix = view.names, self._prefix
        encrypted = not view.config.plaintext_names
        top = self._plain_prefix == "/"
        for batch in self.directory.batches(_signed(begins[number])):
            # Written again when it is read again: the directory may have changed.
            following = array("Q", [entry.offset & 0xFFFFFFFFFFFFFFFF for entry in batch])
            begins[number + 1 : number + 1 + len(batch)] = following
            position = first + 2 * number
            number += len(batch)
            directory = names.directory(self._path)
            stored = names.stored(directory, [entry.name for entry in batch])
            for (name, inode, kind, _), shown in zip(batch, stored):
                position += 2
                if top and view.hides(f"/{name}"):
                    skip = False
                    continue
                hashed = shown.startswith(HASHED) and encrypted
                if shown == INVALID and encrypted:
                    logger.warning("%a: a name is too long to be encrypted", self._path[1:])
                elif not skip:
                    self._plain_names[shown] = name
                if not skip:
                    yield Dirent(shown, inode, kind, position - hashed)
                skip = False
                if hashed:
                    shown = f"{shown}.name"
                    inode = made_inode(os.fsencode(prefix + shown))
                    yield Dirent(shown, inode, stat.S_IFREG, position)

    def fstatat(self, name: str) -> os.stat_result:
        """Return an entry's attributes, for listings with attributes."""
        plain_name = self._plain_names.get(name)
        if plain_name is None:
            return self.filesystem.getattr(self._prefix + name)
        return self._shown_status(self._stat(plain_name))


class EncryptedView(KeyedView):
    """The view of the directory `root`, set by `-o root=DIR`."""

    file_class: type = EncryptedFile
    dir_class: type = EncryptedDirectory
    direct = ("fgetattr", "fstatat", "read")
    config_hint = (
        "make one with: fusepy-vault init --reverse DIR (an encrypted DIR takes -o forward)"
    )
    wanted = frozenset(("posix_acl", "readdirplus_always"))  # a backup asks for all attributes

    withhold_config = False
    reader_count: Optional[int] = None
    readers: Optional[Readers] = None  # on the kernel engine, while it is mounted
    _background = False
    config: Config
    content: ContentCipher
    name_cipher: NameCipher
    names: Names
    virtual: VirtualFiles
    identities: Identities

    def __init__(self, *args: Any, **kw: Any) -> None:
        super().__init__(*args, **kw)
        self._seen: Dict[Tuple[int, int], _Version] = {}
        # Seconds that the kernel may have kept a file's attributes, at most.
        self._cached = _SETTLED
        self.open_sizes = OpenSizes()
        self.open_ids = OpenIds()
        self._custom_config = False
        self.parser.add_option(
            mountopt="withhold_config",
            action="store_true",
            help="do not show gocryptfs.conf: whoever has the view alone can then not decrypt it",
        )
        self.parser.add_option(
            mountopt="readers",
            dest="reader_count",
            type="int",
            metavar="N",
            help=f"processes for large reads, 0 to {READERS_MAX}; by default one for each CPU, "
            f"{_READERS} at most, and none for a single one",
        )

    def take_keys(self) -> None:
        """Make the ciphers; UnsupportedConfig without AES-SIV, the one that bears nonces that repeat."""
        if self.roots and not self.config_file:  # they have none of their own
            raise MountError("with roots=, say where the config is: -o config=FILE", EXIT_USAGE)
        default = os.path.join(str(self.root), _CONFIG_NAME)
        config = self.config = self.read_config(default)
        self.config_file = self.config_file or default
        if AESSIV_FLAG not in config.flags:
            raise UnsupportedConfig("the config has no AESSIV: make one with init --reverse")
        master_key = self.master_key(config)
        self.content = config.content_cipher(master_key)
        self.name_cipher = config.name_cipher(master_key)

    def prepare(self, arguments: MountArguments) -> MountArguments:
        """Open the root and get the keys; refuse a mount point where the view would show or hide itself."""
        self._custom_config = self.config_file is not None
        count = self.reader_count
        if count is not None and (not 0 <= count <= READERS_MAX or self.engine == "stock"):
            raise MountError(
                f"-o readers takes 0 to {READERS_MAX}, on the kernel engine", EXIT_USAGE
            )
        arguments = super().prepare(arguments)
        self._background = not arguments.foreground
        self._refuse_overlap(os.path.realpath(str(arguments.mountpoint)))
        self.names = Names(self.beneath, self.config, self.name_cipher)
        self.identities = Identities(self.beneath)
        self._cached = max(_SETTLED, float(arguments.options.get("attr_timeout", 1)) + 1)
        exposed = None if self.withhold_config else self.config_file
        if exposed is not None and isinstance(self.beneath, Root) and not self._custom_config:
            # That of the directory that is shown, whatever has its name meanwhile. It is read when it is
            # asked for, because after fusepy-vault passwd backups shall open with the new password.
            exposed = f"/proc/self/fd/{self.beneath.descriptor}/{_CONFIG_NAME}"
        self.virtual = VirtualFiles(self.config, self.names, self.beneath.stat, exposed)
        if self.withhold_config:
            self.warn(
                f"warning: gocryptfs.conf is withheld; a copy of this view is lost without {self.config_file}"
            )
        return arguments._replace(options=dict(arguments.options, ro=True))

    def main(self, args: Optional[Sequence[str]] = None) -> None:
        """Mount, serve, and end the reading processes after the unmount."""
        try:
            super().main(args)
        finally:
            if self.readers is not None:
                self.readers.close()
                self.readers = None

    def before_serving(self, device: int) -> None:
        """Start the processes for large reads, where there are CPUs for them."""
        count = self.reader_count
        if count is None:
            cpus = len(os.sched_getaffinity(0))
            count = min(cpus, _READERS) if cpus > 1 else 0
        if count:
            try:
                self.readers = Readers(count, device, server(self.content), self._begin_reading)
            except OSError as error:
                logger.warning("large reads are served one after the other: %s", error.strerror)

    def _begin_reading(self) -> None:
        """Make a forked process one that only reads."""
        secrecy.lock_memory()
        if self._background:  # the starter's terminal is not ours for long
            use_no_terminal()

    def _refuse_overlap(self, mountpoint: str) -> None:
        """Raise MountError for a mount point where the view would show or hide itself."""
        roots = [self.beneath] if isinstance(self.beneath, Root) else self.beneath.roots()
        for root in roots:
            path = os.path.realpath(root.path).rstrip("/")
            if f"{mountpoint}/".startswith(f"{path}/"):
                raise MountError(
                    f"the mount point {mountpoint} is in the root; mount elsewhere",
                    EXIT_MOUNTPOINT,
                )

    # Paths

    def plain(self, path: str) -> str:
        """Return the plain path of one of the view; ENOENT for what the view does not show."""
        plain = self.names.plain(path)
        if self.hides(plain):
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        return plain

    def hides(self, plain: str) -> bool:
        """Tell whether a plain path is not shown."""
        if plain == CONFIG_PATH:
            return self.config.plaintext_names and not self.withhold_config
        return plain == "/" + _CONFIG_NAME and not self._custom_config

    def open_plain(self, plain: str) -> int:
        """Open a plain file for reading, without changing its access time where that is allowed."""
        # A FIFO that has taken the file's place must not make us wait.
        flags = os.O_RDONLY | os.O_NONBLOCK
        try:
            return self.beneath.open(plain, flags | os.O_NOATIME)
        except PermissionError:
            return self.beneath.open(plain, flags)

    # Attributes

    def shown_status(self, status: os.stat_result) -> os.stat_result:
        """Return what the view shows of a plain file's status."""
        kind = status.st_mode & _KIND
        if kind == stat.S_IFREG:
            size = self.open_sizes.shown(status) if self.open_sizes else status.st_size
            size = self.content.encrypted_size(size)
        elif kind == stat.S_IFLNK and not self.config.plaintext_names:
            size = encrypted_target_size(self.content, self.name_cipher, status.st_size)
        else:
            return status
        return resized(status, size)

    def is_as_seen(self, status: os.stat_result, ivs: reverse.FileIVs) -> bool:
        """Tell whether a file is still what the kernel's cached pages of it were made of.

        Of one that has just been written to, the times do not tell: clocks of filesystems tick slowly.
        """
        if time.time() - max(status.st_mtime, status.st_ctime) < _SETTLED:
            return False
        key = (status.st_dev, status.st_ino)
        version = (ivs.file_id, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        if self._seen.get(key) == version:
            return True
        if len(self._seen) >= _SEEN:
            self._seen = {}
        self._seen[key] = version
        return False

    def is_recent(self, status: os.stat_result) -> bool:
        """Tell whether the kernel may have attributes of a file that are from before its last change."""
        return time.time() - max(status.st_mtime, status.st_ctime) < self._cached

    def forget_attributes(self, path: str) -> None:
        """Let the kernel ask for a file's size again; the stock engine cannot."""
        if self._session is not None:
            self._session.invalidate(path, data=False)

    def getattr(self, path: str) -> os.stat_result:
        """Return a file's attributes, with the size that it has encrypted."""
        virtual = self.virtual.open(path)
        if virtual is not None:
            return virtual.status
        plain = self.plain(path)
        return self.shown_status(self.beneath.stat(plain))

    def birthtime(self, path: str) -> Optional[syscalls.Timestamp]:
        """Return when the plain file was made; None for what is in the view only."""
        if self.virtual.open(path) is not None:
            return None
        return super().birthtime(self.plain(path))

    def access(self, path: str, mode: int) -> None:
        """Raise EACCES unless the daemon's user may read, EROFS for writing."""
        if mode & os.W_OK:
            self._refuse()
        if self.virtual.open(path) is None:
            super().access(self.plain(path), mode)

    def statfs(self, path: str = "/") -> os.statvfs_result:
        """Return size and room of the filesystem underneath."""
        virtual = self.virtual.open(path) is not None
        return super().statfs("/" if virtual else self.plain(path))

    # Files

    def open(self, path: str, flags: int) -> Union[EncryptedFile, VirtualFile]:
        """Open a file of the view."""
        virtual = self.virtual.open(path)
        if virtual is None:
            opened: EncryptedFile = self.methproxy.file_class(path, flags)
            return opened
        if flags & os.O_ACCMODE != os.O_RDONLY:
            self._refuse()
        return virtual

    def readlink(self, path: str) -> str:
        """Return a symlink's target, encrypted."""
        plain = self.plain(path)
        target = super().readlink(plain)
        if self.config.plaintext_names:
            return target
        key_path = self.identities.key_path(path, plain, self.beneath.stat(plain))
        nonce = reverse.symlink_nonce(key_path)
        try:
            text = encrypt_target(self.content, self.name_cipher, os.fsencode(target), nonce)
        except CryptError as error:
            logger.warning("%a: %s", path[1:], error)
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG)) from None
        return text.decode("ascii")

    # Extended attributes

    def getxattr(self, path: str, name: str, size: int) -> Union[int, bytes]:  # type: ignore[override]
        """Return an attribute's value, encrypted, or its length when `size` is 0."""
        stored = os.fsencode(name)
        try:
            attribute = self.name_cipher.decrypt_attribute_name(stored)
        except CryptError:
            raise OSError(errno.ENODATA, os.strerror(errno.ENODATA)) from None
        if self.virtual.open(path) is not None:
            raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))
        plain = self.plain(path)
        with self.beneath.reference(plain) as reference:
            value = os.getxattr(reference, attribute)
        status = self.beneath.stat(plain)
        if stored not in PLAIN_ATTRIBUTES:
            key_path = self.identities.key_path(path, plain, status)
            nonce = reverse.attribute_nonce(key_path, stored)
            value = self.content.encrypt_value(value, nonce)
        return value if size else len(value)

    def listxattr(self, path: str, size: int) -> Union[int, List[str]]:
        """Return the attributes' names, encrypted, or their length with NULs when `size` is 0."""
        stored: List[str] = []
        if self.virtual.open(path) is None:
            for name in self._attributes(self.plain(path)):
                try:
                    encrypted = self.name_cipher.encrypt_attribute_name(os.fsencode(name))
                except UnencryptableName:
                    logger.warning("%a: an attribute is left out: its name is too long", path[1:])
                else:
                    stored.append(os.fsdecode(encrypted))
        return stored if size else sum(len(name) + 1 for name in stored)

    def _attributes(self, plain: str) -> List[str]:
        """Return the names of a plain file's attributes; a directory that is on no filesystem has none."""
        try:
            with self.beneath.reference(plain) as reference:
                return os.listxattr(reference)
        except OSError as error:
            if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP):
                raise
            return []

    # What changes something

    def _refuse(self, *arguments: Any, **named: Any) -> Any:
        """Raise EROFS. The mount is read-only, so the kernel asks for none of this."""
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    chmod = chown = truncate = utimens = utimensat = _refuse
    mknod = mkdir = symlink = link = rename = unlink = rmdir = create = tmpfile = _refuse
    setxattr = removexattr = _refuse

    def ioctl(self, path: str, cmd: int, data: Optional[bytes], flags: int, *file: Any) -> int:
        """Raise ENOTTY: the view has no inode flags."""
        raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))


def _signed(number: int) -> int:
    """Return an offset as lseek(2) takes it."""
    return number - (1 << 64) if number >> 63 else number
