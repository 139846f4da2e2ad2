"""Threads that serve requests: one leads, the others stand by.

Python runs one thread at a time, so a second reader only makes small requests slower: each of its system
calls is a chance to lose the interpreter to the other. So one thread, the leader, reads and serves alone,
as long as that is quick. It hands the lead to another thread

- before a request of a kind that has lately been slow: file I/O, a filesystem that asks a network;
- when a watcher finds it inside the same request for two ticks: what never was slow may be now, and a
  handler may wait for another request.

A waiting lock therefore keeps one thread, and the loop goes on.
"""

import errno
import logging
import mmap
import struct
import threading
import time
from typing import Callable, Dict, List, Optional

from fusepy_legacy.kernel import abi
from fusepy_legacy.kernel.device import Device
from fusepy_legacy.kernel.engine import Engine
from fusepy_legacy.kernel.negotiation import MAX_WRITE

logger = logging.getLogger(__name__)

DEFAULT_WORKERS = 10  # as many as libfuse 2.9 keeps: lib/fuse_loop_mt.c
SLOW = 2e-3  # seconds
_TICK = 0.01  # seconds
_IDLE_TICKS = 10  # after which the watcher sleeps until the next request
_RETRY = 0.02  # seconds from one attempt to take a lock to the next
_WEIGHT = 0.2  # of the newest duration in a request kind's average

_REFUSED_AT_ONCE = 100  # whoever does not give up shall not keep the end waiting

_OPCODE = struct.Struct("=I")  # of abi.IN_HEADER, behind its length
_OPCODE_AT = 4
_UNIQUE = struct.Struct("=Q")
_UNIQUE_AT = 8

# No request is larger: the most that INIT agrees on, and IN_HEADER, WRITE_IN or names.
_BUFFER_SIZE = MAX_WRITE + 8192


def _kind(request: memoryview) -> int:
    """Return a request's opcode."""
    opcode: int = _OPCODE.unpack_from(request, _OPCODE_AT)[0]
    return opcode


class Term:
    """One thread's time as leader; `serving` while it is in a request, which only that thread sets."""

    __slots__ = ("serving", "thread")

    def __init__(self) -> None:
        self.serving = False
        self.thread = threading.get_ident()


