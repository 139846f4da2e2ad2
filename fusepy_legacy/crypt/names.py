"""Names: what a file or an extended attribute is called in an encrypted directory.

A name is padded to whole blocks, encrypted with EME under the IV of its directory, and written in
base64. If that is longer than the directory's limit, the file is called by its hash instead, and a
companion file next to it holds the whole text. Names are bytes throughout.
"""

import base64
import hashlib
import os
from typing import List, Optional, Sequence

from fusepy_legacy.crypt.eme import BLOCK, EME
from fusepy_legacy.crypt.errors import (
    CryptError,
    InvalidDirectoryIV,
    InvalidEncoding,
    InvalidName,
    OutOfRange,
    UnencryptableName,
)

NAME_MAX = 255  # linux/limits.h
LONG_NAME_MAX_LOWEST = 62  # as long as a hashed name is without padding

DIRECTORY_IV_FILE = b"gocryptfs.diriv"
DIRECTORY_IV_LENGTH = 16
DETERMINISTIC_IV = bytes(DIRECTORY_IV_LENGTH)  # of every directory, without the flag DirIV

LONG_NAME_PREFIX = b"gocryptfs.longname."
COMPANION_SUFFIX = b".name"

ATTRIBUTE_PREFIX = b"user.gocryptfs."
ATTRIBUTE_NAME_MAX = 175  # the longest whose encrypted form is a valid attribute name
# The kernel acts on these, so they are stored as they are (fusefrontend/node_xattr.go).
PLAIN_ATTRIBUTES = frozenset([b"system.posix_acl_access", b"system.posix_acl_default"])
_ATTRIBUTE_TWEAK = b"xattr_name_iv_xx"

_PADDING = [bytes([BLOCK - rest]) * (BLOCK - rest) for rest in range(BLOCK)]


def new_directory_iv() -> bytes:
    """Return 16 random bytes, the content of a new directory's `gocryptfs.diriv`."""
    return os.urandom(DIRECTORY_IV_LENGTH)


def check_directory_iv(data: bytes) -> bytes:
    """Return a `gocryptfs.diriv`'s content; `InvalidDirectoryIV` if not 16 bytes or all zero."""
    if len(data) != DIRECTORY_IV_LENGTH or not any(data):
        raise InvalidDirectoryIV("the directory IV is not 16 bytes, or it is all zero")
    return data


def is_long_name(name: bytes) -> bool:
    """Whether a file's name in the encrypted directory is a hash, so that it has a companion."""
    return name.startswith(LONG_NAME_PREFIX) and not name.endswith(COMPANION_SUFFIX)


def is_companion(name: bytes) -> bool:
    """Whether a file in the encrypted directory is the companion of one with a hashed name."""
    return name.startswith(LONG_NAME_PREFIX) and name.endswith(COMPANION_SUFFIX)


def is_valid_name(name: bytes) -> bool:
    """Whether a plain name can exist: 1 to 255 bytes, no NUL, no slash, not `.` or `..`."""
    return (
        0 < len(name) <= NAME_MAX
        and b"/" not in name
        and b"\0" not in name
        and name != b"."
        and name != b".."
    )


def _are_valid_names(names: Sequence[bytes]) -> bool:
    """Whether `is_valid_name` of all: what takes a call for each name there takes one for all here."""
    text = b"\0".join(names)
    return (
        text.count(b"\0") == max(len(names) - 1, 0)
        and b"/" not in text
        and b"." not in names
        and b".." not in names
        and all(names)
        and max(map(len, names), default=1) <= NAME_MAX
    )


def _pad(name: bytes) -> bytes:
    """PKCS#7 (RFC 5652, section 6.3): 1 to 16 bytes, each of them their number."""
    return name + _PADDING[len(name) % BLOCK]


def _unpad(data: bytes) -> Optional[bytes]:
    """Undo `_pad`; None where the padding is wrong, or nothing is left without it."""
    padding = data[-1]
    name = data[:-padding]
    return name if name and padding and _pad(name) == data else None


