"""fusepy_legacy.locks: record locks of many owners, held by one process."""

import contextlib
import errno
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusepy_legacy import locks
from fusepy_legacy.locks import Lock, LockTable
from tests.costs import lines_run
from tests.errnos import raises_errno

READ, WRITE, UNLOCK = fcntl.F_RDLCK, fcntl.F_WRLCK, fcntl.F_UNLCK
PIDS = {1: 101, 2: 102, 3: 103}  # of the owners
STRANGER = 99  # an owner who never holds a lock


class Owner(NamedTuple):
    """One lock owner's view of a table and a file."""

    table: LockTable
    descriptor: int
    number: int

    def set(self, kind: int, start: int = 0, length: int = 0, wait: bool = False) -> None:
        lock = Lock(kind, start, length, PIDS.get(self.number, 0))
        self.table.set(self.descriptor, self.number, lock, wait)

    def test(self, kind: int, start: int = 0, length: int = 0) -> Optional[Lock]:
        return self.table.test(self.descriptor, self.number, Lock(kind, start, length, 0))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file to lock; the ranges may lie behind its end."""
    (tmp_path / "file").touch()
    return tmp_path / "file"


@pytest.fixture
def descriptor(file: Path) -> Iterator[int]:
    """The file, opened."""
    opened = os.open(str(file), os.O_RDWR)
    yield opened
    os.close(opened)


@pytest.fixture
def owners(descriptor: int) -> Iterator[List[Owner]]:
    """Three owners at one file; what they hold is dropped in the end."""
    table = LockTable()
    three = [Owner(table, descriptor, number) for number in sorted(PIDS)]
    yield three
    for owner in three:
        owner.set(UNLOCK)
    assert not table.holds_any()


def test_owners_exclude_each_other(owners: List[Owner]) -> None:
    """A write lock keeps other owners out of its range with EAGAIN, and out of nothing else."""
    one, two, _ = owners
    one.set(WRITE, 10, 10)
    for kind in (READ, WRITE):
        for start, length in ((10, 10), (0, 11), (19, 1), (19, 100), (0, 0), (15, 0)):
            with raises_errno(errno.EAGAIN, errno.EACCES):
                two.set(kind, start, length)
        for start, length in ((0, 10), (20, 5), (20, 0)):
            two.set(kind, start, length)


def test_readers_share_and_writers_do_not(owners: List[Owner]) -> None:
    """Any number of read locks; a write lock only when the others are gone."""
    one, two, three = owners
    one.set(READ)
    two.set(READ)
    with raises_errno(errno.EAGAIN, errno.EACCES):
        three.set(WRITE)
    one.set(UNLOCK)
    with raises_errno(errno.EAGAIN, errno.EACCES):
        three.set(WRITE)
    two.set(UNLOCK)
    three.set(WRITE)
    with raises_errno(errno.EAGAIN, errno.EACCES):
        one.set(READ)


def test_an_owner_converts_its_own_locks(owners: List[Owner]) -> None:
    """Read to write and back, whole or in part, as fcntl(2) lets a process."""
    one, two, _ = owners
    one.set(READ, 0, 100)
    one.set(WRITE, 0, 100)
    one.set(READ, 50, 10)
    two.set(READ, 50, 10)
    for start in (49, 60):
        with raises_errno(errno.EAGAIN, errno.EACCES):
            two.set(READ, start, 1)
    with raises_errno(errno.EAGAIN, errno.EACCES):
        one.set(WRITE, 50, 10)
    assert two.test(READ, 0, 10) == Lock(WRITE, 0, 50, PIDS[1])


def test_a_refused_lock_changes_nothing(owners: List[Owner]) -> None:
    """After EAGAIN the owner holds what it held, and nobody is in the way who was not before."""
    one, two, three = owners
    one.set(WRITE, 0, 10)
    two.set(READ, 20, 10)
    with raises_errno(errno.EAGAIN, errno.EACCES):
        two.set(WRITE, 5, 20)
    assert three.test(WRITE, 10, 10) is None
    assert three.test(WRITE, 20, 10) == Lock(READ, 20, 10, PIDS[2])


def test_one_owner_through_several_descriptors_is_one_owner(file: Path, descriptor: int) -> None:
    """A process's second open of the file is no rival to its first, and may drop its locks."""
    other = os.open(str(file), os.O_RDWR)
    table = LockTable()
    try:
        Owner(table, descriptor, 1).set(WRITE, 0, 10)
        Owner(table, other, 1).set(WRITE, 5, 10)
        assert Owner(table, other, 1).test(WRITE) is None
        Owner(table, other, 1).set(UNLOCK)
        assert not table.holds_any()
    finally:
        os.close(other)


