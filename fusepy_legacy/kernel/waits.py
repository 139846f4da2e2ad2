"""Requests that wait in their handlers, and how the kernel ends such a wait: INTERRUPT."""

import collections
import contextlib
import threading
from typing import Callable, Deque, Dict, Iterator


class Waits:
    """Requests that wait, and can be interrupted: `begin` one, `interrupt` it by its number, `end` it.

    An INTERRUPT may come before its request (fs/fuse/dev.c), so the last numbers that met nothing are
    remembered; unknown ones are mostly of requests that do not wait, and are over soon.

    `on_wait` is called by a thread that is about to wait, and should not keep others from their requests.
    """

    def __init__(self) -> None:
        self.on_wait: Callable[[], None] = lambda: None
        self._guard = threading.Lock()
        self._events: Dict[int, threading.Event] = {}
        self._early: Deque[int] = collections.deque(maxlen=64)
        self.over = False  # the mount ends

    def __len__(self) -> int:
        return len(self._events)

    def __contains__(self, unique: int) -> bool:
        return unique in self._events

    def begin(self, unique: int) -> threading.Event:
        """Return an event that is set when request `unique` is to end: a new one, or the one it has."""
        with self._guard:
            event = self._events.setdefault(unique, threading.Event())
            if unique in self._early:
                self._early.remove(unique)
                event.set()
            if self.over:
                event.set()
        return event

    def end(self, unique: int) -> None:
        """Forget a request that has been served."""
        with self._guard:
            self._events.pop(unique, None)

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Around a wait that nobody interrupts, for which there may be one more thread."""
        unique = -threading.get_ident()  # no request's
        self.begin(unique)
        self.on_wait()
        try:
            yield
        finally:
            self.end(unique)

    def interrupt(self, unique: int) -> None:
        """Ask a request to end, now or when it begins."""
        with self._guard:
            event = self._events.get(unique)
            if event is None:
                self._early.append(unique)
            else:
                event.set()

    def interrupt_all(self) -> None:
        """Ask all waiting requests to end, and those that begin later too, because the mount does."""
        with self._guard:
            self.over = True
            for event in self._events.values():
                event.set()
