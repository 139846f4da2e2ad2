"""MB/s of fusepy_legacy.crypt by whole requests, beside `gocryptfs -speed` in the same run.

usage: python benchmarks/crypt_speed.py

gocryptfs encrypts blocks of 4096 bytes in a loop and keeps nothing; here a request goes from plain
bytes to the bytes of the file, nonces and joining included. The best of many short rounds is taken
on both sides, because other programs use the machine as well.
"""

import os
import re
import subprocess
import sys
import time
from functools import partial
from typing import Callable, Dict

import cryptography

from fusepy_legacy.crypt.content import AES_GCM, AES_SIV, ContentCipher
from fusepy_legacy.crypt.names import NameCipher

FILE_ID = os.urandom(16)
GOALS = {"AES-GCM": 0.5, "AES-SIV": 1.5}


def seconds(call: Callable[[], object], rounds: int) -> float:
    best = float("inf")
    for _ in range(rounds):
        begin = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - begin)
    return best


def gocryptfs() -> Dict[str, float]:
    """The fastest of gocryptfs's own implementations of each cipher, in MB/s."""
    result: Dict[str, float] = {}
    for _ in range(2):
        output = subprocess.check_output(["gocryptfs", "-speed"]).decode()
        for name, rate in re.findall(r"^(AES-GCM|AES-SIV)\S*\s+([\d.]+) MB/s", output, re.M):
            result[name] = max(result.get(name, 0), float(rate))
    return result


def main() -> None:
    print(f"Python {sys.version.split()[0]}, cryptography {cryptography.__version__}")
    peer = gocryptfs()
    for algorithm in (AES_GCM, AES_SIV):
        cipher = ContentCipher(algorithm, os.urandom(algorithm.key_length))
        for size in (1 << 17, 1 << 20):
            plain = os.urandom(size)
            sealed = cipher.encrypt_blocks(plain, 0, FILE_ID)
            for direction, call in [
                ("encrypt", partial(cipher.encrypt_blocks, plain, 0, FILE_ID)),
                ("decrypt", partial(cipher.decrypt_blocks, sealed, 0, FILE_ID)),
            ]:
                rate = size / seconds(call, 200) / 1e6
                theirs = peer[algorithm.name]
                print(
                    f"{algorithm.name} {direction} {size >> 10:5} KiB: {rate:5.0f} MB/s, gocryptfs "
                    f"{theirs:5.0f}, ratio {rate / theirs:.2f} (goal {GOALS[algorithm.name]})"
                )
    names, iv = NameCipher(os.urandom(32)), os.urandom(16)
    for length in (12, 60, 200):
        name = b"n" * length
        encrypt = 1 / seconds(partial(names.encrypt_name, name, iv), 2000)
        text = names.encrypt_name(name, iv)
        decrypt = 1 / seconds(partial(names.decrypt_name, text, iv), 2000)
        print(f"names of {length} bytes: {encrypt:.0f}/s encrypted, {decrypt:.0f}/s decrypted")


if __name__ == "__main__":
    main()
