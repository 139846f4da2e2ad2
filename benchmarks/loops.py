"""The measured loops: one system call, or the few that belong together, again and again.

What is cold and what is warm is made so, not hoped for. The files of a row are new in every round, and they
are made in the backing directory, never through the mount. So the mount has never been asked for these
names and holds none of this data, while the backing filesystem has just written both and holds them in
memory: the difference to `native` is the filesystem under test. Where a row wants names that the mount
knows, it asks for each with stat(2) right before the loop.

The loops call the operating system directly, with names and offsets made beforehand.
"""

import os
import random
from typing import List

from benchmarks.ground import BLOCK, PAGE, Ground, Sizes, Stopwatch


def create(ground: Ground, sizes: Sizes, stopwatch: Stopwatch) -> int:
    """Create empty files and close them."""
    names = ground.names(sizes.files)
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
    with stopwatch:
        for name in names:
            os.close(os.open(name, flags, 0o644))
    return len(names)


def cold_stat(ground: Ground, sizes: Sizes, stopwatch: Stopwatch) -> int:
    """Ask for the attributes of files that the mount has never been asked for."""
    names = ground.make_files(sizes.files)
    with stopwatch:
        for name in names:
            os.stat(name)
    return len(names)


def open_read_close(ground: Ground, sizes: Sizes, stopwatch: Stopwatch) -> int:
    """Read whole files of 4 KiB: names known, content cold."""
    names = ground.make_known_files(sizes.files, os.urandom(PAGE))
    with stopwatch:
        for name in names:
            fd = os.open(name, os.O_RDONLY)
            os.read(fd, PAGE)
            os.close(fd)
    return len(names)


def scan(ground: Ground, sizes: Sizes, stopwatch: Stopwatch) -> int:
    """List a directory and ask for the attributes of each entry, all cold."""
    ground.make_files(sizes.scanned)
    with stopwatch:
        with os.scandir(ground.mounted) as entries:
            for entry in entries:
                entry.stat()
    return sizes.scanned


def unlink(ground: Ground, sizes: Sizes, stopwatch: Stopwatch) -> int:
    """Remove files with known names."""
    names = ground.make_known_files(sizes.files)
    with stopwatch:
        for name in names:
            os.unlink(name)
    return len(names)


def rename(ground: Ground, sizes: Sizes, stopwatch: Stopwatch) -> int:
    """Rename files with known names to new names in the same directory."""
    pairs = list(zip(ground.make_known_files(sizes.files), ground.names(sizes.files, "new")))
    with stopwatch:
        for old, new in pairs:
            os.rename(old, new)
    return len(pairs)


def mkdir_rmdir(ground: Ground, sizes: Sizes, stopwatch: Stopwatch) -> int:
    """Make directories, then remove them; an operation is both."""
    names = ground.names(sizes.files)
    with stopwatch:
        for name in names:
            os.mkdir(name)
        for name in names:
            os.rmdir(name)
    return len(names)


def sequential_write(ground: Ground, sizes: Sizes, stopwatch: Stopwatch) -> int:
    """Write a new file by blocks of 1 MiB, open and close included; not brought to the disk."""
    content = os.urandom(BLOCK)
    name = f"{ground.mounted}/data"
    with stopwatch:
        fd = os.open(name, os.O_CREAT | os.O_WRONLY, 0o644)
        written = 0
        for _ in range(sizes.blocks):
            written += os.write(fd, content)
        os.close(fd)
    _expect(written, sizes.blocks * BLOCK)
    os.unlink(name)
    return sizes.blocks


def sequential_read(ground: Ground, sizes: Sizes, stopwatch: Stopwatch) -> int:
    """Read a file by blocks of 1 MiB, open and close included."""
    name = ground.make_large_file(sizes.blocks)
    buffers = [bytearray(BLOCK)]  # one for all: os.read would map and clear memory for each block
    with stopwatch:
        fd = os.open(name, os.O_RDONLY)
        read = 0
        for _ in range(sizes.blocks):
            read += os.readv(fd, buffers)
        os.close(fd)
    _expect(read, sizes.blocks * BLOCK)
    os.unlink(name)
    return sizes.blocks


def random_read(ground: Ground, sizes: Sizes, stopwatch: Stopwatch) -> int:
    """Read 4 KiB at random places of a file, no place twice."""
    name = ground.make_large_file(sizes.blocks)
    offsets = _random_offsets(sizes)
    fd = os.open(name, os.O_RDONLY)
    with stopwatch:
        for offset in offsets:
            os.pread(fd, PAGE, offset)
    os.close(fd)
    os.unlink(name)
    return len(offsets)


def random_write(ground: Ground, sizes: Sizes, stopwatch: Stopwatch) -> int:
    """Overwrite 4 KiB at random places of a file, no place twice; not brought to the disk."""
    name = ground.make_large_file(sizes.blocks)
    offsets = _random_offsets(sizes)
    content = os.urandom(PAGE)
    fd = os.open(name, os.O_WRONLY)
    with stopwatch:
        for offset in offsets:
            os.pwrite(fd, content, offset)
    os.close(fd)
    os.unlink(name)
    return len(offsets)


def _random_offsets(sizes: Sizes) -> List[int]:
    """Return page offsets, the same ones in each round and for each candidate."""
    pages = range(sizes.blocks * BLOCK // PAGE)
    return [page * PAGE for page in random.Random(1).sample(pages, sizes.accesses)]


def _expect(transferred: int, expected: int) -> None:
    """A fast loop that skips bytes is not fast."""
    if transferred != expected:
        raise OSError(f"{transferred} bytes transferred instead of {expected}")
