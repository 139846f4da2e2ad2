"""What plain names are called in an encrypted tree, and back, from the key and the directory's IV alone.

So what is remembered here cannot become wrong, whatever happens to the files; only so many names are, to
bound the memory. One that was translated is remembered in both directions: a name has one encrypted form, and
after a listing the kernel asks for the files by their plain names.
"""

import errno
import os
from typing import Dict, NamedTuple, Optional, Tuple

from fusepy_legacy.crypt.errors import UnencryptableName
from fusepy_legacy.crypt.names import NAME_MAX, NameCipher

_REMEMBERED = 16384  # names; then all are forgotten


class StoredName(NamedTuple):
    """What a plain name is called on the disk; `whole` is its companion's content, if it has one."""

    name: str
    whole: Optional[bytes]


class StoredNames:
    """Translates names. Safe for threads."""

    def __init__(self, cipher: NameCipher) -> None:
        self._cipher = cipher
        self._stored: Dict[Tuple[str, bytes], StoredName] = {}
        self._plain: Dict[Tuple[bytes, bytes], str] = {}
        fitting = cipher.long_name_max // 4 * 3  # base64 makes four of three bytes
        self._surely_short = fitting // 16 * 16 - 1  # PKCS#7 adds one byte at least

    def may_be_long(self, name: str) -> bool:
        """Tell whether a name may need a companion; False is certain."""
        return len(os.fsencode(name)) > self._surely_short

    def stored(self, name: str, iv: bytes) -> StoredName:
        """Return what a plain name is called; ENAMETOOLONG, or EINVAL for what cannot be a name."""
        found = self._stored.get((name, iv))
        if found is None:
            plain = os.fsencode(name)
            try:
                whole = self._cipher.encrypt_name(plain, iv)
            except UnencryptableName:
                number = errno.ENAMETOOLONG if len(plain) > NAME_MAX else errno.EINVAL
                raise OSError(number, os.strerror(number)) from None
            found = self._remember(name, whole, iv)
        return found

    def plain(self, stored: str, iv: bytes) -> str:
        """Return the plain name of what is called `stored`, which is no hash; raises CryptError."""
        return self._plain_of(os.fsencode(stored), iv)

    def plain_of_long(self, stored: str, iv: bytes, companion: bytes) -> str:
        """Return the plain name behind a hash; CryptError if the companion's content is not its."""
        return self._plain_of(self._cipher.open_companion(os.fsencode(stored), companion), iv)

    def _plain_of(self, whole: bytes, iv: bytes) -> str:
        name = self._plain.get((whole, iv))
        if name is None:
            name = os.fsdecode(self._cipher.decrypt_name(whole, iv))
            self._remember(name, whole, iv)
        return name

    def _remember(self, name: str, whole: bytes, iv: bytes) -> StoredName:
        if len(self._stored) >= _REMEMBERED:
            self._stored.clear()
            self._plain.clear()
        stored = self._cipher.stored_name(whole)
        found = StoredName(stored.decode("ascii"), None if stored == whole else whole)
        self._stored[name, iv] = found
        self._plain[whole, iv] = name
        return found
