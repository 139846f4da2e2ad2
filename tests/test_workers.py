"""fusepy_legacy.kernel.workers: requests of several callers are served at once, and none waits for ever.

The device is a queue; the engine is the real one.
"""

import errno
import fcntl
import itertools
import logging
import queue
import struct
import threading
import time
import types
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple, Type

import pytest

from fusepy_legacy.kernel import workers as workers_module
from fusepy_legacy.kernel.context import current
from fusepy_legacy.kernel.workers import Term, Workers
from tests.kernel_side import FILE, Kernel, error_of
from tests.wire import joined, request, u32, u64

PATIENCE = 10  # seconds


class QueueDevice:
    """Stands in for Device: requests come from a queue, replies are kept by their unique."""

    def __init__(self) -> None:
        self.requests: Any = queue.Queue()  # bytes, and None for the end
        self.replies: Dict[int, bytes] = {}
        self.readers = 0  # threads inside read
        self.refuses = False
        self._changed = threading.Condition()

    def read(self, buffer: memoryview) -> Optional[memoryview]:
        with self._changed:
            self.readers += 1
        try:
            data = self.requests.get()
        finally:
            with self._changed:
                self.readers -= 1
        if data is None:
            self.requests.put(None)  # for the other readers
            return None
        buffer[: len(data)] = data
        return buffer[: len(data)]

    def write(self, reply: Any) -> bool:
        whole = joined(reply)
        unique: int = struct.unpack_from("=Q", whole, 8)[0]
        with self._changed:
            assert unique not in self.replies
            self.replies[unique] = whole
            self._changed.notify_all()
        return not self.refuses

    def stop(self) -> None:
        self.requests.put(None)

    def take(self, buffer: memoryview) -> Optional[memoryview]:
        """Return a request that is there, whether the end has come before it or not."""
        with self.requests.mutex:
            waiting = [data for data in self.requests.queue if data is not None]
            if not waiting:
                return None
            self.requests.queue.remove(waiting[0])
        buffer[: len(waiting[0])] = waiting[0]
        return buffer[: len(waiting[0])]

    def reply_to(self, unique: int) -> bytes:
        """Wait for a request's reply."""
        with self._changed:
            assert self._changed.wait_for(lambda: unique in self.replies, PATIENCE), "no reply"
            return self.replies[unique]


class Mount:
    """An engine with a file open, its workers, and a way to send requests."""

    def __init__(self, **answers: Any) -> None:
        handlers = {"getattr": FILE, "open": None, **answers}
        self.kernel = Kernel(**handlers)
        self.node = self.kernel.looks_up("file")
        self.fh = self.kernel.opens(self.node)
        self.device = QueueDevice()
        self.ended = threading.Event()
        self.ends = 0
        self.before = set(threading.enumerate())
        self._uniques = itertools.count(1)
        self._alone: Optional[threading.Thread] = None

    def _end(self) -> None:
        self.ends += 1
        self.ended.set()

    def start(self, limit: int = 10, kind: Type[Workers] = Workers) -> None:
        """Serve in threads."""
        self.workers = kind(self.device, self.kernel.engine, limit, self._end)  # type: ignore[arg-type]
        self.workers.start()

    def start_alone(self) -> None:
        """Serve as with -s, in one thread that stands for the calling one."""
        workers = Workers(self.device, self.kernel.engine, 1, self._end)  # type: ignore[arg-type]
        self._alone = threading.Thread(target=workers.run_alone)
        self._alone.start()

    def send(self, opcode: int, *fields: bytes) -> int:
        """Send a request and return its unique; `device.reply_to` waits for the reply."""
        unique = next(self._uniques)
        data = bytes(request(opcode, *fields, node=self.node, unique=unique))
        self.device.requests.put(data)
        return unique

    def read(self, size: int = 1) -> int:
        """Send FUSE_READ; the handler gets `size`."""
        return self.send(15, u64(self.fh), u64(0), u32(size), u32(0), u64(0), u32(0), u32(0))

    def lock(self) -> int:
        """Send FUSE_SETLKW."""
        kind = u32(fcntl.F_WRLCK) + u32(1) + u32(0) + u32(0)  # lk.type, lk.pid, lk_flags, padding
        return self.send(33, u64(self.fh), u64(1), u64(0), u64(9), kind)

    def interrupt(self, unique: int) -> None:
        """Send FUSE_INTERRUPT."""
        self.send(36, u64(unique))

    def succeeds(self, *uniques: int) -> None:
        """AssertionError unless these requests are answered, and well."""
        for unique in uniques:
            assert error_of(self.device.reply_to(unique)) == 0

    def threads(self) -> List[threading.Thread]:
        """Return the threads that serve, or watch."""
        return [thread for thread in threading.enumerate() if thread not in self.before]

    def close(self) -> None:
        """End, and wait for all threads; AssertionError when one stays."""
        self.device.stop()
        for thread in self.threads():
            thread.join(PATIENCE)
        assert not self.threads()
        if self._alone is None:
            assert self.ends == 1


