"""Content: a header with a random file ID, then blocks of 4096 bytes, each authenticated by itself.

A block is its nonce and what the cipher makes of the plaintext. Block number and file ID are
authenticated with it, so a block cannot move within its file or to another one. An empty file has
no header. The functions here take as many blocks as a request has: 32 or 256 in one call. Their
loops run inside the interpreter's `map`, and each encrypted block is freed as soon as it is in the
output, because more than twice the size of the output alive at once makes malloc return memory to
the kernel at every call: measured, that costs as much as AES-GCM itself.
"""

import io
import os
import struct
from itertools import chain, repeat
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Union

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.ciphers import aead

from fusepy_legacy.crypt.errors import (
    AuthenticationFailed,
    CipherUnavailable,
    InvalidHeader,
    InvalidKey,
    OutOfRange,
    TruncatedBlock,
    UnsafeNonce,
    ZeroNonce,
)
from fusepy_legacy.crypt.xchacha import XChaCha20Poly1305

Buffer = Union[bytes, bytearray, memoryview]

BLOCK_SIZE = 4096
HEADER_SIZE = 18
FILE_ID_LENGTH = 16
TAG_LENGTH = 16
SIZE_MAX = (1 << 63) - 1  # off_t

_VERSION = 2
_HEADER = struct.Struct(">H16s")
_BLOCK_DATA = struct.Struct(">Q16s")  # what is authenticated with a block
_NO_FILE = bytes(8)  # what is authenticated with a value that belongs to no file
_VALUE_MAX = 1 << 17  # no link target or attribute of Linux is longer (XATTR_SIZE_MAX is 65536)


class Algorithm(NamedTuple):
    """A cipher for content: name, lengths in bytes, info for HKDF."""

    name: str
    key_length: int
    nonce_length: int
    info: bytes


AES_GCM = Algorithm("AES-GCM", 32, 16, b"AES-GCM file content encryption")
AES_SIV = Algorithm("AES-SIV", 64, 16, b"AES-SIV file content encryption")
XCHACHA20_POLY1305 = Algorithm(
    "XChaCha20-Poly1305", 32, 24, b"XChaCha20-Poly1305 file content encryption"
)
_CLASSES: Dict[Algorithm, Any] = {
    AES_GCM: aead.AESGCM,
    AES_SIV: aead.AESSIV,
    XCHACHA20_POLY1305: XChaCha20Poly1305,
}


