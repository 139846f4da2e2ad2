"""How a check says what it expects."""

import os
import pathlib
import re
import time
from contextlib import contextmanager
from typing import Any, Callable, ContextManager, Iterator

import pytest


def raises_errno(*numbers: int) -> ContextManager[Any]:
    """The block raises OSError with one of these errno."""
    alternatives = "|".join(str(number) for number in numbers)
    return pytest.raises(OSError, match=re.compile(rf"^\[Errno (?:{alternatives})\]"))


def eventually(condition: Callable[[], object], seconds: float = 4.0) -> bool:
    """Poll the condition until it holds or the time is up; an OSError counts as not yet."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return True
        except OSError:
            pass
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)


def require_root() -> None:
    """Skip the check when the caller is not root."""
    if os.geteuid() != 0:
        pytest.skip("needs root")


def require_user_attributes(backing: pathlib.Path) -> None:
    """Skip the check when the backing filesystem has no user extended attributes."""
    try:
        os.setxattr(str(backing), "user.probe", b"")
        os.removexattr(str(backing), "user.probe")
    except OSError:
        pytest.skip("the backing filesystem has no user extended attributes")


@contextmanager
def umask(value: int) -> Iterator[None]:
    """The block runs with this umask."""
    before = os.umask(value)
    try:
        yield
    finally:
        os.umask(before)