@pytest.fixture
def mounts() -> Iterator[Callable[..., Mount]]:
    """Make mounts; at the end all their threads end too."""
    made: List[Mount] = []

    def make(**answers: Any) -> Mount:
        made.append(Mount(**answers))
        return made[-1]

    yield make
    for mount in made:
        mount.close()


def until(condition: Callable[[], Any]) -> None:
    """Wait until a condition holds; AssertionError when it never does."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.001)


class Meeting:
    """A handler that returns only when so many calls are inside it at once."""

    def __init__(self, calls: int) -> None:
        self._barrier = threading.Barrier(calls)

    def __call__(self, *arguments: Any) -> bytes:
        self._barrier.wait(PATIENCE)
        return b""


# Threads


def test_requests_are_answered(mounts: Callable[..., Mount]) -> None:
    """One after the other, by one thread, as long as they are quick."""
    mount = mounts(read=lambda path, size, offset: b"x" * size)
    mount.start()
    uniques = [mount.read(size) for size in range(100)]
    mount.succeeds(*uniques)
    assert len(mount.device.reply_to(uniques[99])) == 16 + 99


def test_two_requests_are_served_at_once(mounts: Callable[..., Mount]) -> None:
    """Although nothing was known about their duration."""
    mount = mounts(read=Meeting(2))
    mount.start()
    mount.succeeds(mount.read(), mount.read())


def test_as_many_requests_as_the_limit_are_served_at_once(mounts: Callable[..., Mount]) -> None:
    """All of them in their handlers at the same moment."""
    mount = mounts(read=Meeting(5))
    mount.start(limit=5)
    mount.succeeds(*[mount.read() for _ in range(5)])


def test_no_more_requests_than_the_limit_are_served_at_once(mounts: Callable[..., Mount]) -> None:
    """The next waits until one is done."""
    inside = threading.Semaphore(0)
    go_on = threading.Semaphore(0)
    numbers = Maximum()

    def read(*arguments: Any) -> bytes:
        with numbers:
            inside.release()
            assert go_on.acquire(timeout=PATIENCE)
        return b""

    mount = mounts(read=read)
    mount.start(limit=2)
    uniques = [mount.read() for _ in range(6)]
    for _ in uniques:
        assert inside.acquire(timeout=PATIENCE)
        go_on.release()
    mount.succeeds(*uniques)
    assert numbers.most <= 2


class Maximum:
    """Context manager that counts how many are inside at once."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._now = 0
        self.most = 0

    def __enter__(self) -> None:
        with self._guard:
            self._now += 1
            self.most = max(self.most, self._now)

    def __exit__(self, *error: Any) -> None:
        with self._guard:
            self._now -= 1


def test_a_handler_may_wait_for_another_request(mounts: Callable[..., Mount]) -> None:
    """A program that asks its own mount, or one client that waits for another."""
    written = threading.Event()

    def read(path: str, size: int, offset: int) -> bytes:
        assert written.wait(PATIENCE)
        return b""

    mount = mounts(read=read, access=lambda path, mode: written.set())
    mount.start()
    reading = mount.read()
    mount.succeeds(mount.send(34, u32(0), u32(0)), reading)


