"""Descriptors that are closed when a block ends."""

import os
from contextlib import contextmanager
from typing import Any, Iterator


@contextmanager
def opened(
    path: Any, flags: int = os.O_RDONLY, mode: int = 0o666, **keywords: Any
) -> Iterator[int]:
    """The descriptor of os.open for the time of the block."""
    descriptor = os.open(path, flags, mode, **keywords)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes) -> None:
    """Write every byte, in as many calls as it takes."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def read_all(descriptor: int, size: int = 1 << 20) -> bytes:
    """Read to the end of the file in pieces of the given size."""
    return b"".join(iter(lambda: os.read(descriptor, size), b""))