class Workers:
    """The threads of one mount."""

    def __init__(
        self, device: Device, engine: Engine, limit: int, on_end: Callable[[], None]
    ) -> None:
        """`limit`: how many requests are served at once, waiting locks aside."""
        self._device = device
        self._engine = engine
        self._limit = limit
        self._on_end = on_end
        self._averages: Dict[int, float] = {}  # of kinds that have ever been slow
        self._lead = threading.Lock()  # held for the leader, by whichever thread
        self._guard = threading.Lock()  # for _term, _threads and _idle
        self._term: Optional[Term] = None
        self._threads = 0
        self._idle = 0
        self._served = 0
        self._resting = False  # the watcher sleeps, or is about to, until `_active` is set
        self._active = threading.Event()
        self._ended = False
        self.death: Optional[BaseException] = None  # what a thread died of
        self._all_gone = threading.Event()
        self._all_gone.set()

    def run_alone(self) -> None:
        """Serve in the calling thread, one request after the other, until the end.

        A lock that has to wait is tried again and again.
        """
        buffer = _new_buffer()
        waiting: List[memoryview] = []
        while True:
            if not waiting or self._device.is_ready(_RETRY):
                request = self._device.read(buffer)
                if request is None:
                    return
                if self._leaves_waiting(request):
                    waiting.append(memoryview(bytes(request)))
            waiting = [request for request in waiting if self._leaves_waiting(request)]

    def start(self) -> None:
        """Start the threads; `on_end` is called when the last request has been read."""
        self._engine.waits.on_wait = self._stand_aside
        self._all_gone.clear()
        self._start_thread()
        if self._limit > 1:
            threading.Thread(target=self._watch, name="fuse-watcher", daemon=True).start()

    def wait(self, seconds: float) -> bool:
        """Wait until no thread serves any more; return false when one does after so long.

        After the device's end that is one in a handler: those that read or stand by end at once.
        """
        return self._all_gone.wait(seconds)

    def refuse(self) -> None:
        """Answer requests that are there as the kernel does when the end has come."""
        buffer = _new_buffer()
        for _ in range(_REFUSED_AT_ONCE):
            request = self._device.take(buffer)
            if request is None:
                break
            unique = _UNIQUE.unpack_from(request, _UNIQUE_AT)[0]
            self._device.write(abi.OUT_HEADER.pack(abi.OUT_HEADER.size, -errno.ENOTCONN, unique))

    def _serve(self, request: memoryview) -> None:
        reply = self._engine.handle(request)
        if reply is not None and not self._device.write(reply):
            self._engine.refused(request, reply)

    def _leaves_waiting(self, request: memoryview) -> bool:
        """Serve a request, and tell whether it is to be served again."""
        self._serve(request)
        return _UNIQUE.unpack_from(request, _UNIQUE_AT)[0] in self._engine.waits

    def _start_thread(self) -> None:
        with self._guard:
            self._threads += 1
        threading.Thread(target=self._work, name="fuse-worker", daemon=True).start()

    def _work(self) -> None:
        buffer = _new_buffer()
        try:
            while not self._ended:
                with self._guard:
                    if self._threads - self._idle > 1 and self._idle >= self._limit:
                        break
                    self._idle += 1
                self._lead.acquire()
                term = Term()
                with self._guard:
                    self._idle -= 1
                    self._term = term
                if not self._lead_on(term, buffer):
                    break
        except BaseException as error:
            logger.critical("a worker died; the mount ends", exc_info=True)
            self.death = error
            self._device.stop()  # another may be reading
            self._end()
        finally:
            with self._guard:
                self._threads -= 1
                if self._threads == 0:
                    self._all_gone.set()

    def _lead_on(self, term: Term, buffer: memoryview) -> bool:
        """Read and serve until the lead is someone else's; return false at the end."""
        read, write = self._device.read, self._device.write
        handle = self._engine.handle
        averages = self._averages
        clock = time.perf_counter
        while self._term is term:
            request = read(buffer)
            if request is None:
                self._end()
                return False
            if averages and averages.get(_kind(request), 0.0) > SLOW:
                self._hand_over(term)
            self._served += 1
            term.serving = True
            if self._resting:
                self._active.set()
            start = clock()
            reply = handle(request)
            if reply is not None and not write(reply):
                self._engine.refused(request, reply)
            duration = clock() - start
            term.serving = False
            if averages or duration > SLOW:
                self._measured(_kind(request), duration)
        return True

    def _measured(self, kind: int, duration: float) -> None:
        """Take note of how long a request took, if one of its kind has ever been slow."""
        if duration > SLOW or kind in self._averages:
            average = self._averages.get(kind, 0.0)
            self._averages[kind] = average + _WEIGHT * (duration - average)

    def _hand_over(self, term: Term) -> None:
        """Give the lead to a thread that stands by, or to a new one, if there may be one more."""
        with self._guard:
            if self._term is not term:
                return
            waiting = len(self._engine.waits)
            if self._idle == 0 and self._threads >= self._limit + waiting:
                return
            needed = self._idle == 0
            self._term = None
            self._lead.release()  # with the guard: `_end` may be about to
        if needed:
            self._start_thread()

    def _stand_aside(self) -> None:
        """Hand the lead over if the calling thread has it."""
        term = self._term
        if term is not None and term.thread == threading.get_ident():
            self._hand_over(term)

    def _watch(self) -> None:
        """Hand the lead over when the leader stays in one request."""
        quiet = 0
        served = -1
        while not self._ended:
            if quiet >= _IDLE_TICKS:
                # Set before the look at what the leader sets before it looks at this.
                self._resting = True
                self._active.clear()
                term = self._term
                serving = term is not None and term.serving
                if served == self._served and not serving and not self._ended:
                    self._active.wait()
                self._resting = False
                quiet = 0
            time.sleep(_TICK)
            term = self._term
            if served != self._served:
                served = self._served
                quiet = 0
            elif term is not None and term.serving:
                self._hand_over(term)
            else:
                quiet += 1

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self._active.set()
            self._on_end()
        with self._guard:
            self._term = None
            if self._lead.locked():
                self._lead.release()


def _new_buffer() -> memoryview:
    """Return room for the largest request; what small ones do not touch takes no memory."""
    return memoryview(mmap.mmap(-1, _BUFFER_SIZE))
