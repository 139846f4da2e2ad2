"""Symlink targets and values of extended attributes: one block each, bound to no file.

So whoever can write to the encrypted tree can swap two targets, or two values, unnoticed.
"""

from typing import Optional

from fusepy_legacy.crypt.content import ContentCipher
from fusepy_legacy.crypt.errors import CryptError, OutOfRange
from fusepy_legacy.crypt.names import NameCipher

TARGET_MAX = 4095  # symlink(2): PATH_MAX without the NUL


def encrypt_target(
    content: ContentCipher, names: NameCipher, target: bytes, nonce: Optional[bytes] = None
) -> bytes:
    """Return what an encrypted symlink points to: base64, at most 4095 bytes; empty stays empty.

    That leaves 3039 bytes for the target (XChaCha20-Poly1305: 3031), else `OutOfRange`. `nonce` as
    in `ContentCipher.encrypt_value`.
    """
    text = names.encode(content.encrypt_value(target, nonce))
    if len(text) > TARGET_MAX:
        raise OutOfRange(f"a link target of {len(target)} bytes is too long to encrypt")
    return text


def encrypted_target_size(content: ContentCipher, names: NameCipher, size: int) -> int:
    """Return how long `encrypt_target` makes a target of `size` bytes, whether it fits or not."""
    if not size:
        return 0
    length = content.overhead + size
    return -(-length * 4 // 3) if names.raw64 else -(-length // 3) * 4


def decrypt_target(content: ContentCipher, names: NameCipher, text: bytes) -> bytes:
    """Undo `encrypt_target`. Raises `InvalidEncoding`, and what `decrypt_value` raises."""
    return content.decrypt_value(names.decode(text))


def decrypt_attribute(content: ContentCipher, names: NameCipher, stored: bytes) -> bytes:
    """Return the value of an extended attribute, which `ContentCipher.encrypt_value` has made `stored`.

    Old versions of gocryptfs stored base64 (fusefrontend/node_xattr.go), so that is tried as well.
    Raises what `ContentCipher.decrypt_value` raises.
    """
    try:
        return content.decrypt_value(stored)
    except CryptError as error:
        try:
            return content.decrypt_value(names.decode(stored))
        except CryptError:
            raise error from None
