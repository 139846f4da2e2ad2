"""MB/s of fusepy_legacy.crypt by whole requests, beside `gocryptfs -speed` in the same run.

usage: python -m benchmarks.crypt_speed

gocryptfs encrypts blocks of 4096 bytes in a loop and keeps nothing; here a request goes from plain
bytes to the bytes of the file, nonces and joining included. The best of many short rounds is taken
on both sides, because other programs use the machine as well. The exit code is 1 when a goal is missed.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from functools import partial
from typing import Callable, Dict, Optional

import cryptography

from fusepy_legacy.crypt.content import AES_GCM, AES_SIV, XCHACHA20_POLY1305, ContentCipher
from fusepy_legacy.crypt.errors import CipherUnavailable
from fusepy_legacy.crypt.names import NameCipher

FILE_ID = os.urandom(16)
GOALS = {"AES-GCM": 0.5, "AES-SIV": 1.5}  # times the speed of gocryptfs
SIZES = (1 << 17, 1 << 20)  # the requests of FUSE, with and without max_pages


def seconds(call: Callable[[], object], rounds: int) -> float:
    best = float("inf")
    for _ in range(rounds):
        begin = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - begin)
    return best


def gocryptfs() -> Dict[str, float]:
    """The fastest of gocryptfs's own implementations of each cipher, in MB/s; none without gocryptfs."""
    result: Dict[str, float] = {}
    if shutil.which("gocryptfs") is None:
        print("gocryptfs is missing: nothing to compare with")
        return result
    for _ in range(2):
        output = subprocess.check_output(["gocryptfs", "-speed"]).decode()
        for name, rate in re.findall(
            r"^(AES-GCM|AES-SIV|XChaCha20-Poly1305)\S*\s+([\d.]+) MB/s", output, re.M
        ):
            result[name] = max(result.get(name, 0), float(rate))
    return result


def main() -> int:
    """Measure and print; return 1 when a cipher is slower than its goal."""
    print(f"Python {sys.version.split()[0]}, cryptography {cryptography.__version__}")
    peer = gocryptfs()
    missed = 0
    for algorithm in (AES_GCM, AES_SIV, XCHACHA20_POLY1305):
        try:
            cipher = ContentCipher(algorithm, os.urandom(algorithm.key_length))
        except CipherUnavailable as error:
            print(error)
            continue
        theirs, goal = peer.get(algorithm.name), GOALS.get(algorithm.name)
        for size in SIZES:
            plain = os.urandom(size)
            sealed = cipher.encrypt_blocks(plain, 0, FILE_ID)
            for direction, call in [
                ("encrypt", partial(cipher.encrypt_blocks, plain, 0, FILE_ID)),
                ("decrypt", partial(cipher.decrypt_blocks, sealed, 0, FILE_ID)),
            ]:
                rate = size / seconds(call, 200) / 1e6
                title = f"{algorithm.name} {direction} {size >> 10:5} KiB"
                print(f"{title}: {rate:5.0f} MB/s{_compared(rate, theirs, goal)}")
                missed += bool(theirs and goal and rate < goal * theirs)
    names, iv = NameCipher(os.urandom(32)), os.urandom(16)
    for length in (12, 60, 200):
        name = b"n" * length
        encrypt = 1 / seconds(partial(names.encrypt_name, name, iv), 2000)
        text = names.encrypt_name(name, iv)
        decrypt = 1 / seconds(partial(names.decrypt_name, text, iv), 2000)
        print(f"names of {length} bytes: {encrypt:.0f}/s encrypted, {decrypt:.0f}/s decrypted")
    return 1 if missed else 0


def _compared(rate: float, theirs: Optional[float], goal: Optional[float]) -> str:
    if not theirs:
        return ""
    text = f", gocryptfs {theirs:5.0f}, ratio {rate / theirs:.2f}"
    if goal:
        text += f" (goal {goal}{'' if rate >= goal * theirs else ': missed'})"
    return text


if __name__ == "__main__":
    sys.exit(main())
