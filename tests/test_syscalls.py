"""fusepy_legacy.syscalls where libc or the machine is not what it is here."""

import ctypes
import errno
import os
from pathlib import Path
from typing import Any, Callable, Dict, Iterator

import pytest

from fusepy_legacy import syscalls
from fusepy_legacy.beneath import Beneath
from fusepy_legacy.syscalls import Timestamp
from tests.errnos import raises_errno

NOW = Timestamp(0, syscalls.UTIME_NOW)

CALLS: Dict[str, Callable[[int], object]] = {
    "copy_file_range": lambda opened: syscalls.copy_file_range(opened, 0, opened, 10, 1),
    "fallocate": lambda opened: syscalls.fallocate(opened, 0, 0, 1),
    "fanotify_init": lambda opened: syscalls.fanotify_init(0, 0),
    "fanotify_mark": lambda opened: syscalls.fanotify_mark(opened, 0, 0, opened),
    "futimens": lambda opened: syscalls.futimens(opened, NOW, NOW),
    "open_by_handle_at": lambda opened: syscalls.open_by_handle_at(opened, bytes(8), 0),
    "syncfs": syscalls.syncfs,
    "unshare": lambda opened: syscalls.unshare(0),
    "utimensat": lambda opened: syscalls.utimensat(f"/proc/self/fd/{opened}", NOW, NOW),
}


Forget = Callable[..., None]


@pytest.fixture
def forget(monkeypatch: pytest.MonkeyPatch) -> Iterator[Forget]:
    """Let libc be one that does not have these functions."""

    def forget(*names: str) -> None:
        class Old(ctypes.CDLL):
            def __getattr__(self, name: str) -> Any:
                if name in names:
                    raise AttributeError(f"undefined symbol: {name}")
                return super().__getattr__(name)

        monkeypatch.setattr(ctypes, "CDLL", Old)
        syscalls._calls.cache_clear()

    yield forget
    syscalls._calls.cache_clear()


@pytest.mark.parametrize("name", CALLS)
def test_what_libc_is_too_old_for_is_enosys(name: str, forget: Forget, tmp_path: Path) -> None:
    """When it is called; all else works, such as opening beneath a directory."""
    forget("fallocate64", *CALLS)
    beneath = Beneath(str(tmp_path))
    try:
        opened = beneath.open("/file", os.O_CREAT | os.O_RDWR, 0o600)
    finally:
        beneath.close()
    try:
        with raises_errno(errno.ENOSYS):
            CALLS[name](opened)
    finally:
        os.close(opened)


def test_no_time_of_birth_is_known_where_libc_cannot_ask(forget: Forget, tmp_path: Path) -> None:
    """Nor is that an error: nobody needs it."""
    descriptor = os.open(str(tmp_path), os.O_PATH)
    try:
        born = syscalls.birthtime(descriptor)
        assert born is None or born.tv_sec <= os.fstat(descriptor).st_ctime
        forget("statx")
        assert syscalls.birthtime(descriptor) is None
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("missing", ["fallocate", "fallocate64"])
def test_fallocate_is_the_one_with_64_bits(missing: str, forget: Forget, tmp_path: Path) -> None:
    """glibc calls it fallocate64 on every machine, and musl fallocate."""
    forget(missing)
    with (tmp_path / "file").open("w") as file:
        syscalls.fallocate(file.fileno(), 0, 0, 10)
        assert os.fstat(file.fileno()).st_size == 10


class _ShortTimespec(ctypes.Structure):
    """That of a 32-bit machine."""

    _fields_ = (("tv_sec", ctypes.c_int32), ("tv_nsec", ctypes.c_int32))


@pytest.mark.parametrize("seconds", [1 << 31, -(1 << 31) - 1, 1 << 32])
def test_a_time_that_libc_cannot_say_is_refused(
    seconds: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a long has 32 bits; it does not become another time."""
    monkeypatch.setattr(syscalls, "_Timespec", _ShortTimespec)
    fits, too_much = Timestamp((1 << 31) - 1, 0), Timestamp(seconds, 0)
    syscalls._timespecs(fits, Timestamp(-(1 << 31), syscalls.UTIME_OMIT))
    with (tmp_path / "file").open("w") as file:
        before = os.fstat(file.fileno())
        for times in ((too_much, fits), (fits, too_much)):
            with raises_errno(errno.EOVERFLOW):
                syscalls.futimens(file.fileno(), *times)
            with raises_errno(errno.EOVERFLOW):
                syscalls.utimensat(file.name, *times)
        assert os.fstat(file.fileno()) == before