def test_a_handler_that_never_was_slow_may_become_so(mounts: Callable[..., Mount]) -> None:
    """After a thousand quick calls the next one may wait for another request."""
    go_on = threading.Event()

    def read(path: str, size: int, offset: int) -> bytes:
        assert size == 1 or go_on.wait(PATIENCE)
        return b""

    mount = mounts(read=read, access=lambda path, mode: go_on.set())
    mount.start()
    mount.succeeds(*[mount.read() for _ in range(1000)])
    slow = mount.read(2)
    mount.succeeds(mount.send(34, u32(0), u32(0)), slow)


def test_slow_requests_one_after_the_other_take_turns(mounts: Callable[..., Mount]) -> None:
    """Each finds a thread, also when those before it are done again."""
    mount = mounts(read=Meeting(3))
    mount.start(limit=3)
    for _ in range(5):
        mount.succeeds(*[mount.read() for _ in range(3)])


def test_waiting_locks_do_not_count_towards_the_limit(mounts: Callable[..., Mount]) -> None:
    """With more of them than the limit the other requests are still served, as many at once as before."""

    def lock(*arguments: Any, **keywords: Any) -> int:
        assert current.interrupted is not None
        assert current.interrupted.wait(PATIENCE)
        return -errno.EINTR

    mount = mounts(read=Meeting(2), lock=lock)
    mount.start(limit=2)
    locks = [mount.lock() for _ in range(5)]
    until(lambda: len(mount.kernel.engine.waits) == 5)
    mount.succeeds(mount.read(), mount.read())
    for unique in locks:
        assert unique not in mount.device.replies
        mount.interrupt(unique)
    assert [error_of(mount.device.reply_to(unique)) for unique in locks] == [errno.EINTR] * 5
    mount.succeeds(mount.read(), mount.read())


def test_a_new_leader_is_watched_from_its_first_request(mounts: Callable[..., Mount]) -> None:
    """It may be in a handler that waits before the old leader, who gave the lead away, goes on."""
    held, inside, served = threading.Event(), threading.Event(), threading.Event()

    class Held(Workers):
        def _hand_over(self, *arguments: Any) -> None:
            super()._hand_over(*arguments)
            if threading.current_thread().name == "fuse-worker":
                held.set()
                assert inside.wait(PATIENCE)

    def access(path: str, mode: int) -> None:
        inside.set()
        assert served.wait(PATIENCE)

    mount = mounts(
        read=lambda path, size, offset: time.sleep(0.1 if size == 1 else 0) or b"",
        access=access,
        statfs=lambda path: served.set() or -errno.EIO,
    )
    mount.start(kind=Held)
    mount.succeeds(mount.read(1))  # this kind of request is known to be slow from now on
    reading = mount.read(2)
    assert held.wait(PATIENCE)
    waiting = mount.send(34, u32(0), u32(0))
    assert error_of(mount.device.reply_to(mount.send(17))) == errno.EIO
    mount.succeeds(reading, waiting)