def test_closing_any_descriptor_of_the_file_drops_no_lock(file: Path, owners: List[Owner]) -> None:
    """Unlike a process's own record locks, which would all be gone (fcntl(2))."""
    one, two, _ = owners
    one.set(WRITE)
    file.read_bytes()
    with raises_errno(errno.EAGAIN, errno.EACCES):
        two.set(READ)


def test_files_do_not_share_locks(file: Path, owners: List[Owner]) -> None:
    """The same owner and range at another file is another lock; a hard link is the same file."""
    one, two, _ = owners
    one.set(WRITE)
    os.link(str(file), str(file.with_name("link")))
    file.with_name("other").touch()
    link = os.open(str(file.with_name("link")), os.O_RDWR)
    other = os.open(str(file.with_name("other")), os.O_RDWR)
    try:
        with raises_errno(errno.EAGAIN, errno.EACCES):
            two._replace(descriptor=link).set(WRITE)
        two._replace(descriptor=other).set(WRITE)
        two._replace(descriptor=other).set(UNLOCK)
    finally:
        os.close(link)
        os.close(other)


def test_locks_work_on_a_file_without_a_name(file: Path, owners: List[Owner]) -> None:
    """An open file that was unlinked is still locked."""
    file.unlink()
    one, two, _ = owners
    one.set(WRITE)
    with raises_errno(errno.EAGAIN, errno.EACCES):
        two.set(READ)


def test_getlk_names_the_holder(owners: List[Owner]) -> None:
    """F_GETLK answers with type, range and process of the lock in the way; None when there is none."""
    one, two, three = owners
    assert two.test(WRITE) is None
    one.set(WRITE, 10, 10)
    three.set(READ, 30, 0)
    assert two.test(READ, 0, 12) == Lock(WRITE, 10, 10, PIDS[1])
    assert two.test(WRITE, 40, 1) == Lock(READ, 30, 0, PIDS[3])
    assert two.test(READ, 40, 1) is None
    assert one.test(WRITE, 0, 20) is None
    assert two.test(READ, 20, 10) is None
    assert two.test(WRITE, 0, 10) is None


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("probe", [(50, 10), (0, 0), (0, 10), (90, 1)])
def test_getlk_names_the_holder_of_that_very_lock(
    owners: List[Owner], first: int, probe: Tuple[int, int]
) -> None:
    """Where several owners' read locks overlap, the process named is the one whose lock is described."""
    ranges = {1: (0, 100), 2: (50, 10)}
    for owner in (owners[first], owners[1 - first]):
        owner.set(READ, *ranges[owner.number])
    found = owners[2].test(WRITE, *probe)
    assert found is not None
    assert found in [Lock(READ, *ranges[number], pid=PIDS[number]) for number in ranges]


def descriptors() -> List[str]:
    return os.listdir("/proc/self/fd")


def test_descriptors_are_closed_when_the_last_lock_goes(owners: List[Owner]) -> None:
    """One descriptor for each owner and file that is locked, none when nothing is."""
    one, two, _ = owners
    none = len(descriptors())
    one.set(WRITE, 0, 10)
    one.set(WRITE, 20, 10)
    one.set(READ, 5, 20)
    assert len(descriptors()) == none + 1
    two.set(READ, 100, 1)
    assert len(descriptors()) == none + 2
    one.set(UNLOCK, 0, 15)
    assert len(descriptors()) == none + 2
    one.set(UNLOCK, 15, 15)
    assert len(descriptors()) == none + 1
    assert one.table.holds_any()
    two.set(UNLOCK)
    assert len(descriptors()) == none
    assert not one.table.holds_any()


