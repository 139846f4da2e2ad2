"""What a row works on: a directory, how much to do there, and a clock."""

import os
import time
from typing import Callable, List, NamedTuple

PAGE = 4096
BLOCK = 1 << 20


class Sizes(NamedTuple):
    """How much one measurement does."""

    files: int  # of a metadata row
    scanned: int  # files in the directory that is listed
    blocks: int  # of 1 MiB, in a file of a data row
    accesses: int  # random ones to such a file


FULL = Sizes(files=1000, scanned=5000, blocks=256, accesses=4000)
QUICK = Sizes(files=300, scanned=1000, blocks=16, accesses=500)
WARM_UP = Sizes(files=50, scanned=50, blocks=2, accesses=50)


class Ground(NamedTuple):
    """One directory, empty at first, by its two names."""

    mounted: str  # below the mount point
    backing: str  # below the root of the mount; for native the same

    def names(self, count: int, prefix: str = "file") -> List[str]:
        """Return paths below the mount point."""
        return [f"{self.mounted}/{prefix}{number:06}" for number in range(count)]

    def make_files(self, count: int, content: bytes = b"") -> List[str]:
        """Make files without the mount knowing; return their paths below the mount point."""
        for number in range(count):
            with open(f"{self.backing}/file{number:06}", "wb", 0) as file:
                file.write(content)
        return self.names(count)

    def make_known_files(self, count: int, content: bytes = b"") -> List[str]:
        """Make files and look each up through the mount; return their paths there."""
        names = self.make_files(count, content)
        for name in names:
            os.stat(name)
        return names

    def make_large_file(self, blocks: int) -> str:
        """Make a file of blocks of 1 MiB without the mount knowing; return its path there."""
        content = os.urandom(BLOCK)
        with open(f"{self.backing}/data", "wb", 0) as file:
            for _ in range(blocks):
                file.write(content)
        return f"{self.mounted}/data"


class Stopwatch:
    """Context manager around a loop: how long it took, and what of it the serving process computed."""

    def __init__(self, daemon_cpu: Callable[[], float]) -> None:
        """`daemon_cpu` returns the CPU seconds that the serving process has used so far."""
        self._daemon_cpu = daemon_cpu
        self.seconds = 0.0
        self.daemon_seconds = 0.0

    def __enter__(self) -> "Stopwatch":
        self._daemon_before = self._daemon_cpu()
        self._before = time.perf_counter()
        return self

    def __exit__(self, *exception: object) -> None:
        self.seconds = time.perf_counter() - self._before
        self.daemon_seconds = self._daemon_cpu() - self._daemon_before