class NameCipher:
    """Encrypts and decrypts names with one key; may be used by several threads at once.

    `key` is 32 bytes, else `InvalidKey`. `raw64` says whether base64 goes without padding.
    `long_name_max`, 62 to 255, else `OutOfRange`, is the longest encrypted name that is not hashed.
    """

    def __init__(self, key: bytes, raw64: bool = True, long_name_max: int = NAME_MAX) -> None:
        if not LONG_NAME_MAX_LOWEST <= long_name_max <= NAME_MAX:
            raise OutOfRange(f"the longest name is {long_name_max}, which is not 62 to 255")
        self.raw64 = raw64
        self.long_name_max = long_name_max
        self._eme = EME(key)

    def encode(self, data: bytes) -> bytes:
        """Return URL-safe base64 (RFC 4648, section 5), with padding or without as `raw64` says."""
        text = base64.urlsafe_b64encode(data)
        return text.rstrip(b"=") if self.raw64 else text

    def decode(self, text: bytes) -> bytes:
        """Undo `encode`; `InvalidEncoding` for any text that `encode` would not have written."""
        padding = b"=" * (-len(text) % 4) if self.raw64 else b""
        try:
            data = base64.urlsafe_b64decode(text + padding)
        except ValueError:
            data = b""
        # The library's decoder skips what it does not know and ignores trailing bits.
        if self.encode(data) != text:
            raise InvalidEncoding("not strict base64")
        return data

    def encrypt_name(self, name: bytes, directory_iv: bytes) -> bytes:
        """Return the whole encrypted name, 22 to 344 bytes of base64.

        `directory_iv` is the 16 bytes of the directory's IV, or `DETERMINISTIC_IV`. Raises
        `UnencryptableName` and, for an IV of another length, `InvalidDirectoryIV`.
        """
        if not is_valid_name(name):
            raise UnencryptableName("not a name of 1 to 255 bytes without NUL and slash")
        return self._encrypt(name, directory_iv)

    def encrypt_names(self, names: Sequence[bytes], directory_iv: bytes) -> List[bytes]:
        """Return what `encrypt_name` returns for each, much faster if they are many; raise what it does."""
        if len(directory_iv) != DIRECTORY_IV_LENGTH:
            raise InvalidDirectoryIV("the directory IV is not 16 bytes")
        if not _are_valid_names(names):
            raise UnencryptableName("not a name of 1 to 255 bytes without NUL and slash")
        lengths = {len(name) // BLOCK for name in names}
        if len(lengths) == 1:
            return self._encrypt_alike(names, directory_iv)
        found: List[bytes] = list(names)
        for length in lengths:
            places = [place for place, name in enumerate(names) if len(name) // BLOCK == length]
            alike = self._encrypt_alike([names[place] for place in places], directory_iv)
            for place, encrypted in zip(places, alike):
                found[place] = encrypted
        return found

    def decrypt_name(self, encrypted: bytes, directory_iv: bytes) -> bytes:
        """Undo `encrypt_name`: base64 to a plain name of 1 to 255 bytes.

        A hashed name is not taken: pass what `open_companion` returns. Raises `InvalidEncoding`,
        `InvalidName` for what decrypts to no possible name, and `InvalidDirectoryIV`.
        """
        name = self._decrypt(encrypted, directory_iv)
        if not is_valid_name(name):
            raise InvalidName("decrypts to something that cannot be a name")
        return name

    def decrypt_names(
        self, encrypted: Sequence[bytes], directory_iv: bytes
    ) -> List[Optional[bytes]]:
        """Return what `decrypt_name` returns for each, None where it raises; much faster if they are many.

        Raises `InvalidDirectoryIV` for an IV of another length.
        """
        if len(directory_iv) != DIRECTORY_IV_LENGTH:
            raise InvalidDirectoryIV("the directory IV is not 16 bytes")
        found: List[Optional[bytes]] = [None] * len(encrypted)
        for length in {len(name) for name in encrypted}:
            places = [place for place, name in enumerate(encrypted) if len(name) == length]
            alike = [encrypted[place] for place in places]
            names: Optional[Sequence[Optional[bytes]]] = self._decrypt_alike(alike, directory_iv)
            if names is None:
                names = [self._decrypt_if_possible(name, directory_iv) for name in alike]
            for place, plain in zip(places, names):
                found[place] = plain
        return found

    def stored_name(self, encrypted: bytes) -> bytes:
        """Return what the file is called, at most 255 bytes: the encrypted name, or its hash."""
        if len(encrypted) <= self.long_name_max:
            return encrypted
        return LONG_NAME_PREFIX + self.encode(hashlib.sha256(encrypted).digest())

    def open_companion(self, stored: bytes, content: bytes) -> bytes:
        """Return the whole encrypted name of a file with a hashed name, from its companion's content.

        `stored` is the hashed name, without `.name`. Raises `InvalidName` if the content belongs to
        another name or should not be in a companion at all.
        """
        if len(content) <= self.long_name_max or self.stored_name(content) != stored:
            raise InvalidName("the companion holds another file's name")
        return content

    def encrypt_attribute_name(self, name: bytes) -> bytes:
        """Return the stored name of an extended attribute, at most 255 bytes.

        `name` is the full name, namespace included, 1 to 175 bytes without NUL, else
        `UnencryptableName`. The names in `PLAIN_ATTRIBUTES` are returned as they are.
        """
        if name in PLAIN_ATTRIBUTES:
            return name
        if not 0 < len(name) <= ATTRIBUTE_NAME_MAX or b"\0" in name:
            raise UnencryptableName("not an attribute name of 1 to 175 bytes without NUL")
        return ATTRIBUTE_PREFIX + self._encrypt(name, _ATTRIBUTE_TWEAK)

    def decrypt_attribute_name(self, stored: bytes) -> bytes:
        """Undo `encrypt_attribute_name`. Raises `InvalidEncoding` or `InvalidName`.

        What old versions of gocryptfs have made of ACLs is a name of nothing, there (node_xattr.go) as here.
        """
        if stored in PLAIN_ATTRIBUTES:
            return stored
        if not stored.startswith(ATTRIBUTE_PREFIX):
            raise InvalidName("not an attribute of an encrypted file")
        name = self._decrypt(stored[len(ATTRIBUTE_PREFIX) :], _ATTRIBUTE_TWEAK)
        if len(name) > ATTRIBUTE_NAME_MAX or b"\0" in name:
            raise InvalidName("decrypts to something that cannot be an attribute name")
        if name in PLAIN_ATTRIBUTES:
            raise InvalidName("an ACL that is encrypted, as by an old gocryptfs")
        return name

    def _encrypt(self, name: bytes, tweak: bytes) -> bytes:
        if len(tweak) != DIRECTORY_IV_LENGTH:
            raise InvalidDirectoryIV("the directory IV is not 16 bytes")
        return self.encode(self._eme.encrypt(tweak, _pad(name)))

    def _encrypt_alike(self, names: Sequence[bytes], tweak: bytes) -> List[bytes]:
        """Encrypt names that are padded to the same number of blocks, in a few calls of the library."""
        count = len(names[0]) // BLOCK + 1
        rows = self._eme.encrypt_many(tweak, b"".join([_pad(name) for name in names]), count)
        # All in one text: each name has whole groups of three bytes, and what the zeros become is cut off.
        width = count * BLOCK
        zeros = bytes(-width % 3)
        if zeros:
            rows = b"".join(
                [rows[start : start + width] + zeros for start in range(0, len(rows), width)]
            )
        text = base64.urlsafe_b64encode(rows)
        step = len(text) // len(names)
        shown = step - len(zeros)
        tail = b"" if self.raw64 else b"=" * len(zeros)
        found = [text[start : start + shown] for start in range(0, len(text), step)]
        return [name + tail for name in found] if tail else found

    def _decrypt_alike(self, texts: Sequence[bytes], tweak: bytes) -> Optional[List[bytes]]:
        """Undo `_encrypt_alike` for names of one length; None if one of them does not decrypt."""
        count = len(texts[0]) * 3 // 4 // BLOCK
        width = count * BLOCK
        zeros = bytes(-width % 3)
        tail = b"" if self.raw64 else b"=" * len(zeros)
        if not 0 < width <= NAME_MAX + 1 or len(self.encode(bytes(width))) != len(texts[0]):
            return None
        if zeros:
            if not all(text.endswith(tail) for text in texts):
                return None
            filler = b"A" * len(zeros)  # zeros in base64
            shown = len(texts[0]) - len(tail)
            texts = [text[:shown] + filler for text in texts]
        text = b"".join(texts)
        try:
            data = base64.urlsafe_b64decode(text)
        except ValueError:
            return None
        # As strict as `decode`.
        if base64.urlsafe_b64encode(data) != text:
            return None
        if zeros:
            rows = [
                data[start : start + width] for start in range(0, len(data), width + len(zeros))
            ]
            if zeros.join([*rows, b""]) != data:
                return None
            data = b"".join(rows)
        data = self._eme.decrypt_many(tweak, data, count)
        padded = [data[start : start + width] for start in range(0, len(data), width)]
        names = [name for name in map(_unpad, padded) if name is not None]
        return names if len(names) == len(padded) and _are_valid_names(names) else None

    def _decrypt_if_possible(self, text: bytes, tweak: bytes) -> Optional[bytes]:
        try:
            return self.decrypt_name(text, tweak)
        except CryptError:
            return None

    def _decrypt(self, text: bytes, tweak: bytes) -> bytes:
        if len(tweak) != DIRECTORY_IV_LENGTH:
            raise InvalidDirectoryIV("the directory IV is not 16 bytes")
        data = self.decode(text)
        if len(data) % BLOCK or not 0 < len(data) <= NAME_MAX + 1:
            raise InvalidName("not 1 to 16 encrypted blocks")
        name = _unpad(self._eme.decrypt(tweak, data))
        if name is None:
            raise InvalidName("the padding is wrong")
        return name
