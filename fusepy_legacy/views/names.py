"""Which plain path an encrypted one means, in a view of plain directories.

What a name decrypts to follows from the key and the encrypted path alone, so what is remembered here never
becomes wrong, whatever happens to the files: it is forgotten only to bound the memory. A hashed name does
not decrypt. It is searched for in its directory, among the names long enough to be hashed; since programs
ask for names in the order of a listing, the search goes on a little behind what it has found.
"""

import errno
import os
import time
from typing import Dict, Iterator, NamedTuple, Optional, Tuple, Union

from fusepy_legacy.crypt import reverse
from fusepy_legacy.crypt.config import Config
from fusepy_legacy.crypt.errors import CryptError
from fusepy_legacy.crypt.names import (
    COMPANION_SUFFIX,
    DETERMINISTIC_IV,
    NameCipher,
    is_companion,
    is_long_name,
)
from fusepy_legacy.root import Root, RootDirectory
from fusepy_legacy.roots import Roots, VirtualListing

REMEMBERED = 16384  # paths, and as many again that have not been used lately
_AHEAD = 1024  # hashed names to learn behind the one searched for
_SETTLED = 2.0  # seconds; within them a directory may change without its times changing
_MISSES = 1024

_Version = Tuple[int, int]
_Opened = Union[RootDirectory, VirtualListing]


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
        self._recent: Dict[str, str] = {}
        self._older: Dict[str, str] = {}
        self._misses: Dict[str, _Version] = {}

    def plain(self, path: str) -> str:
        """Return the plain path; ENOENT for a name that is none of this view."""
        if self._plaintext or path == "/":
            return path
        found = self._recent.get(path) or self._recall(path)
        return found if found is not None else self._translate(path)

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

    def remember(self, path: str, plain: str) -> None:
        """Take note of what an encrypted path means."""
        self._recent[path] = plain
        if len(self._recent) >= REMEMBERED:
            self._older, self._recent = self._recent, {}

    def _recall(self, path: str) -> Optional[str]:
        plain = self._older.get(path)
        if plain is not None:
            self.remember(path, plain)
        return plain

    def _translate(self, path: str) -> str:
        """Walk down from the nearest directory that is known: a path may have thousands of components."""
        components = []
        above, plain = path, None
        while plain is None:
            above, _, name = above.rpartition("/")
            components.append(name)
            plain = "" if not above else self._recent.get(above) or self._recall(above)
        for name in reversed(components):
            plain = f"{plain}/{self._decrypt(above, plain, name)}"
            above = f"{above}/{name}"
            self.remember(above, plain)
        return plain

    def _decrypt(self, above: str, plain_above: str, stored: str) -> str:
        name = os.fsencode(stored)
        if is_long_name(name):
            return self._search(above or "/", plain_above or "/", stored)
        if len(name) <= self._longest and not is_companion(name):
            try:
                return os.fsdecode(self._cipher.decrypt_name(name, self.iv(above or "/")))
            except CryptError:
                pass
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))

    def _search(self, directory: str, plain: str, stored: str) -> str:
        """Find the plain name whose hash this is; ENOENT, without reading the directory twice for it."""
        key = f"{directory}/{stored}"
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

    def _scan(self, directory: str, plain: str, stored: str) -> Optional[str]:
        found = None
        left = _AHEAD
        opened = self._beneath.opendir(plain)
        try:
            for name, shown in self._long_names(opened, self.iv(directory)):
                self.remember(f"{directory.rstrip('/')}/{shown}", f"{plain.rstrip('/')}/{name}")
                if shown == stored:
                    found = name
                elif found is not None:
                    left -= 1
                    if not left:
                        break
        finally:
            opened.close()
        return found

    def _long_names(
        self, directory: Union[RootDirectory, VirtualListing], iv: bytes
    ) -> Iterator[Tuple[str, str]]:
        for entry in directory.entries(0):
            # No name is hashed whose base64 is not longer than the limit: 4 characters for 3 bytes.
            if len(os.fsencode(entry.name)) * 4 // 3 + 24 > self._longest:
                shown = self.shown(entry.name, iv)
                if shown.whole is not None:
                    yield entry.name, shown.stored
