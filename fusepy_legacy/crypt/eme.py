"""EME, the wide-block mode in which names are encrypted: every bit depends on every other.

Halevi and Rogaway, "A Parallelizable Enciphering Mode", 2003 (IACR ePrint 2003/147). The capital
letters in the comments are the paper's. AES comes from the library; the mode around it costs three
calls for a whole name, or for as many names of one length as there are: in a directory's listing
that takes a tenth of the time. Blocks are integers with byte 0 the least significant, and a row of
blocks is one integer with the first block lowest, so that one XOR masks all of them.
"""

import threading
from typing import Callable, List

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from fusepy_legacy.crypt.errors import InvalidKey, OutOfRange

BLOCK = 16
MAX_BLOCKS = 128

_BITS = 8 * BLOCK
_LOW_BLOCK = (1 << _BITS) - 1
_TAIL = 0x87  # x^7 + x^2 + x + 1
_REDUCTION = (1 << _BITS) | _TAIL  # x^128 + x^7 + x^2 + x + 1


def _double(block: int) -> int:
    block <<= 1
    return block ^ _REDUCTION if block >> _BITS else block


def _xor_of_blocks(row: int) -> int:
    total = 0
    while row:
        total ^= row & _LOW_BLOCK
        row >>= _BITS
    return total


def _sums(row: int, count: int) -> int:
    """Return a row whose every block is the sum of the `count` blocks from its own place on."""
    total = row
    for position in range(1, count):
        total ^= row >> _BITS * position
    return total


class _AES(threading.local):
    """AES on whole blocks, its key set up once per thread: threads must not share a context."""

    def __init__(self, key: bytes) -> None:
        cipher = Cipher(algorithms.AES(key), modes.ECB())
        self.encrypt: Callable[[bytes], bytes] = cipher.encryptor().update
        self.decrypt: Callable[[bytes], bytes] = cipher.decryptor().update


class EME:
    """EME with AES-256. `key` is 32 bytes, else `InvalidKey`. Threads may share it."""

    def __init__(self, key: bytes) -> None:
        if len(key) != 32:
            raise InvalidKey(f"the key for names has {len(key)} bytes, not 32")
        self._aes = _AES(key)
        mask = _double(int.from_bytes(self._aes.encrypt(bytes(BLOCK)), "little"))  # L_1 = 2 E(0)
        self._masks: List[int] = [0]  # at n: L_1 to L_n in a row
        for position in range(MAX_BLOCKS):
            self._masks.append(self._masks[position] | mask << _BITS * position)
            mask = _double(mask)

    def encrypt(self, tweak: bytes, data: bytes) -> bytes:
        """Encrypt `data`, 16 to 2048 bytes in steps of 16, under a 16-byte tweak, to as many bytes.

        Raises `OutOfRange` for any other length.
        """
        return self._transform(self._aes.encrypt, tweak, data)

    def decrypt(self, tweak: bytes, data: bytes) -> bytes:
        """Undo `encrypt`. EME has no redundancy: what was changed decrypts to random bytes."""
        return self._transform(self._aes.decrypt, tweak, data)

    def encrypt_many(self, tweak: bytes, data: bytes, count: int) -> bytes:
        """Encrypt messages of `count` blocks each, which `data` holds one behind the other.

        The result is what `encrypt` makes of each, in the same order. Raises `OutOfRange` if `count` is not
        1 to 128, or `data` is not a whole number of messages.
        """
        return self._transform_many(self._aes.encrypt, tweak, data, count)

    def decrypt_many(self, tweak: bytes, data: bytes, count: int) -> bytes:
        """Undo `encrypt_many`."""
        return self._transform_many(self._aes.decrypt, tweak, data, count)

    def _transform_many(
        self, aes: Callable[[bytes], bytes], tweak: bytes, data: bytes, count: int
    ) -> bytes:
        length = len(data)
        width = count * BLOCK
        if not 1 <= count <= MAX_BLOCKS or length % width or len(tweak) != BLOCK:
            raise OutOfRange(f"EME takes 1 to {MAX_BLOCKS} blocks and a tweak of 16 bytes")
        messages = length // width
        # The sums and products of a message are in its first block; the others stay zero.
        rest = bytes(width - BLOCK)
        first = int.from_bytes((b"\xff" * BLOCK + rest) * messages, "little")
        top = int.from_bytes((b"\0" * (BLOCK - 1) + b"\x80" + rest) * messages, "little")
        masks = int.from_bytes(self._masks[count].to_bytes(width, "little") * messages, "little")
        t = int.from_bytes((tweak + rest) * messages, "little")
        masked = int.from_bytes(data, "little") ^ masks
        row = int.from_bytes(aes(masked.to_bytes(length, "little")), "little")  # PPP
        mp = t ^ _sums(row, count) & first
        mc = int.from_bytes(aes(mp.to_bytes(length, "little")), "little") & first
        m = mp ^ mc
        row &= ~first
        for position in range(1, count):
            high = m & top
            m = (m ^ high) << 1 ^ (high >> _BITS - 1) * _TAIL
            row ^= m << _BITS * position
        row |= mc ^ t ^ _sums(row, count) & first  # CCC, its first block from all others
        result = int.from_bytes(aes(row.to_bytes(length, "little")), "little") ^ masks
        return result.to_bytes(length, "little")

    def _transform(self, aes: Callable[[bytes], bytes], tweak: bytes, data: bytes) -> bytes:
        length = len(data)
        count = length // BLOCK
        if length % BLOCK or not 1 <= count <= MAX_BLOCKS or len(tweak) != BLOCK:
            raise OutOfRange(f"EME takes 1 to {MAX_BLOCKS} blocks and a tweak of 16 bytes")
        masks = self._masks[count]
        t = int.from_bytes(tweak, "little")
        masked = int.from_bytes(data, "little") ^ masks
        row = int.from_bytes(aes(masked.to_bytes(length, "little")), "little")  # PPP
        mp = t ^ _xor_of_blocks(row)
        mc = int.from_bytes(aes(mp.to_bytes(BLOCK, "little")), "little")
        m = mp ^ mc
        row >>= _BITS  # blocks 2 and up
        for position in range(count - 1):
            m = _double(m)
            row ^= m << _BITS * position
        row = row << _BITS | (mc ^ t ^ _xor_of_blocks(row))  # CCC, its first block from all others
        result = int.from_bytes(aes(row.to_bytes(length, "little")), "little") ^ masks
        return result.to_bytes(length, "little")