def test_unlocking_and_failing_open_nothing(owners: List[Owner]) -> None:
    """Dropping what is not held, and a lock that is refused, leave no descriptor."""
    one, two, _ = owners
    one.set(UNLOCK)
    assert not one.table.holds_any()
    one.set(WRITE)
    before = len(descriptors())
    with raises_errno(errno.EAGAIN, errno.EACCES):
        two.set(WRITE)
    two.test(WRITE)
    two.set(UNLOCK)
    assert len(descriptors()) == before


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS, errno.ETXTBSY])
def test_a_file_that_can_only_be_read_is_locked_for_reading(
    file: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the file cannot be opened for writing anew, it is as it was opened; F_WRLCK is EBADF then."""
    open_file = os.open

    def refuse_writing(path: str, flags: int, *arguments: int) -> int:
        if flags & os.O_ACCMODE != os.O_RDONLY:
            raise OSError(number, os.strerror(number), path)
        return open_file(path, flags, *arguments)

    descriptor = os.open(str(file), os.O_RDONLY)
    monkeypatch.setattr(os, "open", refuse_writing)
    reader = Owner(LockTable(), descriptor, 1)
    try:
        reader.set(READ, 0, 10)
        with raises_errno(errno.EBADF):
            reader.set(WRITE, 0, 10)
        reader.set(UNLOCK)
        with raises_errno(errno.EBADF):
            reader.set(WRITE, 0, 10)
        assert not reader.table.holds_any()
    finally:
        os.close(descriptor)


def test_other_errors_of_opening_are_handed_on(
    owners: List[Owner], monkeypatch: pytest.MonkeyPatch
) -> None:
    """EMFILE is the caller's to know, and nothing is recorded."""

    def refuse(*arguments: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        with raises_errno(errno.EMFILE):
            owners[0].set(WRITE)
    assert not owners[0].table.holds_any()


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR])
def test_a_read_lock_keeps_nobody_from_executing_the_file(tmp_path: Path, flags: int) -> None:
    """It is no open for writing, which would be ETXTBSY, through whatever open it came."""
    program = Path(shutil.copy("/bin/true", str(tmp_path)))
    descriptor = os.open(str(program), flags)
    reader = Owner(LockTable(), descriptor, 1)
    try:
        reader.set(READ)
    finally:
        os.close(descriptor)
    subprocess.check_call([str(program)])
    with program.open() as file:
        reader._replace(descriptor=file.fileno()).set(UNLOCK)


