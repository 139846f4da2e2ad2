"""Which plain path an encrypted one means, in a view of plain directories.

What a name decrypts to follows from the key and the encrypted path alone, so what is remembered here never
becomes wrong, whatever happens to the files: it is forgotten only to bound the memory. A hashed name does
not decrypt. It is searched for in its directory, among the names long enough to be hashed; since programs
ask for names in the order of a listing, the search goes on a little behind what it has found.
"""

import errno
import os
import time
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

from fusepy_legacy.crypt import reverse
from fusepy_legacy.crypt.config import Config
from fusepy_legacy.crypt.errors import CryptError, UnencryptableName
from fusepy_legacy.crypt.names import (
    COMPANION_SUFFIX,
    DETERMINISTIC_IV,
    LONG_NAME_PREFIX,
    NameCipher,
    is_companion,
    is_long_name,
    is_valid_name,
)
from fusepy_legacy.root import Root
from fusepy_legacy.roots import Roots
from fusepy_legacy.views.known_names import KnownDirectory, KnownNames

REMEMBERED = 16384  # names, and as many again that have not been used lately
_TOGETHER = 256  # names encrypted in one go: more take no less time each
_AHEAD = 1024  # hashed names to learn behind the one searched for
_SETTLED = 2.0  # seconds; within them a directory may change without its times changing
_MISSES = 1024

HASHED = os.fsdecode(LONG_NAME_PREFIX)  # what hashes begin with; no other encrypted name has a dot
# What is listed for a name of more than 255 bytes, as NTFS and CIFS have them, which count characters. It
# leads nowhere, so whoever copies the view is told that something is not in the copy. As in gocryptfs.
INVALID = "___GOCRYPTFS_INVALID_NAME___"

_Version = Tuple[int, int]


class Shown(NamedTuple):
    """What a plain name is called in the view; `whole` is its companion's content, if it has one."""

    stored: str
    whole: Optional[bytes]


