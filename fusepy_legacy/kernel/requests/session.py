"""Requests about the mount as a whole: INIT, DESTROY, INTERRUPT, STATFS, SYNCFS."""

import collections
import contextlib
import errno
import logging
import os
import struct
import threading
from typing import TYPE_CHECKING, Callable, Deque, Dict, Iterator

from fusepy_legacy.kernel import abi, negotiation
from fusepy_legacy.kernel.nodes import Node
from fusepy_legacy.kernel.operations import call

if TYPE_CHECKING:
    from fusepy_legacy.kernel.engine import Engine

logger = logging.getLogger(__name__)


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
        """Ask all waiting requests to end, because the mount does."""
        with self._guard:
            for event in self._events.values():
                event.set()


def init(engine: "Engine", node: Node, data: memoryview) -> bytes:
    """Agree with the kernel on what both can do, and start the filesystem.

    A failing fsinit fails the mount: the kernel takes an error here as its end.
    """
    layout = abi.INIT_IN if len(data) >= abi.INIT_IN.size else abi.INIT_IN_COMPAT
    try:
        request = abi.InitIn(*layout.unpack_from(data))
    except struct.error as error:
        raise OSError(errno.EINVAL, f"malformed INIT: {error}") from error
    operations = engine.operations
    locks = abi.INIT_POSIX_LOCKS if operations.lock is not None else 0
    locks |= abi.INIT_FLOCK_LOCKS if operations.flock is not None else 0
    offer = negotiation.negotiate(request, engine.options, engine.wanted, locks)
    if not offer.agreement.minor:
        return offer.reply  # the kernel is of a later major version, and will ask again
    engine.agreement = offer.agreement
    if not offer.agreement.has(abi.INIT_PASSTHROUGH):
        engine.backings.open = None
    try:
        if operations.fsinit is not None:
            call(operations.fsinit)
    except BaseException as error:
        if not isinstance(error, OSError):  # an OSError says all in its one line
            logger.error("fsinit failed", exc_info=True)
        engine.failure = error
        engine.on_failure()
        raise OSError(errno.EIO, os.strerror(errno.EIO)) from error
    engine.on_ready()
    return offer.reply


def destroy(engine: "Engine", node: Node) -> bytes:
    """Answer; fsdestroy is called when the loop has ended, which not every kernel announces."""
    return b""


def interrupt(engine: "Engine", node: Node, unique: int) -> None:
    """Ask a waiting request to end. There is no answer: the request's own is the answer."""
    engine.running.interrupt(unique)


def statfs(engine: "Engine", node: Node) -> bytes:
    """Return size and room: the path's if the handler takes one, as fuse-python's does not."""
    operations = engine.operations
    if operations.statfs is None:  # what libfuse answers: lib/fuse.c, fuse_lib_statfs
        return abi.STATFS_OUT.pack(0, 0, 0, 0, 0, 512, 255, 0)
    if operations.takes("statfs", 1):
        try:
            status = engine.call_by_path("statfs", node)
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
            status = call(operations.statfs, "/")
    else:
        status = call(operations.statfs)
    return abi.STATFS_OUT.pack(
        int(status.f_blocks),
        int(status.f_bfree),
        int(status.f_bavail),
        int(status.f_files),
        int(status.f_ffree),
        int(status.f_bsize),
        int(status.f_namemax),
        int(status.f_frsize),
    )


def syncfs(engine: "Engine", node: Node, padding: int) -> bytes:
    """Bring the whole filesystem to the disk."""
    call(engine.required("syncfs"))
    return b""
