"""What plain names are called in an encrypted tree, and back, from the key and the directory's IV alone.

So what is remembered here cannot become wrong, whatever happens to the files; only the most recent names
are remembered, to bound the memory.
"""

import errno
import functools
import os
from typing import Callable, NamedTuple, Optional

from fusepy_legacy.crypt.errors import UnencryptableName
from fusepy_legacy.crypt.names import NAME_MAX, NameCipher

_REMEMBERED = 8192  # names of either kind

ReadCompanion = Callable[[], bytes]


class StoredName(NamedTuple):
    """What a plain name is called on the disk; `whole` is its companion's content, if it has one."""

    name: str
    whole: Optional[bytes]


class StoredNames:
    """Translates names. Safe for threads."""

    def __init__(self, cipher: NameCipher) -> None:
        self._cipher = cipher
        self.stored = functools.lru_cache(maxsize=_REMEMBERED)(self._encrypt)
        self._plain = functools.lru_cache(maxsize=_REMEMBERED)(self._decrypt)
        fitting = cipher.long_name_max // 4 * 3  # base64 makes four of three bytes
        self._surely_short = fitting // 16 * 16 - 1  # PKCS#7 adds one byte at least

    def may_be_long(self, name: str) -> bool:
        """Tell whether a name may need a companion; False is certain."""
        return len(os.fsencode(name)) > self._surely_short

    def plain(self, stored: str, iv: bytes) -> str:
        """Return the plain name of what is called `stored`, which is no hash; raises CryptError."""
        return self._plain(os.fsencode(stored), iv)

    def plain_of_long(self, stored: str, iv: bytes, companion: bytes) -> str:
        """Return the plain name behind a hash; CryptError if the companion's content is not its."""
        return self._plain(self._cipher.open_companion(os.fsencode(stored), companion), iv)

    def _encrypt(self, name: str, iv: bytes) -> StoredName:
        """Return the stored name; ENAMETOOLONG, or EINVAL for what cannot be a name."""
        plain = os.fsencode(name)
        try:
            whole = self._cipher.encrypt_name(plain, iv)
        except UnencryptableName:
            number = errno.ENAMETOOLONG if len(plain) > NAME_MAX else errno.EINVAL
            raise OSError(number, os.strerror(number)) from None
        stored = self._cipher.stored_name(whole)
        return StoredName(stored.decode("ascii"), None if stored == whole else whole)

    def _decrypt(self, whole: bytes, iv: bytes) -> str:
        return os.fsdecode(self._cipher.decrypt_name(whole, iv))
