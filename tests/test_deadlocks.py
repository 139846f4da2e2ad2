"""fusepy_legacy.deadlocks: who waits for whom, and which waits count."""

import errno
import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Dict, Optional

import pytest

from fusepy_legacy import deadlocks
from fusepy_legacy.deadlocks import Wait, WaitGraph
from fusepy_legacy.locks import Lock, LockTable
from tests.errnos import raises_errno
from tests.mounted.commands import wait_until

F_OFD_SETLKW = 38  # linux/fcntl.h; Python 3.9 has it in fcntl
RECORD, OPEN_FILE, UNKNOWN = -1, -2, 0  # threads that wait for such a lock


@pytest.fixture(autouse=True)
def _commands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let these numbers stand for threads that wait; no real thread has them."""
    told: Dict[int, Optional[int]] = {
        RECORD: fcntl.F_SETLKW,
        OPEN_FILE: F_OFD_SETLKW,
        UNKNOWN: None,
    }
    ask = deadlocks._second_argument
    monkeypatch.setattr(
        deadlocks,
        "_second_argument",
        lambda thread: told[thread] if thread in told else ask(thread),
    )


class Graph:
    """A graph of waits by owners' numbers."""

    def __init__(self) -> None:
        self.graph = WaitGraph()

    def wait(self, owner: int, *blockers: int, thread: int = RECORD) -> Wait:
        """Let an owner wait for others."""
        wait = Wait(owner, thread, lambda: set(blockers), threading.Event())
        self.graph.add(wait)
        return wait


def test_a_ring_is_found_and_a_chain_is_none() -> None:
    """By whoever closes it, over any number of others, and beside others who wait too."""
    graph = Graph()
    assert not graph.graph.is_deadlock(graph.wait(1, 2))
    assert not graph.graph.is_deadlock(graph.wait(9, 1, 2, 3))
    assert not graph.graph.is_deadlock(graph.wait(2, 3, 4))
    assert not graph.graph.is_deadlock(graph.wait(3, 4, 5))
    assert graph.graph.is_deadlock(graph.wait(4, 6, 1))


def test_who_waits_for_a_ring_is_not_in_it() -> None:
    """It ends when one of the ring gives up."""
    graph = Graph()
    one = graph.wait(1, 2)
    graph.wait(2, 1)
    assert not graph.graph.is_deadlock(graph.wait(3, 1))
    assert graph.graph.is_deadlock(one)


def test_a_wait_that_is_over_is_in_no_ring() -> None:
    """Removed, or interrupted and not yet removed."""
    graph = Graph()
    one, two = graph.wait(1, 2), graph.wait(2, 1)
    one.interrupted.set()
    assert not graph.graph.is_deadlock(two)
    one = graph.wait(1, 2)
    assert graph.graph.is_deadlock(two)
    graph.graph.remove(one)
    graph.graph.remove(one)
    assert not graph.graph.is_deadlock(two)


@pytest.mark.parametrize("thread", [OPEN_FILE, UNKNOWN])
def test_only_record_locks_count(thread: int) -> None:
    """Neither who asks nor who is asked about, when it waits for another kind or it is not known."""
    graph = Graph()
    one, two = graph.wait(1, 2), graph.wait(2, 1, thread=thread)
    assert not graph.graph.is_deadlock(one)
    assert not graph.graph.is_deadlock(two)


def test_one_of_several_waits_of_an_owner_is_enough() -> None:
    """Threads of a process wait for themselves; what one of them waits for keeps the process's lock."""
    graph = Graph()
    graph.wait(1, 3)
    graph.wait(1, 2)
    assert graph.graph.is_deadlock(graph.wait(2, 1))


WAITER = """
import fcntl, os, struct, sys
descriptor = os.open(sys.argv[1], os.O_RDWR)
lock = struct.pack("hhqqi0q", fcntl.F_WRLCK, 0, 0, 0, 0)
print("ready", flush=True)
fcntl.fcntl(descriptor, int(sys.argv[2]), lock)
"""


