"""Standard output that is full, or that nobody reads any more."""

import contextlib
import os
import sys
from typing import Iterator


@contextlib.contextmanager
def complete_output() -> Iterator[None]:
    """Around what prints: raise OSError when standard output does not take all of it.

    Once: the interpreter flushes again at its end, and would complain in its own words.
    """
    try:
        try:
            yield
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            descriptor = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            os.dup2(descriptor, sys.stdout.fileno())
            os.close(descriptor)
        raise
