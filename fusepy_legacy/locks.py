"""POSIX record locks of the mount's users, taken on the backing files.

A record lock belongs to a process (fcntl(2)), but here one process holds the locks of all. Its own record
locks would never exclude each other, and closing any descriptor of a file would drop them all. Open file
description locks (Linux 3.15) have neither fault: they belong to a descriptor, exclude each other and the
record locks of other processes. So every lock owner gets one description per file, with all its locks of
that file on it; closing the description drops them.

It is for reading until the owner's first write lock. A file that is open for writing cannot be executed
(execve(2), ETXTBSY) nor get a read lease (fcntl(2)), and closing it tells who watches the file that it has
been written (inotify(7), IN_CLOSE_WRITE), which no reader may cause.

A lock owner is the kernel's number for a process's table of open files: fork makes a new owner, dup and
threads do not. For an open file description lock of the mount's users it is that of their open file; nobody
says when it is over but the last close (fs/fuse/file.c sends no unlock), so it is known which owners have
taken locks through which open file.

The kernel finds processes that wait for each other (EDEADLK), but not here, where the locks are held by
others than those who wait: deadlocks.py does.
"""

import bisect
import ctypes
import errno
import fcntl
import functools
import os
import threading
from typing import Callable, Dict, List, NamedTuple, Optional, Set, Tuple

from fusepy_legacy.deadlocks import Wait, WaitGraph

# linux/fcntl.h; Python 3.9 has them in fcntl.
F_OFD_GETLK = 36
F_OFD_SETLK = 37

_FIRST_DELAY = 0.001  # seconds
_LONGEST_DELAY = 0.02
_IN_THE_WAY = (errno.EAGAIN, errno.EACCES)  # either, by fcntl(2)
_NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ETXTBSY)

_FileId = Tuple[int, int]


class _Flock(ctypes.Structure):
    _fields_ = (
        ("l_type", ctypes.c_short),
        ("l_whence", ctypes.c_short),
        ("l_start", ctypes.c_int64),
        ("l_len", ctypes.c_int64),
        ("l_pid", ctypes.c_int),
    )


class Lock(NamedTuple):
    """A byte range: `type` is F_RDLCK, F_WRLCK or F_UNLCK, a `length` of 0 reaches to the end of any file."""

    type: int
    start: int
    length: int
    pid: int

    @property
    def end(self) -> float:
        """The first byte behind the range."""
        return self.start + self.length if self.length else float("inf")

    def overlaps(self, other: "Lock") -> bool:
        """Tell whether the two share a byte."""
        return self.start < other.end and other.start < self.end

    def excludes(self, other: "Lock") -> bool:
        """Tell whether another owner cannot have `other` beside this one."""
        return fcntl.F_WRLCK in (self.type, other.type) and self.overlaps(other)


class _Holding:
    """What one owner holds on one file: the description that carries the locks, and a record of them.

    `for_writing` tells whether it was opened for write locks, as far as the file let it. `busy` counts the
    calls that use the description at the moment, so that it is not closed below them.
    """

    __slots__ = ("descriptor", "for_writing", "locks", "busy")

    def __init__(self, descriptor: int, for_writing: bool) -> None:
        self.descriptor = descriptor
        self.for_writing = for_writing
        self.locks: List[Lock] = []
        self.busy = 0

    def replace(self, descriptor: int) -> None:
        """Go over to another description, for write locks; no lock is ever missing. Raises OSError.

        All locks are read locks until then, which exclude each other on no description. After an error
        everything is as it was.
        """
        try:
            for lock in self.locks:
                _fcntl(descriptor, F_OFD_SETLK, lock)
        except BaseException:
            os.close(descriptor)
            raise
        replaced, self.descriptor = self.descriptor, descriptor
        self.for_writing = True
        os.close(replaced)