class Names:
    """Translates paths of the view. Threads may share it: what they write is the same."""

    def __init__(self, beneath: Union[Root, Roots], config: Config, cipher: NameCipher) -> None:
        self._beneath = beneath
        self._cipher = cipher
        self._plaintext = config.plaintext_names
        self._directory_ivs = config.directory_ivs
        self._longest = cipher.long_name_max
        self._known = KnownNames(REMEMBERED, KnownDirectory("/", self.iv("/")))
        self._misses: Dict[str, _Version] = {}

    def plain(self, path: str) -> str:
        """Return the plain path; ENOENT for a name that is none of this view."""
        if self._plaintext or path == "/":
            return path
        above, _, name = path.rpartition("/")
        directory = self._known.find(above) or self._walk(above)
        return directory.prefix + self._name(directory, above, name)

    def directory(self, path: str) -> KnownDirectory:
        """Return a directory of the view; ENOENT for one that it has not.

        It is good for one listing: ask again, and what is known of it is not forgotten.
        """
        above = path.rstrip("/")
        return self._known.find(above) or self._walk(above)

    def stored(self, directory: KnownDirectory, names: Sequence[str]) -> List[str]:
        """Return what the plain names of a directory are called in the view; INVALID for what is too long."""
        if self._plaintext:
            return list(names)
        found = self._known.stored(directory, names)
        if None in found:
            missing = [name for name, known in zip(names, found) if known is None]
            try:
                shown = self._encrypt(missing, directory.iv)
            except UnencryptableName:
                missing = [name for name in missing if is_valid_name(os.fsencode(name))]
                shown = self._encrypt(missing, directory.iv)
            self._known.remember(directory, missing, shown)
            new = dict(zip(missing, shown))
            return [known or new.get(name, INVALID) for name, known in zip(names, found)]
        return found  # type: ignore[return-value]

    def _encrypt(self, names: Sequence[str], iv: bytes) -> List[str]:
        if not names:
            return []
        # Coded in one piece each way: no name has a NUL.
        plain = os.fsencode("\0".join(names)).split(b"\0")
        stored_name, longest = self._cipher.stored_name, self._longest
        found: List[bytes] = []
        for start in range(0, len(plain), _TOGETHER):
            whole = self._cipher.encrypt_names(plain[start : start + _TOGETHER], iv)
            found += [name if len(name) <= longest else stored_name(name) for name in whole]
        return b"\0".join(found).decode("ascii").split("\0")

    def shown(self, name: str, iv: bytes) -> Shown:
        """Return what a plain name is called in the view's directory whose IV this is."""
        if self._plaintext:
            return Shown(name, None)
        whole = self._cipher.encrypt_name(os.fsencode(name), iv)
        stored = whole if len(whole) <= self._longest else self._cipher.stored_name(whole)
        return Shown(stored.decode("ascii"), None if stored is whole else whole)

    def iv(self, directory: str) -> bytes:
        """Return the IV of the names in a directory of the view."""
        if not self._directory_ivs:
            return DETERMINISTIC_IV
        return reverse.directory_iv(os.fsencode(directory[1:]))

    def companion(self, path: str) -> Tuple[str, bytes]:
        """Return the plain path of the file that a companion belongs to, and the companion's content."""
        owner = path[: -len(COMPANION_SUFFIX)]
        plain = self.plain(owner)
        directory = owner.rpartition("/")[0]
        name = os.fsencode(plain.rpartition("/")[2])
        return plain, self._cipher.encrypt_name(name, self.iv(directory or "/"))

    def _walk(self, path: str) -> KnownDirectory:
        """Go down from the nearest directory that is known: a path may have thousands of components."""
        components = []
        above, directory = path, None
        while directory is None:
            above, _, name = above.rpartition("/")
            components.append(name)
            directory = self._known.find(above)
        for name in reversed(components):
            plain = directory.prefix + self._name(directory, above, name)
            above = f"{above}/{name}"
            directory = self._known.enter(above, f"{plain}/", self.iv(above))
        return directory

    def _name(self, directory: KnownDirectory, above: str, stored: str) -> str:
        """Return the plain name of an entry of a directory, whose path in the view is `above`."""
        if self._plaintext:
            return stored
        found = self._known.plain(directory, stored)
        if found is None:
            found = self._decrypt(directory, above, stored)
            self._known.remember(directory, (found,), (stored,))
        return found

    def _decrypt(self, directory: KnownDirectory, above: str, stored: str) -> str:
        name = os.fsencode(stored)
        if is_long_name(name):
            return self._search(directory, above, stored)
        if len(name) <= self._longest and not is_companion(name):
            try:
                return os.fsdecode(self._cipher.decrypt_name(name, directory.iv))
            except CryptError:
                pass
        number = errno.ENAMETOOLONG if stored == INVALID else errno.ENOENT
        raise OSError(number, os.strerror(number))

    def _search(self, directory: KnownDirectory, above: str, stored: str) -> str:
        """Find the plain name whose hash this is; ENOENT, without reading the directory twice for it."""
        key = f"{above}/{stored}"
        plain = directory.prefix.rstrip("/") or "/"
        status = self._beneath.stat(plain)
        version = (status.st_mtime_ns, status.st_ctime_ns)
        if self._misses.get(key) != version:
            found = self._scan(directory, plain, stored)
            if found is not None:
                return found
            if time.time() - max(status.st_mtime, status.st_ctime) > _SETTLED:
                if len(self._misses) >= _MISSES:
                    self._misses = {}
                self._misses[key] = version
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))

    def _scan(self, directory: KnownDirectory, plain: str, stored: str) -> Optional[str]:
        found = None
        left = _AHEAD
        opened = self._beneath.opendir(plain)
        try:
            for batch in opened.batches(0):
                names = [entry.name for entry in batch if self._may_be_hashed(entry.name)]
                shown = self.stored(directory, names)
                if found is None and stored in shown:
                    place = shown.index(stored)
                    found = names[place]
                    left += place
                if found is not None:
                    left -= len(names)
                    if left <= 0:
                        break
        finally:
            opened.close()
        return found

    def _may_be_hashed(self, name: str) -> bool:
        # No name is hashed whose base64 is not longer than the limit: 4 characters for 3 bytes.
        return len(os.fsencode(name)) * 4 // 3 + 24 > self._longest
