"""XChaCha20-Poly1305 from libsodium, by way of PyNaCl, which is optional: `cryptography` has no such cipher.

With the interface of the AEAD classes of `cryptography`, and its exceptions.
"""

from typing import Callable, Union

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm

_Buffer = Union[bytes, bytearray, memoryview]


class XChaCha20Poly1305:
    """The cipher (draft-irtf-cfrg-xchacha) with a key of 32 bytes and nonces of 24.

    Raises `UnsupportedAlgorithm` where PyNaCl is not installed, and says what to install.
    """

    def __init__(self, key: bytes) -> None:
        try:
            from nacl import bindings, exceptions
        except ImportError:
            why = "it needs PyNaCl: pip install PyNaCl"
            raise UnsupportedAlgorithm(why) from None
        self._key = key
        # The whole buffer is copied: PyNaCl takes nothing but bytes.
        self._encrypt: Callable[..., bytes] = bindings.crypto_aead_xchacha20poly1305_ietf_encrypt
        self._decrypt: Callable[..., bytes] = bindings.crypto_aead_xchacha20poly1305_ietf_decrypt
        self._failure = exceptions.CryptoError

    def encrypt(self, nonce: bytes, data: _Buffer, associated_data: bytes) -> bytes:
        """Return the ciphertext and its tag of 16 bytes."""
        return self._encrypt(bytes(data), associated_data, nonce, self._key)

    def decrypt(self, nonce: bytes, data: _Buffer, associated_data: bytes) -> bytes:
        """Return the plaintext; `InvalidTag` if the data does not authenticate."""
        try:
            return self._decrypt(bytes(data), associated_data, nonce, self._key)
        except self._failure:
            raise InvalidTag from None
