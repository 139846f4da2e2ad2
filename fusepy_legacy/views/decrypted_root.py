"""The root of an encrypted tree: a `Root` whose paths are plain, and whose files it can decrypt.

Whoever has one need not know of encrypted names; its open directories list what is on the disk.
"""

import errno
import functools
import logging
import os
import stat
from typing import Any, ContextManager, Optional, Sequence, Tuple

from fusepy_legacy.beneath import Held
from fusepy_legacy.crypt.config import Config
from fusepy_legacy.crypt.errors import CryptError, UnencryptableName
from fusepy_legacy.crypt.internal import CONFIG_NAME
from fusepy_legacy.crypt.metadata import decrypt_target
from fusepy_legacy.crypt.names import ATTRIBUTE_PREFIX, PLAIN_ATTRIBUTES
from fusepy_legacy.kernel.attributes import with_size
from fusepy_legacy.root import Root
from fusepy_legacy.views.long_names import NO_COMPANIONS, LongNames
from fusepy_legacy.views.stored_directories import EncryptedNames, PlainNames
from fusepy_legacy.views.stored_names import StoredNames
from fusepy_legacy.views.stored_paths import StoredBeneath, StoredParent

logger = logging.getLogger(__name__)

_ATTRIBUTES = 256  # names whose encrypted form is remembered


class Ciphers:
    """What a config and its master key make of plaintext, and back. Safe for threads."""

    def __init__(self, config: Config, master_key: bytes) -> None:
        """Raises `InvalidKey` and `CipherUnavailable`."""
        self.config = config
        self.content = config.content_cipher(master_key)
        self.names = config.name_cipher(master_key)
        # The kernel asks for security.capability of each file that is written.
        self.stored_attribute = functools.lru_cache(maxsize=_ATTRIBUTES)(self._stored_attribute)

    def _stored_attribute(self, name: str) -> str:
        """Return what an attribute is called on the disk; ERANGE for more than 175 bytes: xattr(7)."""
        try:
            return os.fsdecode(self.names.encrypt_attribute_name(os.fsencode(name)))
        except UnencryptableName:
            raise OSError(errno.ERANGE, os.strerror(errno.ERANGE)) from None

    def plain_attribute(self, stored: bytes) -> Optional[bytes]:
        """Return an attribute's plain name; None for what is not of the plain file."""
        if stored not in PLAIN_ATTRIBUTES and not stored.startswith(ATTRIBUTE_PREFIX):
            return None  # the tree's own, or of a security module
        try:
            return self.names.decrypt_attribute_name(stored)
        except CryptError as error:
            logger.warning("attribute %a is not shown: %s", stored, error)
            return None


class DecryptedRoot(Root):
    """The root of a tree with plain names on the disk; the config is out of reach: EPERM."""

    def __init__(self, path: str, ciphers: Ciphers, *more: Any) -> None:
        """Open the tree; `more` is what a `Root` takes besides the path. Raises OSError as open(2)."""
        self.ciphers = ciphers
        super().__init__(path, *more)

    def _locate(self, path: str) -> Tuple[int, str]:
        if path[1:] == CONFIG_NAME:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        return super()._locate(path)

    def names_in(self, path: str, descriptor: int) -> PlainNames:
        """Return how the names in an open directory are translated; one that was removed has none."""
        return PlainNames(top=path == "/" and not isinstance(path, Held))

    def changing(
        self, made: Sequence[str] = (), removed: Sequence[str] = ()
    ) -> ContextManager[None]:
        """Around making and removing names, which are given by their paths; EROFS in a read-only root."""
        self.check_writable()
        return NO_COMPANIONS

    # Attributes

    def stat(self, path: str) -> os.stat_result:
        """Return a file's attributes, with the size of the plaintext: lstat(2)."""
        with self.parent(path) as (directory, stored):
            return self.status_at(directory, stored, path)

    def with_plain_size(self, status: os.stat_result) -> os.stat_result:
        """Return a regular file's attributes with the size of the plaintext."""
        size = self.ciphers.content.plaintext_size(status.st_size)
        return with_size(status, size, status.st_blocks)

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
        if device == self.device or device == os.fstat(directory).st_dev:
            status = self.shown(status, directory)
        else:
            descriptor = self.open(path, os.O_PATH)
            try:
                status = self.shown(status, descriptor)
            finally:
                os.close(descriptor)
        if stat.S_ISREG(status.st_mode):
            return self.with_plain_size(status)
        if stat.S_ISLNK(status.st_mode):
            try:
                size = len(os.fsencode(self.target(directory, stored)))
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                size = 0  # without a status, nobody could remove it
            return with_size(status, size, status.st_blocks)
        return status

    def target(self, directory: int, stored: str) -> str:
        """Return where a symlink in an open directory points to; EIO when that does not decrypt."""
        text = os.readlink(stored, dir_fd=directory)
        ciphers = self.ciphers
        if ciphers.config.plaintext_names:
            return text
        try:
            return os.fsdecode(decrypt_target(ciphers.content, ciphers.names, os.fsencode(text)))
        except CryptError as error:
            logger.error("symlink %s: %s", stored, error)
            raise OSError(errno.EIO, os.strerror(errno.EIO)) from None


class EncryptedNamesRoot(DecryptedRoot, StoredBeneath):
    """The root of a tree with encrypted names. `Root` asks `StoredBeneath` where the plain paths lead."""

    def __init__(self, path: str, ciphers: Ciphers, long_names: LongNames, *more: Any) -> None:
        """Open the tree; `more` is what a `Root` takes besides the path. Raises OSError as open(2)."""
        self.names = StoredNames(ciphers.names)
        self.directory_ivs = ciphers.config.directory_ivs
        self.known = {}
        self._long_names = long_names
        super().__init__(path, ciphers, *more)

    def parent(self, path: str, change: bool = False) -> StoredParent:
        """Return the directory and the stored name of a file to look at, or to `change`."""
        self.check(path, change)
        parent = self._parent(path)
        self._confirmed(parent, path)
        return parent

    def names_in(self, path: str, descriptor: int) -> PlainNames:
        """Return how the names in an open directory are translated; one that was removed has none."""
        if isinstance(path, Held):
            return PlainNames()
        top = path == "/"
        if self.rules.one_file_system and os.fstat(descriptor).st_dev != self.device:
            return PlainNames(top)
        return EncryptedNames(self.names, self.iv(path, descriptor), descriptor, top)

    def changing(
        self, made: Sequence[str] = (), removed: Sequence[str] = ()
    ) -> ContextManager[None]:
        """Around making and removing names, with the companions that they need."""
        self.check_writable()
        return self._long_names.changing(self, made, removed)