@pytest.mark.parametrize(("command", "counts"), [(fcntl.F_SETLKW, True), (F_OFD_SETLKW, False)])
def test_the_system_call_tells_what_a_thread_waits_for(
    tmp_path: Path, command: int, counts: bool
) -> None:
    """A process that waits for a lock of this one; before that, it cannot be told."""
    path = tmp_path / "file"
    with open(str(path), "wb") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        words = [sys.executable, "-c", WAITER, str(path), str(command)]
        with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == b"ready\n"

                def in_fcntl() -> bool:
                    return deadlocks._second_argument(process.pid) == command

                wait_until(in_fcntl, "the wait")
                wait = Wait(1, process.pid, set, threading.Event())
                assert wait.counts() is counts
            finally:
                process.kill()
    assert not Wait(1, process.pid, set, threading.Event()).counts()


class Patience(threading.Event):
    """Never interrupted; `tried` is set when a lock was refused for the first time."""

    def __init__(self) -> None:
        super().__init__()
        self.tried = threading.Event()

    def wait(self, timeout: Optional[float] = None) -> bool:
        self.tried.set()
        return super().wait(timeout)


class Contender:
    """An owner with an open file, who waits in a thread; `error` is how that ended."""

    def __init__(self, table: LockTable, path: Path, owner: int) -> None:
        self.table = table
        self.owner = owner
        self.descriptor = os.open(str(path), os.O_RDWR)
        self.error: Optional[int] = None
        self.patience = Patience()
        self._thread: Optional[threading.Thread] = None

    def take(self, start: int, wait: bool = False) -> None:
        """Take a byte."""
        lock = Lock(fcntl.F_WRLCK, start, 1, 0)
        self.table.set(self.descriptor, self.owner, lock, wait, self.patience, RECORD)

    def wait(self, start: int) -> None:
        """Wait for a byte; whoever cannot have it drops all."""

        def run() -> None:
            try:
                self.take(start, wait=True)
            except OSError as error:
                self.error = error.errno
            self.drop()

        self._thread = threading.Thread(target=run)
        self._thread.start()

    def join(self) -> None:
        """Wait for the end of the wait."""
        if self._thread is not None:
            self._thread.join(20)
            assert not self._thread.is_alive()

    def drop(self) -> None:
        """Drop all locks."""
        self.table.set(self.descriptor, self.owner, Lock(fcntl.F_UNLCK, 0, 0, 0), wait=False)

    def end(self) -> None:
        """Let it go."""
        self.drop()
        self.join()
        os.close(self.descriptor)


@pytest.mark.parametrize("size", [2, 3, 7])
def test_one_of_a_ring_of_owners_gives_up(tmp_path: Path, size: int) -> None:
    """Exactly one gets EDEADLK; the others get what they wait for, and nothing stays locked."""
    path = tmp_path / "file"
    path.touch()
    table = LockTable()
    contenders = [Contender(table, path, owner) for owner in range(size)]
    for contender in contenders:
        contender.take(contender.owner)
    for contender in contenders:
        contender.wait((contender.owner + 1) % size)
    for contender in contenders:
        contender.join()
    assert not table.holds_any()
    assert sorted(contender.error or 0 for contender in contenders)[-2:] == [0, errno.EDEADLK]
    for contender in contenders:
        contender.end()


def test_a_lock_that_is_not_waited_for_is_no_deadlock(tmp_path: Path) -> None:
    """F_SETLK is answered with EAGAIN where waiting would be one."""
    path = tmp_path / "file"
    path.touch()
    table = LockTable()
    one, two = (Contender(table, path, owner) for owner in range(2))
    one.take(0)
    two.take(1)
    two.wait(0)
    assert two.patience.tried.wait(20)
    with raises_errno(errno.EAGAIN, errno.EACCES):
        one.take(1)
    with raises_errno(errno.EDEADLK):
        one.take(1, wait=True)
    one.end()
    two.end()
    assert two.error is None
