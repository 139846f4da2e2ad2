"""fusepy_legacy.kernel.device: what the kernel says of a reply."""

import errno
import logging
import os
import threading
import time
from typing import Iterator, List

import pytest

from fusepy_legacy.kernel.device import Device
from fusepy_legacy.kernel.engine import Reply
from fusepy_legacy.kernel.latency import UNLIMITED, WakeLatency
from tests.errnos import raises_errno


@pytest.fixture
def device() -> Iterator[Device]:
    """A device that is never written to."""
    descriptor = os.open(os.devnull, os.O_RDONLY)
    device = Device(descriptor, 0.0, WakeLatency(UNLIMITED))
    yield device
    device.close()
    os.close(descriptor)


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize(
    ("number", "taken", "logged"),
    [
        (errno.ENOENT, False, []),  # the request was interrupted
        (errno.ENODEV, True, []),  # unmounted: nobody is left to tell
        (errno.EINVAL, False, ["the kernel refused a reply of 8 bytes: Invalid argument"]),
        (errno.ENOMEM, False, ["the kernel refused a reply of 8 bytes: Cannot allocate memory"]),
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
    """None of them ends the mount; the log has those that are a defect of ours, or a lack of memory."""

    def write(descriptor: int, data: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "write" if parts == 1 else "writev", write)
    assert device.write(b"a" * 8 if parts == 1 else (b"a" * 4, b"a" * 4)) is taken
    monkeypatch.undo()
    assert caplog.messages == logged


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENOTDIR, errno.ENOTEMPTY, errno.EIO])
def test_a_notification_that_the_kernel_does_not_take(
    device: Device, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    """What it is about is not there, or something else by now: that is nobody's error."""

    def write(descriptor: int, data: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "write", write)
    caplog.set_level(logging.DEBUG)
    device.notify(b"a" * 16)
    monkeypatch.undo()
    assert [record.levelname for record in caplog.records] == ["DEBUG"]


@pytest.mark.parametrize("reply", [b"a" * 8, (b"a" * 4, b"a" * 4)])
def test_what_comes_after_the_end_goes_nowhere(reply: Reply) -> None:
    """A handler may return long after; the descriptor's number is another file's by then."""
    reader, writer = os.pipe()
    try:
        device = Device(writer, 0.0, WakeLatency(UNLIMITED))
        device.close()
        assert device.write(reply)
        device.notify(b"a" * 8)
        device.close_backing(1)
        with raises_errno(errno.EBADF):
            device.open_backing(0)
        os.set_blocking(reader, False)
        with raises_errno(errno.EAGAIN):
            os.read(reader, 8)
    finally:
        os.close(reader)
        os.close(writer)


def test_nothing_is_read_after_the_end() -> None:
    """Not from what has the descriptor's number by then."""
    reader, writer = os.pipe()
    try:
        device = Device(reader, 0.0, WakeLatency(UNLIMITED))
        device.close()
        os.write(writer, b"precious")
        assert device.read(memoryview(bytearray(8))) is None
        assert os.read(reader, 8) == b"precious"
    finally:
        os.close(reader)
        os.close(writer)


def test_stopping_after_the_end(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unmount may take longer than the mount; what has the number of the pipe by then gets nothing."""
    other = Device(device.descriptor, 0.0, WakeLatency(UNLIMITED))
    other.close()
    written: List[object] = []
    monkeypatch.setattr(os, "write", lambda *arguments: written.append(arguments))
    other.stop()
    monkeypatch.undo()
    assert written == []


@pytest.mark.parametrize("end", ["stop", "close"])
def test_the_end_wakes_readers(end: str) -> None:
    """Those that sleep, and the loop that asks them finds out."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    try:
        device = Device(reader, 0.0, WakeLatency(UNLIMITED))
        found: List[object] = []
        threads = [
            threading.Thread(target=lambda: found.append(device.read(memoryview(bytearray(8)))))
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        time.sleep(0.05)
        getattr(device, end)()
        for thread in threads:
            thread.join(10)
        assert found == [None] * 3
        if end == "stop":
            device.close()
    finally:
        os.close(reader)
        os.close(writer)


def test_a_request_is_taken_after_the_end() -> None:
    """As long as the device is not closed, so that it can be refused; it is not waited for."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    try:
        device = Device(reader, 0.0, WakeLatency(UNLIMITED))
        os.write(writer, b"request")
        device.stop()
        buffer = memoryview(bytearray(8))
        assert device.read(buffer) is None
        assert device.take(buffer) == b"request"
        assert device.take(buffer) is None
        device.close()
    finally:
        os.close(reader)
        os.close(writer)


def test_nothing_is_notified_after_the_end(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel may make it wait for a request, which nobody serves any more."""
    written: List[object] = []

    def write(descriptor: int, data: object) -> None:
        written.append(set(device.notifying))

    device.stop()
    monkeypatch.setattr(os, "write", write)
    device.notify(b"a" * 16)
    assert (written, device.notifying) == ([], set())


def test_who_waits_in_a_notification_is_known(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until it is over."""
    seen: List[object] = []
    monkeypatch.setattr(os, "write", lambda *arguments: seen.append(set(device.notifying)))
    device.notify(b"a" * 16)
    monkeypatch.undo()
    assert (seen, device.notifying) == ([{threading.get_ident()}], set())