def test_read_locks_outlive_the_first_write_lock(
    owners: List[Owner], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before and after each system call of it they are there, and one descriptor has all in the end."""
    one, two, _ = owners
    none = len(descriptors())
    one.set(READ, 0, 10)
    one.set(READ, 20, 10)
    system = fcntl.fcntl
    calls: List[str] = []

    def check() -> None:
        for start in (0, 20):
            asked = locks._Flock(WRITE, os.SEEK_SET, start, 10, 0)
            answer = system(one.descriptor, locks.F_OFD_GETLK, bytes(asked))
            assert locks._Flock.from_buffer_copy(answer).l_type != UNLOCK

    def checked(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            check()
            result = call(*arguments)
            check()
            calls.append(name)
            return result

        return run

    with monkeypatch.context() as patch:
        for module, name in ((os, "open"), (os, "close"), (fcntl, "fcntl")):
            patch.setattr(module, name, checked(name, getattr(module, name)))
        one.set(WRITE, 5, 10)
    assert calls == ["open", "fcntl", "fcntl", "close", "fcntl"]
    assert len(descriptors()) == none + 1
    assert two.test(READ, 0, 0) == Lock(WRITE, 5, 10, PIDS[1])
    assert two.test(WRITE, 0, 5) == Lock(READ, 0, 5, PIDS[1])
    assert two.test(WRITE, 20, 0) == Lock(READ, 20, 10, PIDS[1])


def test_a_first_write_lock_that_fails_leaves_the_read_locks(
    owners: List[Owner], monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the file cannot be opened anew, its locks cannot be taken anew, or another owner is in the way."""
    one, two, _ = owners
    one.set(READ, 0, 10)
    one.set(READ, 20, 10)
    before = len(descriptors())
    system = fcntl.fcntl
    calls: List[int] = []

    def refuse_open(*arguments: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    def refuse_second(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
        return system(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse_open)
        with raises_errno(errno.EMFILE):
            one.set(WRITE, 0, 10)
    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "fcntl", refuse_second)
        with raises_errno(errno.ENOLCK):
            one.set(WRITE, 0, 10)
    two.set(READ, 0, 10)
    with raises_errno(errno.EAGAIN, errno.EACCES):
        one.set(WRITE, 0, 10)
    two.set(UNLOCK)
    assert len(descriptors()) == before
    for start in (0, 20):
        assert two.test(WRITE, start, 10) == Lock(READ, start, 10, PIDS[1])


class Watched(threading.Event):
    """What interrupts a wait, and tells that it has begun: `asleep` is set by then."""

    def __init__(self) -> None:
        super().__init__()
        self.asleep = threading.Event()

    def wait(self, timeout: Optional[float] = None) -> bool:
        self.asleep.set()
        return super().wait(timeout)


@contextlib.contextmanager
def waiting(owner: Owner, kind: int, start: int = 0, length: int = 0) -> Iterator[threading.Event]:
    """In a thread, wait for a lock; the block begins when the first attempt has failed.

    The event is set when the thread has got the lock; the block must see to that.
    """
    got = threading.Event()
    interrupted = Watched()

    def wait() -> None:
        lock = Lock(kind, start, length, PIDS.get(owner.number, 0))
        owner.table.set(owner.descriptor, owner.number, lock, True, interrupted)
        got.set()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    assert interrupted.asleep.wait(20)
    yield got
    thread.join(20)
    assert got.is_set()


def test_an_interrupted_wait_ends_and_leaves_nothing(owners: List[Owner]) -> None:
    """EINTR reaches who waited, soon, and the lock is not taken later."""
    one, two, three = owners
    one.set(WRITE)
    interrupted = Watched()
    caught: List[OSError] = []

    def wait() -> None:
        try:
            two.table.set(two.descriptor, two.number, Lock(WRITE, 0, 0, 0), True, interrupted)
        except OSError as error:
            caught.append(error)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    assert interrupted.asleep.wait(20)
    interrupted.set()
    thread.join(20)
    assert [error.errno for error in caught] == [errno.EINTR]
    one.set(UNLOCK)
    three.set(WRITE)


def test_a_waiting_owner_gets_the_lock_when_it_is_free(owners: List[Owner]) -> None:
    """F_SETLKW blocks while another owner holds the range, and has the lock afterwards."""
    one, two, three = owners
    one.set(WRITE, 0, 10)
    with waiting(two, WRITE, 5, 10) as got:
        assert not got.is_set()
        one.set(UNLOCK)
    assert three.test(READ) == Lock(WRITE, 5, 10, PIDS[2])


def test_waiting_without_need_does_not_block(owners: List[Owner]) -> None:
    """F_SETLKW of a free range, and of one's own, returns at once."""
    owners[0].set(WRITE, 0, 10, wait=True)
    owners[0].set(READ, 0, 5, wait=True)
    assert owners[1].test(READ, 5, 5) == Lock(WRITE, 5, 5, PIDS[1])


def test_while_one_waits_the_others_go_on(owners: List[Owner]) -> None:
    """The table is not locked by a waiter: others test, take and drop locks."""
    one, two, three = owners
    one.set(WRITE, 0, 10)
    with waiting(two, WRITE, 0, 10):
        three.set(WRITE, 20, 10)
        assert two.test(WRITE, 20, 10) == Lock(WRITE, 20, 10, PIDS[3])
        three.set(UNLOCK)
        with raises_errno(errno.EAGAIN, errno.EACCES):
            three.set(READ, 0, 1)
        one.set(UNLOCK)


def test_an_owner_that_drops_all_while_it_waits_still_gets_the_lock(owners: List[Owner]) -> None:
    """The descriptor on which one thread waits is not closed when another drops the owner's last lock."""
    one, two, three = owners
    one.set(WRITE, 0, 10)
    two.set(WRITE, 20, 10)
    with waiting(two, WRITE, 0, 10):
        two.set(UNLOCK, 20, 10)
        one.set(UNLOCK)
    assert three.test(WRITE) == Lock(WRITE, 0, 10, PIDS[2])


def test_who_waits_to_read_gets_it_after_the_owners_first_write_lock(owners: List[Owner]) -> None:
    """One thread waits for a read lock while another goes over to a description for write locks."""
    one, two, three = owners
    one.set(WRITE, 0, 10)
    two.set(READ, 20, 10)
    with waiting(two, READ, 0, 10):
        two.set(WRITE, 40, 10)
        one.set(UNLOCK)
    assert three.test(WRITE, 0, 10) == Lock(READ, 0, 10, PIDS[2])
    assert three.test(WRITE, 20, 10) == Lock(READ, 20, 10, PIDS[2])
    assert three.test(READ, 0, 0) == Lock(WRITE, 40, 10, PIDS[2])


def test_two_waiters_get_it_one_after_the_other(owners: List[Owner]) -> None:
    """Each waiter gets the lock when the one before has dropped it."""
    one, two, three = owners
    one.set(WRITE)
    with waiting(two, READ):
        with waiting(three, READ):
            one.set(UNLOCK)
    assert one.test(READ) is None
    assert one.test(WRITE) is not None


def test_a_lock_taken_while_another_thread_drops_it_is_not_lost(
    owners: List[Owner], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two threads of one owner: unlock, then lock in the system's order, is locked in the table as well.

    The unlocking thread is held back between the system call and the note of it, if it lets go there.
    """
    one, two, _ = owners
    one.set(WRITE, 0, 10)
    unlocked, locked = threading.Event(), threading.Event()
    system = fcntl.fcntl

    def slow(descriptor: int, command: int, argument: bytes) -> bytes:
        answer = system(descriptor, command, argument)
        if threading.current_thread() is unlocking:
            unlocked.set()
            locked.wait(0.2)
        return answer

    unlocking = threading.Thread(target=one.set, args=(UNLOCK, 0, 10))
    monkeypatch.setattr(fcntl, "fcntl", slow)
    unlocking.start()
    assert unlocked.wait(20)
    one.set(WRITE, 0, 10)
    locked.set()
    unlocking.join()
    assert one.table.holds_any()
    assert two.test(READ) == Lock(WRITE, 0, 10, PIDS[1])


def test_waiting_ends_when_it_is_interrupted(owners: List[Owner]) -> None:
    """EINTR once the event is set; nothing is held then, and a lock that becomes free in time is got."""
    one, two, three = owners
    lock = Lock(WRITE, 0, 10, PIDS[2])
    interrupted = threading.Event()
    interrupted.set()
    one.set(WRITE, 0, 10)
    with raises_errno(errno.EINTR):
        two.table.set(two.descriptor, 2, lock, True, interrupted)
    one.set(UNLOCK)
    assert three.test(WRITE) is None
    two.table.set(two.descriptor, 2, lock, True, interrupted)
    assert three.test(WRITE) == lock


def test_an_interruptible_wait_gets_the_lock_when_it_is_free(owners: List[Owner]) -> None:
    """It takes its turn without being interrupted, and errors other than "not now" end it."""
    one, two, three = owners
    lock = Lock(WRITE, 0, 10, PIDS[2])
    one.set(WRITE, 0, 10)
    refused = threading.Event()

    class Interrupted(threading.Event):
        def wait(self, timeout: Optional[float] = None) -> bool:
            refused.set()
            return super().wait(timeout)

    thread = threading.Thread(
        target=two.table.set, args=(two.descriptor, 2, lock, True, Interrupted())
    )
    thread.start()
    assert refused.wait(20)
    one.set(UNLOCK)
    thread.join(20)
    assert three.test(WRITE) == lock
    with raises_errno(errno.EINVAL):
        two.table.set(two.descriptor, 2, lock._replace(start=-1), True, threading.Event())


RECORD_LOCKER = """
import fcntl, sys
with open(sys.argv[1], "r+b") as file:
    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 20)
    print("held", flush=True)
    sys.stdin.read()
"""


class RecordLocker:
    """A process that takes a record lock on bytes 20 to 29 and keeps it until `stop`, or the block's end.

    `said` is "held", or how Python reports that it could not.
    """

    def __init__(self, path: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", RECORD_LOCKER, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            universal_newlines=True,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.input, self.output = self.process.stdin, self.process.stdout

    def __enter__(self) -> str:
        said = self.output.readline().strip()
        return said if said == "held" else self.output.read()

    def stop(self) -> None:
        """Let the process drop the lock and end."""
        self.input.close()
        self.process.wait(20)

    def __exit__(self, *error: object) -> None:
        self.stop()
        self.output.close()


def test_record_locks_of_other_processes_are_in_the_way(file: Path, owners: List[Owner]) -> None:
    """A program that locks the backing file keeps the mount's users out, and F_GETLK names it."""
    one, two, _ = owners
    other = RecordLocker(file)
    with other as said:
        assert said == "held"
        with raises_errno(errno.EAGAIN, errno.EACCES):
            one.set(READ, 25, 1)
        one.set(WRITE, 30, 10)
        assert two.test(READ, 0, 30) == Lock(WRITE, 20, 10, other.process.pid)
        with waiting(two, WRITE, 20, 5):
            other.stop()
    assert one.test(READ, 20, 10) == Lock(WRITE, 20, 5, PIDS[2])


def test_other_processes_meet_the_locks_of_the_mount(file: Path, owners: List[Owner]) -> None:
    """A program at the backing file is kept out of what an owner has locked, and only of that."""
    one, two, _ = owners
    one.set(WRITE, 0, 20)
    two.set(READ, 30, 10)
    with RecordLocker(file) as said:
        assert said == "held"
    one.set(WRITE, 0, 21)
    with RecordLocker(file) as said:
        assert "BlockingIOError" in said


# The model: each owner's lock of each byte. The last byte stands for all that follow, which only a range
# without an end reaches.
BYTES = 12
Model = Dict[int, List[int]]

ranges = st.integers(min_value=0, max_value=BYTES - 1).flatmap(
    lambda start: st.tuples(st.just(start), st.integers(min_value=0, max_value=BYTES - 1 - start))
)
operations = st.lists(
    st.tuples(st.sampled_from(sorted(PIDS)), st.sampled_from([READ, WRITE, UNLOCK]), ranges),
    max_size=25,
)


def touched(start: int, length: int) -> Sequence[int]:
    """Return the model's bytes of a range."""
    return range(start, start + length if length else BYTES)


def conflicts(model: Model, owner: int, kind: int, places: Sequence[int]) -> bool:
    """Tell whether another owner's lock of these bytes excludes one of this kind."""
    return any(
        held[place] != UNLOCK and WRITE in (held[place], kind)
        for other, held in model.items()
        if other != owner and kind != UNLOCK
        for place in places
    )


@settings(deadline=None)
@given(operations)
def test_locks_split_and_merge_as_if_each_byte_had_its_own(
    steps: List[Tuple[int, int, Tuple[int, int]]],
) -> None:
    """Whatever is locked, converted and dropped, each byte is held by whom a per-byte record says.

    F_GETLK is asked for every byte by one who holds none; the lock it describes is one of the owner named.
    """
    model: Model = {owner: [UNLOCK] * BYTES for owner in PIDS}
    table = LockTable()
    with tempfile.TemporaryFile() as file:
        owners = {number: Owner(table, file.fileno(), number) for number in (*PIDS, STRANGER)}
        try:
            for number, kind, (start, length) in steps:
                places = touched(start, length)
                if conflicts(model, number, kind, places):
                    with raises_errno(errno.EAGAIN, errno.EACCES):
                        owners[number].set(kind, start, length)
                else:
                    owners[number].set(kind, start, length)
                    for place in places:
                        model[number][place] = kind
            for place in range(BYTES):
                held = {model[number][place] for number in PIDS}
                assert (owners[STRANGER].test(READ, place, 1) is None) == (WRITE not in held)
                found = owners[STRANGER].test(WRITE, place, 1)
                assert (found is None) == (held == {UNLOCK})
                if found is not None:
                    (holder,) = [number for number in PIDS if PIDS[number] == found.pid]
                    kinds = {model[holder][at] for at in touched(found.start, found.length)}
                    assert kinds == {found.type}
            assert table.holds_any() == any(set(locks) != {UNLOCK} for locks in model.values())
        finally:
            for number in PIDS:
                owners[number].set(UNLOCK)
    assert not table.holds_any()


def test_closing_drops_what_was_taken_through_the_open_file(tmp_path: Path) -> None:
    """Of every owner, and nothing that was taken through another open of the file."""
    table = LockTable()
    descriptors = [os.open(str(tmp_path / "file"), os.O_CREAT | os.O_RDWR) for _ in range(2)]
    one, two = descriptors
    try:
        table.set(one, 1, Lock(fcntl.F_RDLCK, 0, 10, 0), wait=False)
        table.set(one, 2, Lock(fcntl.F_RDLCK, 0, 10, 0), wait=False)
        table.set(two, 3, Lock(fcntl.F_RDLCK, 0, 10, 0), wait=False)
        table.closing(one)
        exclusive = Lock(fcntl.F_WRLCK, 0, 10, 0)
        assert table.test(one, 3, exclusive) is None
        table.closing(two)
        assert not table.holds_any()
        table.closing(two)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def test_closing_leaves_what_its_owner_has_taken_anew_elsewhere(tmp_path: Path) -> None:
    """A process that closes a file drops its locks; the last close of that open may be heard of later."""
    table = LockTable()
    descriptors = [os.open(str(tmp_path / "file"), os.O_CREAT | os.O_RDWR) for _ in range(2)]
    one, two = descriptors
    try:
        table.set(one, 1, Lock(fcntl.F_WRLCK, 0, 10, 0), wait=False)
        table.set(one, 1, Lock(fcntl.F_UNLCK, 0, 0, 0), wait=False)
        table.set(two, 1, Lock(fcntl.F_WRLCK, 0, 10, 0), wait=False)
        table.closing(one)
        assert table.test(one, 2, Lock(fcntl.F_RDLCK, 0, 1, 0)) is not None
        table.closing(two)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def test_nothing_is_remembered_when_nobody_holds_a_lock(tmp_path: Path) -> None:
    """Not of an owner who has dropped all of it by ranges either: an open file may live long."""
    table = LockTable()
    with (tmp_path / "file").open("w+") as file:
        descriptor = file.fileno()
        table.set(descriptor, 1, Lock(fcntl.F_WRLCK, 5, 10, 0), wait=False)
        table.set(descriptor, 1, Lock(fcntl.F_UNLCK, 5, 4, 0), wait=False)
        assert table._owners == {descriptor: {1}}
        table.set(descriptor, 1, Lock(fcntl.F_UNLCK, 9, 6, 0), wait=False)
        assert (table._owners, table._holdings) == ({}, {})


def test_a_lock_costs_the_same_however_many_its_owner_holds(tmp_path: Path) -> None:
    """A database locks single bytes by the thousand."""
    costs: List[List[int]] = []
    with (tmp_path / "file").open("w+") as file:
        for held in (16, 2_048):
            table = LockTable()
            owner = Owner(table, file.fileno(), 1)
            for number in range(held):
                owner.set(WRITE, 2 * number, 1)
            costs.append(
                [
                    lines_run(lambda owner=owner, kind=kind, at=at: owner.set(kind, at, 1), locks)
                    for at in (held, held + 1)
                    for kind in (UNLOCK, READ, WRITE)
                ]
            )
            owner.set(UNLOCK)
    assert max(costs[1]) <= max(costs[0]) + 100  # bisection: seven steps more, twice