class Layout:
    """Where things are in a file encrypted with `algorithm`: sizes and offsets, no key needed."""

    def __init__(self, algorithm: Algorithm) -> None:
        self.algorithm = algorithm
        self.overhead = algorithm.nonce_length + TAG_LENGTH
        self.encrypted_block_size = BLOCK_SIZE + self.overhead

    def encrypted_size(self, size: int) -> int:
        """Return the encrypted size of a file of `size` bytes; `OutOfRange` past off_t."""
        if size <= 0:
            return _check_range(size, 0)
        blocks = -(-size // BLOCK_SIZE)
        return _check_range(HEADER_SIZE + size + blocks * self.overhead, 0)

    def plaintext_size(self, size: int) -> int:
        """Return the plaintext's size in an encrypted file of `size` bytes; `OutOfRange` past off_t.

        This is for stat, so it does not fail for a file that was cut: a last block too short for a
        byte counts as one byte (decrypting it raises `TruncatedBlock`), a header alone or part of
        it as none.
        """
        _check_range(size, 0)
        if size <= HEADER_SIZE:
            return 0
        blocks, rest = divmod(size - HEADER_SIZE, self.encrypted_block_size)
        return blocks * BLOCK_SIZE + (max(rest - self.overhead, 1) if rest else 0)

    def block_offset(self, block: int) -> int:
        """Return where block number `block` begins in the encrypted file."""
        return HEADER_SIZE + block * self.encrypted_block_size

    def locate(self, offset: int, length: int) -> "BlockRange":
        """Say which blocks hold `length` plain bytes from `offset`; `OutOfRange` past off_t."""
        _check_range(offset, length)
        first, skip = divmod(offset, BLOCK_SIZE)
        count = -(-(skip + length) // BLOCK_SIZE) if length else 0
        start, size = self.block_offset(first), count * self.encrypted_block_size
        _check_range(start, size)
        return BlockRange(first, skip, start, size)


class BlockRange(NamedTuple):
    """Whole blocks of an encrypted file that hold a range of its plaintext.

    `first` is the first block's number, `skip` how many bytes of its plaintext lie before the
    range, `offset` and `length` where the blocks are in the encrypted file (the last one may end
    earlier).
    """

    first: int
    skip: int
    offset: int
    length: int


def new_file_id() -> bytes:
    """Return 16 random bytes that name a new file in the header and in each block."""
    return os.urandom(FILE_ID_LENGTH)


def pack_header(file_id: bytes) -> bytes:
    """Return the 18 bytes at the start of a non-empty file; `InvalidHeader` for a bad ID."""
    return _HEADER.pack(_VERSION, _check_file_id(file_id))


def parse_header(data: bytes) -> bytes:
    """Return the 16-byte file ID from the 18 bytes of a header.

    Raises `InvalidHeader` if the header is shorter or longer, of another version, or the ID all
    zero.
    """
    if len(data) != HEADER_SIZE:
        raise InvalidHeader(f"the header has {len(data)} bytes, not 18")
    version, file_id = _HEADER.unpack(data)
    if version != _VERSION:
        raise InvalidHeader(f"the header says version {version}, not 2")
    return _check_file_id(file_id)


class ContentCipher(Layout):
    """Encrypts and decrypts content with one key; may be used by several threads at once.

    `key` has the algorithm's key length, else `InvalidKey`. Raises `CipherUnavailable` where
    the installed libraries have no such cipher: XChaCha20-Poly1305 needs PyNaCl, AES-SIV OpenSSL 3.
    """

    def __init__(self, algorithm: Algorithm, key: bytes) -> None:
        super().__init__(algorithm)
        if len(key) != algorithm.key_length:
            raise InvalidKey(f"the key for {algorithm.name} has {len(key)} bytes")
        self._zero_nonce = bytes(algorithm.nonce_length)
        try:
            cipher = _CLASSES[algorithm](key)
        except UnsupportedAlgorithm as error:
            raise CipherUnavailable(f"{algorithm.name} is not available here: {error}") from None
        # (nonce, data, associated data) -> data
        self._seal: Callable[[bytes, Buffer, bytes], bytes] = cipher.encrypt
        self._open: Callable[[bytes, Buffer, bytes], bytes] = cipher.decrypt
        if algorithm is AES_SIV:  # RFC 5297, section 3: the nonce is the last associated data
            self._seal = lambda nonce, data, aad: cipher.encrypt(data, [aad, nonce])
            self._open = lambda nonce, data, aad: cipher.decrypt(data, [aad, nonce])

    def encrypt_blocks(
        self, plaintext: Buffer, first_block: int, file_id: bytes, block0_iv: Optional[bytes] = None
    ) -> bytes:
        """Encrypt `plaintext` as the blocks from number `first_block` on; only the last may be short.

        With `block0_iv` None each nonce is random, as a file that can be written needs it. Else it
        is 16 bytes from which the nonces are counted, so that equal input gives equal output; only
        AES-SIV bears that, so `UnsafeNonce` for others. Raises `InvalidHeader` for an impossible
        file ID and `OutOfRange` past off_t.
        """
        _check_range(first_block * BLOCK_SIZE, len(plaintext))
        view = memoryview(plaintext)
        starts = range(0, len(view), BLOCK_SIZE)
        nonces = self._nonces(first_block, len(starts), block0_iv)
        sealed = map(
            self._seal,
            nonces,
            [view[start : start + BLOCK_SIZE] for start in starts],
            _block_data(first_block, len(starts), file_id),
        )
        output = io.BytesIO()
        output.writelines(chain.from_iterable(zip(nonces, sealed)))
        return output.getvalue()

    def decrypt_blocks(self, encrypted: Buffer, first_block: int, file_id: bytes) -> bytes:
        """Decrypt the whole blocks from number `first_block` on; only the file's last may be short.

        A full block of zeros is a hole and gives zeros (contentenc/file_holes.go); nothing tells it
        from a block that was erased. Raises `AuthenticationFailed`, `TruncatedBlock` or `ZeroNonce`
        with the number of the first bad block, and then returns none of the plaintext;
        `InvalidHeader` for an impossible file ID, `OutOfRange` past off_t.
        """
        _check_range(self.block_offset(first_block), len(encrypted))
        data = bytes(encrypted)
        view = memoryview(data)
        size, nonce_length = self.encrypted_block_size, self.algorithm.nonce_length
        starts = range(0, len(data), size)
        if 0 < len(data) - len(data) // size * size <= self.overhead:
            raise TruncatedBlock("too short", first_block + len(starts) - 1)
        nonces = [data[start : start + nonce_length] for start in starts]
        opened = map(
            self._open_or_hole if self._zero_nonce in nonces else self._open,
            nonces,
            [view[start + nonce_length : start + size] for start in starts],
            _block_data(first_block, len(starts), file_id),
        )
        output = io.BytesIO()
        try:
            output.writelines(opened)
        except InvalidTag:
            bad = first_block + output.tell() // BLOCK_SIZE
            raise AuthenticationFailed("does not authenticate", bad) from None
        except ZeroNonce:
            bad = first_block + output.tell() // BLOCK_SIZE
            raise ZeroNonce("the nonce is all zero", bad) from None
        return output.getvalue()

    def encrypt_value(self, value: bytes, nonce: Optional[bytes] = None) -> bytes:
        """Encrypt a link target or an attribute's value; an empty one stays empty.

        `value` has at most 131072 bytes, else `OutOfRange`. `nonce` None means a random one; else
        16 bytes, for AES-SIV only, or `UnsafeNonce`.
        """
        if not value:
            return b""
        if len(value) > _VALUE_MAX:
            raise OutOfRange(f"a value of {len(value)} bytes is too long")
        [nonce] = self._nonces(0, 1, nonce)
        return nonce + self._seal(nonce, value, _NO_FILE)

    def decrypt_value(self, encrypted: bytes) -> bytes:
        """Undo `encrypt_value`. Raises any `BlockError`, and `OutOfRange` for too long a value."""
        if not encrypted:
            return b""
        if len(encrypted) > _VALUE_MAX + self.overhead:
            raise OutOfRange(f"a value of {len(encrypted)} bytes is too long")
        if len(encrypted) <= self.overhead:
            raise TruncatedBlock("the value is too short")
        nonce = encrypted[: self.algorithm.nonce_length]
        if nonce == self._zero_nonce:
            raise ZeroNonce("the value's nonce is all zero")
        try:
            return self._open(nonce, encrypted[self.algorithm.nonce_length :], _NO_FILE)
        except InvalidTag:
            raise AuthenticationFailed("the value does not authenticate") from None

    def _nonces(self, first_block: int, count: int, block0_iv: Optional[bytes]) -> List[bytes]:
        length = self.algorithm.nonce_length
        if block0_iv is None:
            pool = os.urandom(count * length)
            return [pool[start : start + length] for start in range(0, count * length, length)]
        if self.algorithm is not AES_SIV:
            raise UnsafeNonce(f"{self.algorithm.name} must choose its nonces itself")
        if len(block0_iv) != length:
            raise OutOfRange(f"an IV of {len(block0_iv)} bytes is not one of {length}")
        counter = int.from_bytes(block0_iv[8:], "big") + first_block
        return [
            block0_iv[:8] + (number % (1 << 64)).to_bytes(8, "big")
            for number in range(counter, counter + count)
        ]

    def _open_or_hole(self, nonce: bytes, sealed: memoryview, aad: bytes) -> bytes:
        if nonce != self._zero_nonce:
            return self._open(nonce, sealed, aad)
        if bytes(sealed) != bytes(BLOCK_SIZE + TAG_LENGTH):
            raise ZeroNonce("the nonce is all zero")
        return bytes(BLOCK_SIZE)


def _block_data(first_block: int, count: int, file_id: bytes) -> "map[bytes]":
    numbers = range(first_block, first_block + count)
    return map(_BLOCK_DATA.pack, numbers, repeat(_check_file_id(file_id)))


def _check_file_id(file_id: bytes) -> bytes:
    if len(file_id) != FILE_ID_LENGTH or not any(file_id):
        raise InvalidHeader("the file ID is not 16 bytes, or it is all zero")
    return file_id


def _check_range(offset: int, length: int) -> int:
    if offset < 0 or length < 0 or offset + length > SIZE_MAX:
        raise OutOfRange("negative, or past the largest file")
    return offset
