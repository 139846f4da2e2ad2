"""How fast the ciphers are on this machine."""

import os
import time
from functools import partial
from typing import Callable, Iterator, NamedTuple

from fusepy_legacy.crypt.content import AES_GCM, AES_SIV, XCHACHA20_POLY1305, ContentCipher
from fusepy_legacy.crypt.errors import CipherUnavailable

_SIZE = 1 << 20
_FILE_ID = b"speed" + bytes(11)


class Speed(NamedTuple):
    """MB/s (10^6 bytes) of a cipher for content."""

    name: str
    encrypt: float
    decrypt: float


def measure(seconds: float = 0.2) -> Iterator[Speed]:
    """Yield each cipher's best rate of many requests of 1 MiB within `seconds`.

    A cipher that the installed library has not is left out.
    """
    plain = os.urandom(_SIZE)
    for algorithm in (AES_GCM, AES_SIV, XCHACHA20_POLY1305):
        try:
            cipher = ContentCipher(algorithm, os.urandom(algorithm.key_length))
        except CipherUnavailable:
            continue
        sealed = cipher.encrypt_blocks(plain, 0, _FILE_ID)
        yield Speed(
            algorithm.name,
            _rate(partial(cipher.encrypt_blocks, plain, 0, _FILE_ID), seconds),
            _rate(partial(cipher.decrypt_blocks, sealed, 0, _FILE_ID), seconds),
        )


def _rate(call: Callable[[], object], seconds: float) -> float:
    best, end = float("inf"), time.perf_counter() + seconds
    while best == float("inf") or time.perf_counter() < end:
        begin = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - begin)
    return _SIZE / best / 1e6
