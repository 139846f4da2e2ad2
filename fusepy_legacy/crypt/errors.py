"""What can be wrong with a password, a key or encrypted data: one class for each kind of failure.

No message holds a key, a password or decrypted data.
"""

from typing import Optional


class CryptError(Exception):
    """Base of all errors of this package."""


class InvalidConfig(CryptError):
    """The config is not JSON, is oversized, or a member is missing or of the wrong type."""


class UnsupportedConfig(CryptError):
    """The config is well-formed, but its version, a flag or a combination of flags is not known."""


class ScryptCost(CryptError):
    """The scrypt parameters are invalid, too weak, or ask for too much memory and time."""


class EmptyPassword(CryptError):
    """The password has no bytes."""


class PasswordTooLong(CryptError):
    """The password has more than 2048 bytes."""


class WrongPassword(CryptError):
    """The password does not open this config (or the config's encrypted key is damaged)."""


class InvalidKey(CryptError):
    """A key has the wrong length, or the text form of a master key is not 64 hexadecimal digits."""


class CipherUnavailable(CryptError):
    """The installed libraries do not have the cipher; the message says what to install."""


class UnsafeNonce(CryptError):
    """The caller chose a nonce for a cipher that breaks when one repeats: any but AES-SIV."""


class InvalidHeader(CryptError):
    """The header of an encrypted file is cut, of another version, or its file ID is all zero."""


class BlockError(CryptError):
    """Base of the errors of one block; `block` is its number, None for a target or an attribute."""

    def __init__(self, message: str, block: Optional[int] = None) -> None:
        super().__init__(message if block is None else f"block {block}: {message}")
        self.block = block


class TruncatedBlock(BlockError):
    """A block is so short that it cannot hold even one byte: the file was cut."""


class ZeroNonce(BlockError):
    """The nonce is all zero, but the block is not a hole: the data was never written, or lost."""


class AuthenticationFailed(BlockError):
    """The data was changed, moved or swapped, or the key is another one."""


class InvalidName(CryptError):
    """An encrypted name decrypts to no name: it was changed or moved, or the key is another one."""


class InvalidEncoding(CryptError):
    """A text is not strict base64: foreign characters, wrong padding, or stray bits at the end."""


class UnencryptableName(CryptError):
    """A plain name cannot exist in a filesystem: empty, too long, `.`, `..`, NUL or slash in it."""


class InvalidDirectoryIV(CryptError):
    """A directory IV is not 16 bytes, or it is all zero."""


class OutOfRange(CryptError):
    """A size, offset, number or value is negative or larger than the format can hold."""
