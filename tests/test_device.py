"""fusepy_legacy.kernel.device: what the kernel says of a reply."""

import errno
import os
from typing import Iterator

import pytest

from fusepy_legacy.kernel.device import Device
from fusepy_legacy.kernel.latency import UNLIMITED, WakeLatency


@pytest.fixture
def device() -> Iterator[Device]:
    """A device that is never written to."""
    device = Device(-1, 0.0, WakeLatency(UNLIMITED))
    yield device
    device.close()


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize(
    ("number", "taken", "logged"),
    [
        (errno.ENOENT, False, []),  # the request was interrupted
        (errno.ENODEV, True, []),  # unmounted: nobody is left to tell
        (errno.EINVAL, False, ["the kernel refused a reply of 8 bytes"]),
    ],
)
def test_a_reply_that_the_kernel_does_not_take(
    device: Device,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    parts: int,
    number: int,
    taken: bool,
    logged: object,
) -> None:
    """None of them ends the mount; the last is a defect of ours, so the log has it."""

    def write(descriptor: int, data: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "write" if parts == 1 else "writev", write)
    assert device.write(b"a" * 8 if parts == 1 else (b"a" * 4, b"a" * 4)) is taken
    monkeypatch.undo()
    assert caplog.messages == logged