class LockTable:
    """The record locks of one mount. Safe for threads: a lock of its own guards the table."""

    def __init__(self) -> None:
        self._holdings: Dict[int, Dict[_FileId, _Holding]] = {}  # by owner
        self._owners: Dict[int, Set[int]] = {}  # by the descriptor through which they took locks
        self._waits = WaitGraph()
        self._guard = threading.Lock()

    def test(self, descriptor: int, owner: int, lock: Lock) -> Optional[Lock]:
        """Return a lock that keeps `owner` from taking `lock` on the open file, None when nothing does.

        Its `pid` is the holder's: of this mount's users or of another process, 0 when not to be known.
        """
        file = _file_id(descriptor)
        with self._guard:
            holding = self._holdings.get(owner, {}).get(file)
            # An owner without locks may ask through any description: it has none to conflict with.
            asking = descriptor if holding is None else holding.descriptor
            found = _fcntl(asking, F_OFD_GETLK, lock)
            if found.type == fcntl.F_UNLCK:
                return None
            return found._replace(pid=self._holder(file, owner, found))

    def set(
        self,
        descriptor: int,
        owner: int,
        lock: Lock,
        wait: bool,
        interrupted: Optional[threading.Event] = None,
        thread: int = 0,
    ) -> None:
        """Take or drop a lock on the open file for `owner`.

        With `wait`, blocks until no other lock is in the way, or until `interrupted` is set, if there is
        one. `thread` is the number of the thread that asks, 0 when it is not known; then a deadlock is not
        told. Raises OSError: EAGAIN when a lock is in the way, EINTR, EDEADLK, ENOLCK and the rest as
        fcntl(2).
        """
        file = _file_id(descriptor)
        with self._guard:
            self._note(descriptor, owner, lock)
            holding = self._holdings.get(owner, {}).get(file)
            for_writing = lock.type == fcntl.F_WRLCK
            if holding is None:
                if lock.type == fcntl.F_UNLCK:
                    return
                holding = _Holding(_reopen(descriptor, for_writing), for_writing)
                self._holdings.setdefault(owner, {})[file] = holding
            elif for_writing and not holding.for_writing:
                # Who waits for a lock goes on with the new description: each attempt looks it up.
                holding.replace(_reopen(descriptor, for_writing))
            holding.busy += 1
        try:
            if wait:
                blockers = functools.partial(self._blockers, file, owner, lock)
                waiting = Wait(owner, thread, blockers, interrupted or threading.Event())
                wait_for(lambda: self._attempt_waiting(holding, lock, waiting), interrupted)
            else:
                self._attempt(holding, lock)
        finally:
            with self._guard:
                if wait:
                    self._waits.remove(waiting)
                holding.busy -= 1
                if not holding.locks and not holding.busy:
                    os.close(holding.descriptor)
                    del self._holdings[owner][file]
                    if not self._holdings[owner]:
                        del self._holdings[owner]
                    if not self._holdings:
                        self._owners.clear()

    def closing(self, descriptor: int) -> None:
        """Drop what was locked through an open file, because its last close has come.

        The owner of record locks has dropped its own by then: each close of a process does.
        """
        for owner in self._owners.pop(descriptor, ()):
            self.set(descriptor, owner, Lock(fcntl.F_UNLCK, 0, 0, 0), wait=False)

    def holds_any(self) -> bool:
        """Tell whether any owner holds a lock: without one, closing a file has nothing to drop."""
        return bool(self._holdings)

    def _note(self, descriptor: int, owner: int, lock: Lock) -> None:
        """Remember who takes locks through an open file, until they drop all they have on it."""
        if lock.type != fcntl.F_UNLCK:
            self._owners.setdefault(descriptor, set()).add(owner)
        elif lock.start == 0 and lock.length == 0 and descriptor in self._owners:
            self._owners[descriptor].discard(owner)
            if not self._owners[descriptor]:
                del self._owners[descriptor]

    def _attempt(self, holding: _Holding, lock: Lock) -> None:
        """Take or drop a lock at once, and record it before another thread can change it."""
        with self._guard:
            self._take(holding, lock)

    def _attempt_waiting(self, holding: _Holding, lock: Lock, waiting: Wait) -> None:
        """Do the same, and raise EDEADLK when who is in the way waits for this owner.

        Nobody else does then: this wait is out of the graph before the others look at it again.
        """
        with self._guard:
            try:
                self._take(holding, lock)
                self._waits.remove(waiting)
            except OSError as error:
                if error.errno not in _IN_THE_WAY or not self._is_deadlock(waiting):
                    raise
                self._waits.remove(waiting)
                raise OSError(errno.EDEADLK, os.strerror(errno.EDEADLK)) from None

    def _take(self, holding: _Holding, lock: Lock) -> None:
        _fcntl(holding.descriptor, F_OFD_SETLK, lock)
        _record(holding.locks, lock)

    def _is_deadlock(self, waiting: Wait) -> bool:
        self._waits.add(waiting)
        # Nobody waits for an owner who holds nothing, and most who wait do not.
        holds = any(holding.locks for holding in self._holdings[waiting.owner].values())
        return holds and self._waits.is_deadlock(waiting)

    def _blockers(self, file: _FileId, owner: int, lock: Lock) -> Set[int]:
        """Return the owners whose locks keep `owner` from taking a lock at the moment."""
        return {
            other
            for other, holdings in self._holdings.items()
            if other != owner
            and file in holdings
            and any(held.excludes(lock) for held in holdings[file].locks)
        }

    def _holder(self, file: _FileId, asking: int, found: Lock) -> int:
        """Name the process behind a conflicting lock; the kernel says -1 for description locks."""
        if found.pid > 0:
            return found.pid
        for owner, holdings in self._holdings.items():
            if owner != asking and file in holdings:
                for held in holdings[file].locks:
                    if held._replace(pid=found.pid) == found:
                        return held.pid
        return 0