def test_a_blocked_request_costs_one_thread(
    mounts: Callable[..., Mount], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One thread stands by at the device, not all that there may be; and then all is quiet."""
    ticks = quick_watcher(monkeypatch)
    go_on = threading.Event()
    mount = mounts(read=lambda *_: b"x" if go_on.wait(PATIENCE) else b"")
    mount.start()
    blocked = mount.read()
    try:
        until(lambda: mount.device.readers == 1)  # another has the lead
        until(lambda: falls_asleep(ticks))
        assert mount.device.readers == 1
    finally:
        go_on.set()
    mount.succeeds(blocked)


def test_the_watcher_sleeps_when_nothing_happens(
    mounts: Callable[..., Mount], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An idle mount takes no processor time; the next slow request wakes it up."""
    ticks = quick_watcher(monkeypatch)
    mount = mounts(read=Meeting(2))
    mount.start()
    until(lambda: falls_asleep(ticks))
    for _ in range(3):
        mount.succeeds(mount.read(), mount.read())
        until(lambda: falls_asleep(ticks))


def quick_watcher(monkeypatch: pytest.MonkeyPatch) -> List[None]:
    """Let the watcher tick every millisecond, and return a list that each tick makes longer."""
    ticks: List[None] = []

    def sleep(seconds: float) -> None:
        ticks.append(None)
        time.sleep(0.001)

    monkeypatch.setattr(
        workers_module,
        "time",
        types.SimpleNamespace(sleep=sleep, perf_counter=time.perf_counter),
    )
    return ticks


def falls_asleep(ticks: List[None]) -> bool:
    """Tell whether the watcher made no tick in the time of fifty."""
    before = len(ticks)
    time.sleep(0.05)
    return len(ticks) == before


# One at a time


@pytest.mark.parametrize("start", ["start_alone", "start"])
def test_serialized_requests(mounts: Callable[..., Mount], start: str) -> None:
    """With -s, and with workers=1: in the order in which they came, and never two at once."""
    numbers = Maximum()
    served: List[Tuple[int, threading.Thread]] = []

    def read(path: str, size: int, offset: int) -> bytes:
        with numbers:
            served.append((size, threading.current_thread()))
            time.sleep(0.0001)
        return b""

    mount = mounts(read=read)
    if start == "start":
        mount.start(limit=1)
    else:
        mount.start_alone()
    mount.succeeds(*[mount.read(size) for size in range(50)])
    assert numbers.most == 1
    assert [size for size, _ in served] == list(range(50))
    assert len({thread for _, thread in served}) == 1


# The end


def test_the_end_stops_all_threads(mounts: Callable[..., Mount]) -> None:
    """Those that read, those that stand by, and the watcher; `on_end` is called once."""
    mount = mounts(read=Meeting(4))
    mount.start()
    mount.succeeds(*[mount.read() for _ in range(4)])
    mount.close()
    assert mount.ended.is_set()


def test_the_end_of_an_idle_mount(mounts: Callable[..., Mount]) -> None:
    """Without a single request."""
    mount = mounts()
    mount.start()
    mount.close()


def test_the_end_while_requests_are_served(mounts: Callable[..., Mount]) -> None:
    """`on_end` does not wait for them; each is answered, and its thread ends."""
    go_on = threading.Event()
    inside = threading.Semaphore(0)

    def read(*arguments: Any) -> bytes:
        inside.release()
        assert go_on.wait(PATIENCE)
        return b""

    mount = mounts(read=read)
    mount.start()
    uniques = [mount.read() for _ in range(3)]
    for _ in uniques:
        assert inside.acquire(timeout=PATIENCE)
    mount.device.stop()
    assert mount.ended.wait(PATIENCE)
    go_on.set()
    mount.succeeds(*uniques)


def test_handlers_are_waited_for(mounts: Callable[..., Mount]) -> None:
    """The wait is over with the last; what is asked meanwhile is refused, and nothing else is."""
    inside, go_on = threading.Event(), threading.Event()

    def read(*arguments: Any) -> bytes:
        inside.set()
        assert go_on.wait(PATIENCE)
        return b""

    mount = mounts(read=read)
    mount.start()
    reading = mount.read()
    assert inside.wait(PATIENCE)
    mount.device.stop()
    assert mount.ended.wait(PATIENCE)
    later = [mount.read() for _ in range(3)]
    assert not mount.workers.wait(0.05)
    mount.workers.refuse()
    assert [error_of(mount.device.reply_to(unique)) for unique in later] == [errno.ENOTCONN] * 3
    assert reading not in mount.device.replies
    go_on.set()
    assert mount.workers.wait(PATIENCE)
    mount.succeeds(reading)


def test_nothing_is_waited_for_without_handlers(mounts: Callable[..., Mount]) -> None:
    """Whatever else threads do ends by itself, also with one request at a time."""
    mount = mounts(read=Meeting(3))
    mount.start()
    mount.succeeds(*[mount.read() for _ in range(3)])
    mount.device.stop()
    assert mount.workers.wait(PATIENCE)
    alone = Workers(mount.device, mount.kernel.engine, 1, mount.ended.set)  # type: ignore[arg-type]
    alone.run_alone()
    assert alone.wait(0)


def test_a_wait_that_begins_after_the_end(mounts: Callable[..., Mount]) -> None:
    """It ends as those do that had begun: not with EINTR, for there was no signal."""

    def lock(*arguments: Any, **keywords: Any) -> int:
        assert current.interrupted is not None
        return -errno.EINTR if current.interrupted.wait(PATIENCE) else 0

    mount = mounts(lock=lock)
    mount.start()
    mount.kernel.engine.waits.interrupt_all()
    assert error_of(mount.device.reply_to(mount.lock())) == errno.ENOTCONN


def test_the_end_of_a_thread_that_dies(
    mounts: Callable[..., Mount], caplog: pytest.LogCaptureFixture
) -> None:
    """It is the end of all: nobody goes on reading from a device that will be closed."""
    inside, go_on = threading.Event(), threading.Event()

    def read(*arguments: Any) -> bytes:
        inside.set()
        assert go_on.wait(PATIENCE)
        raise SystemExit

    mount = mounts(read=read)
    mount.start()
    mount.read()
    assert inside.wait(PATIENCE)
    until(lambda: mount.device.readers == 1)  # another has the lead
    go_on.set()
    until(lambda: not mount.threads())
    assert mount.ended.is_set()
    assert "a worker died" in caplog.text


def test_many_mounts_end(mounts: Callable[..., Mount]) -> None:
    """No order of events at the end leaves a thread behind, or an error."""
    for _ in range(30):
        mount = mounts(read=Meeting(2))
        mount.start(limit=3)
        mount.succeeds(mount.read(), mount.read())
        mount.close()


def test_the_end_while_the_lead_is_handed_over(mounts: Callable[..., Mount]) -> None:
    """It gives the lead away too, but not once more."""
    mount = mounts()
    workers = Workers(mount.device, mount.kernel.engine, 2, mount._end)  # type: ignore[arg-type]
    guard = EndingGuard(workers._end)
    workers._lead.acquire()
    workers._term, workers._threads, workers._idle = Term(), 2, 1
    workers._guard = guard  # type: ignore[assignment]
    workers._hand_over(workers._term)
    assert mount.ended.is_set()
    assert not workers._lead.locked()


class EndingGuard:
    """A lock that lets something happen as soon as it is free."""

    def __init__(self, happens: Callable[[], None]) -> None:
        self.happens = [happens]
        self.lock = threading.Lock()

    def __enter__(self) -> None:
        self.lock.acquire()

    def __exit__(self, *exception: object) -> None:
        self.lock.release()
        if self.happens:
            self.happens.pop()()


def test_a_worker_that_dies_ends_the_mount(
    mounts: Callable[..., Mount], caplog: pytest.LogCaptureFixture
) -> None:
    """Rather than leaving callers waiting for ever: a handler that calls sys.exit, say."""
    mount = mounts(read=SystemExit(3))
    mount.start()
    mount.read()
    assert mount.ended.wait(PATIENCE)
    until(lambda: caplog.records)
    assert [record.levelno for record in caplog.records] == [logging.CRITICAL]
    assert "SystemExit" in caplog.text
    assert isinstance(mount.workers.death, SystemExit)


def test_a_reply_that_is_not_wanted_is_undone(mounts: Callable[..., Mount]) -> None:
    """The device refused it: the request was interrupted."""
    mount = mounts(release=None)
    mount.device.refuses = True
    mount.start()
    opening = mount.send(14, u32(0), u32(0))  # FUSE_OPEN
    mount.succeeds(opening)
    until(lambda: len(mount.kernel.engine.handles) == 1)  # the fixture's own
    until(lambda: ("release", "/file", 0) in mount.kernel.filesystem.calls)
