"""What plain names are called in an encrypted tree, and back, from the key and the directory's IV alone.

So what is remembered here cannot become wrong, whatever happens to the files; only so many names are, to
bound the memory. One that was translated is remembered in both directions: a name has one encrypted form, and
after a listing the kernel asks for the files by their plain names.
"""

import errno
import os
from typing import Dict, List, NamedTuple, Optional, Sequence

from fusepy_legacy.crypt.errors import UnencryptableName
from fusepy_legacy.crypt.names import NAME_MAX, NameCipher

_REMEMBERED = 16384  # names; then all are forgotten


class StoredName(NamedTuple):
    """What a plain name is called on the disk; `whole` is its companion's content, if it has one."""

    name: str
    whole: Optional[bytes]


class _Known:
    """What is remembered of the names under one IV."""

    __slots__ = ("stored", "plain")

    def __init__(self) -> None:
        self.stored: Dict[str, StoredName] = {}  # by plain name
        self.plain: Dict[str, str] = {}  # by encrypted name, not by its hash


class StoredNames:
    """Translates names. Safe for threads."""

    def __init__(self, cipher: NameCipher) -> None:
        self._cipher = cipher
        self._known: Dict[bytes, _Known] = {}  # by IV
        self._count = 0
        fitting = cipher.long_name_max // 4 * 3  # base64 makes four of three bytes
        self._surely_short = fitting // 16 * 16 - 1  # PKCS#7 adds one byte at least

    def may_be_long(self, name: str) -> bool:
        """Tell whether a name may need a companion; False is certain."""
        return len(os.fsencode(name)) > self._surely_short

    def stored(self, name: str, iv: bytes) -> StoredName:
        """Return what a plain name is called; ENAMETOOLONG, or EINVAL for what cannot be a name."""
        known = self._known.get(iv)
        found = None if known is None else known.stored.get(name)
        if found is None:
            plain = os.fsencode(name)
            try:
                whole = self._cipher.encrypt_name(plain, iv)
            except UnencryptableName:
                number = errno.ENAMETOOLONG if len(plain) > NAME_MAX else errno.EINVAL
                raise OSError(number, os.strerror(number)) from None
            [found] = self._remember([name], [whole.decode("ascii")], iv)
        return found

    def plain(self, stored: str, iv: bytes) -> str:
        """Return the plain name of what is called `stored`, which is no hash; raises CryptError."""
        known = self._known.get(iv)
        name = None if known is None else known.plain.get(stored)
        if name is None:
            name = os.fsdecode(self._cipher.decrypt_name(os.fsencode(stored), iv))
            self._remember([name], [stored], iv)
        return name

    def learn(self, stored: Sequence[str], iv: bytes) -> None:
        """Decrypt names that `plain` will be asked for, much faster than one by one if they are many."""
        known = self._known.get(iv)
        new = [text for text in stored if known is None or text not in known.plain]
        decrypted = self._cipher.decrypt_names(list(map(os.fsencode, new)), iv)
        plain = {text: os.fsdecode(name) for text, name in zip(new, decrypted) if name is not None}
        if plain:
            self._remember(list(plain.values()), list(plain), iv)

    def plain_of_long(self, stored: str, iv: bytes, companion: bytes) -> str:
        """Return the plain name behind a hash; CryptError if the companion's content is not its."""
        whole = self._cipher.open_companion(os.fsencode(stored), companion)
        return self.plain(os.fsdecode(whole), iv)

    def _remember(
        self, names: Sequence[str], encrypted: Sequence[str], iv: bytes
    ) -> List[StoredName]:
        if self._count >= _REMEMBERED:
            self._known = {}
            self._count = 0
        known = self._known.setdefault(iv, _Known())
        self._count += len(names)
        found = [self._stored_name(text) for text in encrypted]
        known.stored.update(zip(names, found))
        known.plain.update(zip(encrypted, names))
        return found

    def _stored_name(self, text: str) -> StoredName:
        if len(text) <= self._cipher.long_name_max:
            return StoredName(text, None)
        whole = text.encode("ascii")
        return StoredName(self._cipher.stored_name(whole).decode("ascii"), whole)