def wait_for(attempt: Callable[[], object], interrupted: Optional[threading.Event]) -> None:
    """Repeat a lock attempt until it succeeds; raise EINTR when `interrupted` is set, if there is one.

    Only a signal to this very thread would end a blocking fcntl, and Python would restart it (PEP 475).
    """
    interrupted = interrupted or threading.Event()
    delay = _FIRST_DELAY
    while True:
        try:
            attempt()
            return
        except OSError as error:
            if error.errno not in _IN_THE_WAY:
                raise
        if interrupted.wait(delay):
            raise OSError(errno.EINTR, os.strerror(errno.EINTR))
        delay = min(2 * delay, _LONGEST_DELAY)


def _file_id(descriptor: int) -> _FileId:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def _reopen(descriptor: int, for_writing: bool) -> int:
    """Open the same file anew, for a description of its own.

    For write locks that is for reading and writing if possible: the owner may take shared locks too. The
    kernel has checked that the open that a lock came through allows it.
    """
    path = f"/proc/self/fd/{descriptor}"
    if not for_writing:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        if error.errno not in _NOT_WRITABLE:
            raise
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    return os.open(path, flags & os.O_ACCMODE | os.O_CLOEXEC)


def _fcntl(descriptor: int, command: int, lock: Lock) -> Lock:
    argument = _Flock(lock.type, os.SEEK_SET, lock.start, lock.length, 0)
    answer = _Flock.from_buffer_copy(fcntl.fcntl(descriptor, command, bytes(argument)))
    return Lock(answer.l_type, answer.l_start, answer.l_len, answer.l_pid)


class _Starts:
    """The first bytes of a record's ranges, for bisect, which takes a key from Python 3.10 on only."""

    def __init__(self, locks: List[Lock]) -> None:
        self.locks = locks

    def __len__(self) -> int:
        return len(self.locks)

    def __getitem__(self, index: int) -> int:
        return self.locks[index].start


def _record(locks: List[Lock], new: Lock) -> None:
    """Write `new` into a record, which has its ranges in order.

    Only those that it overlaps or touches are looked at: a database can hold thousands.
    """
    starts = _Starts(locks)
    first = max(0, bisect.bisect_left(starts, new.start) - 1)  # the one before may reach into it
    last = bisect.bisect_right(starts, new.end)
    locks[first:last] = _merged(_replaced(locks[first:last], new))


def _replaced(locks: List[Lock], new: Lock) -> List[Lock]:
    """Return the ranges after `new`: it replaces what it overlaps, and splits what reaches beyond it."""
    result = []
    for held in locks:
        if not held.overlaps(new):
            result.append(held)
            continue
        if held.start < new.start:
            result.append(held._replace(length=new.start - held.start))
        if new.end < held.end:
            start = new.start + new.length
            length = held.start + held.length - start if held.length else 0
            result.append(held._replace(start=start, length=length))
    if new.type != fcntl.F_UNLCK:
        result.append(new)
    return result


def _merged(locks: List[Lock]) -> List[Lock]:
    """Return the locks with touching ones of one type as one, as the kernel keeps them (fs/locks.c)."""
    result: List[Lock] = []
    for lock in sorted(locks, key=lambda held: held.start):
        last = result[-1] if result else None
        if last is not None and last.type == lock.type and last.end == lock.start:
            length = last.length + lock.length if lock.length else 0
            result[-1] = last._replace(length=length, pid=lock.pid)
        else:
            result.append(lock)
    return result
