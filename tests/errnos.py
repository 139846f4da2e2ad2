"""Expect an OSError by its errno, which is what a caller of a filesystem sees."""

import contextlib
import errno
from typing import Iterator


@contextlib.contextmanager
def raises_errno(*expected: int) -> Iterator[None]:
    """AssertionError unless the block raises OSError with one of these errnos."""
    names = " or ".join(errno.errorcode[number] for number in expected)
    try:
        yield
    except OSError as error:
        if error.errno not in expected:
            raise AssertionError(f"{error} instead of {names}") from error
    else:
        raise AssertionError(f"no error instead of {names}")
