"""Processes that wait for each other's record locks, so that none would ever go on: EDEADLK of fcntl(2).

The kernel looks for them only among its own record locks (linux/fs/locks.c, posix_locks_deadlock). On a
mirror all that hold a lock and all that wait for one are known here, so the graph of who waits for whom is
searched here: an owner who waits, directly or over others, for himself waits forever. Who waits or holds on
the backing side is not in it.

An open file description lock is of no process, and another thread may drop it, so waiting for one never
fails so (fcntl(2)). A FUSE request does not tell which of the two is wanted, but the waiting thread's system
call does (proc(5), /proc/PID/syscall). Where that may not be read, nobody gets EDEADLK.
"""

import fcntl
import threading
from typing import Callable, Optional, Set

_F_SETLKW64 = 14  # asm-generic/fcntl.h; of 32-bit programs
_COMMANDS = (fcntl.F_SETLKW, _F_SETLKW64)


class Wait:
    """A request that waits: whose, in which thread, and for whom.

    `thread` is its number, 0 when it is not known. `blockers` returns the owners who are in the way at the
    moment. The request gives up when `interrupted` is set.
    """

    __slots__ = ("owner", "thread", "blockers", "interrupted", "_command")

    def __init__(
        self,
        owner: int,
        thread: int,
        blockers: Callable[[], Set[int]],
        interrupted: threading.Event,
    ) -> None:
        self.owner = owner
        self.thread = thread
        self.blockers = blockers
        self.interrupted = interrupted
        self._command: Optional[int] = None

    def counts(self) -> bool:
        """Tell whether this is a wait for a record lock that goes on."""
        if self._command is None:
            self._command = _second_argument(self.thread)
        return self._command in _COMMANDS and not self.interrupted.is_set()


class WaitGraph:
    """Who waits for whom. Not safe for threads."""

    def __init__(self) -> None:
        self._waits: Set[Wait] = set()

    def add(self, wait: Wait) -> None:
        """Let a wait be seen by the others; it may be known already."""
        self._waits.add(wait)

    def remove(self, wait: Wait) -> None:
        """Forget a wait that is over; it may be so already."""
        self._waits.discard(wait)

    def is_deadlock(self, wait: Wait) -> bool:
        """Tell whether an owner waits, directly or over others, for a lock of his own."""
        if len(self._waits) < 2 or not wait.counts():
            return False
        met: Set[int] = set()
        following = wait.blockers()
        while following:
            if wait.owner in following:
                return True
            met |= following
            blocking: Set[int] = set()
            for other in self._waits:
                if other.owner in following and other.counts():
                    blocking |= other.blockers()
            following = blocking - met
        return False


def _second_argument(thread: int) -> Optional[int]:
    """Return the second argument of the system call in which a thread waits, None when not to be known.

    It is not known for a moment after the request was sent, while the thread still runs.
    """
    try:
        with open(f"/proc/{thread}/syscall", "rb") as file:
            return int(file.read().split()[2], 16)
    except (OSError, IndexError):
        return None
