"""fusepy_legacy.kernel.readers: processes that answer requests in the engine's place.

A pipe stands in for the device: each write(2) of a reply is short enough to arrive in one piece.
"""

import errno
import logging
import os
import select
import signal
import struct
import threading
import time
import warnings
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Tuple

import pytest

from fusepy_legacy.kernel import readers as readers_module
from fusepy_legacy.kernel.readers import Readers
from tests.children import in_child

PATIENCE = 10  # seconds

Serve = Callable[[int, bytes], bytes]


class Desk:
    """Readers, and what they have answered."""

    def __init__(self, serve: Serve, count: int = 2) -> None:
        self.device, self.writer = os.pipe()
        with warnings.catch_warnings():
            # Python 3.12 warns when other threads run at a fork; the only one is faulthandler's watchdog.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.readers = Readers(count, self.writer, serve)
        self.pids = self.readers.pids
        self.null = os.open(os.devnull, os.O_RDONLY)

    def asks(self, unique: int, job: bytes = b"", descriptor: int = -1) -> bool:
        """Hand a job over; with /dev/null when it is about no other file."""
        chosen = self.null if descriptor < 0 else descriptor
        return self.readers.hand_over(unique, chosen, job)

    def busy(self) -> List[int]:
        """Return the processes that have a job in hand."""
        slots = list(readers_module._SLOT.iter_unpack(self.readers._slots))
        return [pid for pid, (unique, *_) in zip(self.pids, slots) if unique]

    def answers(self, count: int) -> Dict[int, Tuple[int, bytes]]:
        """Return so many replies: errno and body by unique."""
        found = {}
        for _ in range(count):
            assert select.select([self.device], [], [], PATIENCE)[0], "no answer"
            length, error, unique = struct.unpack("=IiQ", os.read(self.device, 16))
            found[unique] = -error, os.read(self.device, length - 16) if length > 16 else b""
        return found

    def close(self) -> None:
        self.readers.close()
        for descriptor in (self.device, self.writer, self.null):
            os.close(descriptor)


@pytest.fixture
def desks() -> Iterator[Callable[..., Desk]]:
    """Make desks, and close them."""
    made: List[Desk] = []

    def make(serve: Serve, count: int = 2) -> Desk:
        made.append(Desk(serve, count))
        return made[-1]

    yield make
    for desk in made:
        desk.close()


def is_running(pid: int) -> bool:
    """Tell whether there is such a process, a zombie included."""
    return os.path.exists(f"/proc/{pid}")


def is_stopped(pid: int) -> bool:
    """Tell whether a process is stopped: proc_pid_stat(5)."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        return file.read().rpartition(")")[2].split()[0] == "T"


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_job_is_answered_with_what_serve_returns(
    desks: Callable[..., Desk], tmp_path: Path
) -> None:
    """It gets the descriptor and the bytes; the caller's descriptor stays open, and may be closed at once."""
    path = tmp_path / "file"
    path.write_bytes(b"content")
    desk = desks(lambda descriptor, job: job + os.pread(descriptor, 100, 0))
    descriptor = os.open(str(path), os.O_RDONLY)
    assert desk.asks(7, b"the ", descriptor)
    os.close(descriptor)
    assert desk.answers(1) == {7: (0, b"the content")}


def test_nothing_read_is_an_answer(desks: Callable[..., Desk]) -> None:
    """The end of a file has an empty body."""
    desk = desks(lambda descriptor, job: b"")
    assert desk.asks(1)
    assert desk.answers(1) == {1: (0, b"")}


def test_errors_are_answers(desks: Callable[..., Desk], capfd: pytest.CaptureFixture[str]) -> None:
    """An OSError has its errno, whatever else EIO and a traceback; the process goes on."""

    def serve(descriptor: int, job: bytes) -> bytes:
        if job == b"stale":
            raise OSError(errno.ESTALE, "")
        raise RuntimeError("a defect")

    handler = logging.StreamHandler()
    readers_module.logger.addHandler(handler)
    try:
        desk = desks(serve, 1)
        for number, job in enumerate((b"stale", b"", b"stale")):
            until(lambda number=number, job=job: desk.asks(number, job))  # type: ignore[misc]
        answers = desk.answers(3)
    finally:
        readers_module.logger.removeHandler(handler)
    assert answers == {0: (errno.ESTALE, b""), 1: (errno.EIO, b""), 2: (errno.ESTALE, b"")}
    assert "RuntimeError: a defect" in capfd.readouterr().err


def test_two_jobs_are_served_at_once(desks: Callable[..., Desk]) -> None:
    """The first waits for what the second does."""
    reader, writer = os.pipe()

    def serve(descriptor: int, job: bytes) -> bytes:
        if job == b"wait":
            return os.read(reader, 1)
        os.write(writer, b"x")
        return b"done"

    try:
        desk = desks(serve)
        assert desk.asks(1, b"wait")
        assert desk.asks(2)
        assert desk.answers(2) == {1: (0, b"x"), 2: (0, b"done")}
    finally:
        os.close(reader)
        os.close(writer)


def test_no_process_is_ended_by_what_ends_the_mount(desks: Callable[..., Desk]) -> None:
    """Ctrl-C reaches them too, and the mount's process still has requests to answer."""
    desk = desks(lambda descriptor, job: b"here", 1)
    assert desk.asks(1)  # it has begun
    assert desk.answers(1) == {1: (0, b"here")}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(desk.pids[0], number)
    until(lambda: desk.asks(2))
    assert desk.answers(1) == {2: (0, b"here")}


def wait_or_answer(descriptor: int, job: bytes) -> bytes:
    """Serve by sleeping, but not in the mount's own process, or at once."""
    if job == b"sleep" and threading.current_thread().name == "MainThread":
        time.sleep(2 * PATIENCE)
    return b"answered"


def test_one_that_dies_leaves_no_request_without_a_reply(
    desks: Callable[..., Desk], caplog: pytest.LogCaptureFixture
) -> None:
    """What it had in hand is done here, and the log says so; another goes on."""
    desk = desks(wait_or_answer)
    assert desk.asks(1, b"sleep")
    until(lambda: len(desk.busy()) == 1)
    os.kill(desk.busy()[0], signal.SIGKILL)
    assert desk.answers(1) == {1: (0, b"answered")}
    for number in (2, 3):
        until(lambda number=number: desk.asks(number))  # type: ignore[misc]
        assert desk.answers(1) == {number: (0, b"answered")}
    assert caplog.messages == ["a reading process has died (wait status 9)"]


def test_when_all_have_died_what_waits_is_served_here(desks: Callable[..., Desk]) -> None:
    """Then nothing more is taken: the caller serves it."""
    desk = desks(wait_or_answer, 1)
    os.kill(desk.pids[0], signal.SIGSTOP)
    until(lambda: is_stopped(desk.pids[0]))
    assert desk.asks(1)
    os.kill(desk.pids[0], signal.SIGKILL)
    assert desk.answers(1) == {1: (0, b"answered")}
    assert not desk.asks(2)


def test_nothing_is_taken_while_none_is_free(desks: Callable[..., Desk]) -> None:
    """Whoever asks can serve it: a source that makes all processes wait makes nobody else wait."""
    desk = desks(wait_or_answer)
    assert [desk.asks(number, b"sleep") for number in (1, 2, 3)] == [True, True, False]
    until(lambda: len(desk.busy()) == 2)
    os.kill(desk.busy()[0], signal.SIGKILL)
    assert desk.answers(1)
    assert not desk.asks(4)


def test_many_jobs_are_answered_once_each(desks: Callable[..., Desk]) -> None:
    """More than a process can write down; and nothing is kept of what is done."""
    desk = desks(lambda descriptor, job: job, 3)
    answers: Dict[int, Tuple[int, bytes]] = {}
    asked = 0
    while len(answers) < 500:
        while asked < 500 and desk.asks(asked, b"%d" % asked):
            asked += 1
        answers.update(desk.answers(1))
    assert answers == {number: (0, b"%d" % number) for number in range(500)}
    until(lambda: desk.asks(500) and len(desk.readers._pending) == 1)
    assert 500 in desk.answers(1)


def test_a_job_that_fits_no_packet_is_not_taken(desks: Callable[..., Desk]) -> None:
    """A path may be of any length."""
    desk = desks(wait_or_answer)
    assert not desk.asks(1, bytes(40000))
    assert desk.asks(2, bytes(30000))
    assert desk.answers(1) == {2: (0, b"answered")}


def test_ends_are_told_where_sigchld_was_ignored(desks: Callable[..., Desk]) -> None:
    """A shell or a supervisor may have left it so, and it is inherited (execve(2))."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        desk = desks(wait_or_answer, 1)
        assert desk.asks(1, b"sleep")
        until(lambda: len(desk.busy()) == 1)
        os.kill(desk.pids[0], signal.SIGKILL)
        assert desk.answers(1) == {1: (0, b"answered")}
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_replies_go_to_the_device_alone() -> None:
    """The mount's own descriptor is closed first, and its number may be another file's by then."""
    desk = Desk(lambda descriptor, job: b"content", 1)
    os.kill(desk.pids[0], signal.SIGSTOP)
    until(lambda: is_stopped(desk.pids[0]))
    assert desk.asks(1)
    another = os.open(os.devnull, os.O_WRONLY)
    os.dup2(another, desk.writer)
    os.close(another)
    os.kill(desk.pids[0], signal.SIGKILL)
    assert desk.answers(1) == {1: (0, b"content")}
    desk.close()


def test_the_end_leaves_no_process() -> None:
    """What is in hand is finished first; a job after the end is not taken."""
    desk = Desk(lambda descriptor, job: time.sleep(0.1) or b"late")  # type: ignore[func-returns-value]
    assert desk.asks(1)
    until(lambda: len(desk.busy()) == 1)
    desk.readers.close()
    assert desk.answers(1) == {1: (0, b"late")}
    assert not any(map(is_running, desk.pids))
    assert not desk.asks(2)
    desk.close()


def test_one_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its file may be on a source that answers no more."""
    monkeypatch.setattr(readers_module, "_PATIENCE", 0.1)
    desk = Desk(wait_or_answer)
    assert desk.asks(1, b"sleep")
    until(lambda: len(desk.busy()) == 1)
    desk.readers.close()
    assert not any(map(is_running, desk.pids))
    desk.close()


def test_they_end_with_the_process_that_started_them() -> None:
    """Also when that is killed."""
    reader, writer = os.pipe()

    def start() -> None:
        desk = Desk(wait_or_answer)
        os.write(writer, struct.pack("=2i", *desk.pids))
        os._exit(0)  # as a kill: nothing is closed by us

    in_child(start)
    pids = struct.unpack("=2i", os.read(reader, 8))
    os.close(reader)
    os.close(writer)
    until(lambda: not any(os.path.exists(f"/proc/{pid}/exe") for pid in pids))
