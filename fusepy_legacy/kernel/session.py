"""One mount from its start to its end: mount, serve, signals, unmount."""

import logging
import math
import os
import signal
import threading
import time
from types import FrameType
from typing import AbstractSet, Any, Callable, Dict, List, Optional, Tuple

from fusepy_legacy.kernel import notifications
from fusepy_legacy.kernel.daemon import Daemon
from fusepy_legacy.kernel.device import DEFAULT_SPIN, Device
from fusepy_legacy.kernel.engine import Engine
from fusepy_legacy.kernel.latency import WakeLatency, default_latency
from fusepy_legacy.kernel.meant import FileId
from fusepy_legacy.kernel.memory import give_back_large_blocks
from fusepy_legacy.kernel.mounting import Mount, sync_filesystem
from fusepy_legacy.kernel.nodes import Node
from fusepy_legacy.kernel.operations import Callback, call
from fusepy_legacy.kernel.options import MountArguments
from fusepy_legacy.kernel.workers import DEFAULT_WORKERS, Workers

logger = logging.getLogger(__name__)

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Not SIGHUP, which a terminal that goes away and its shell both send.
_INSISTING = (signal.SIGINT, signal.SIGTERM)
# Seconds: a second signal means more than the first only after that, and a wait is worth a word.
_PATIENCE = 1.0
_LOOK_AGAIN = 0.02  # seconds


class SessionError(Exception):
    """The mount was refused, or the filesystem failed to start: `str()` says which."""


class Session:
    """A filesystem's handlers, mounted.

    `exit` may be called from any thread, and by a handler.
    """

    def __init__(
        self,
        arguments: MountArguments,
        callbacks: Dict[str, Callback],
        multithreaded: bool,
        wanted: AbstractSet[str] = frozenset(),
    ) -> None:
        self._arguments = arguments
        self._multithreaded = multithreaded
        self._ended = threading.Event()
        self._exiting = threading.Lock()
        self._exit_early = False
        self._signalled = math.inf  # when
        self._insisted = False
        self._root_file_id: Optional[FileId] = None
        self.engine = Engine(callbacks, arguments.options, wanted)
        self._mount: Optional[Mount] = None
        self._device: Optional[Device] = None
        self._workers: Optional[Workers] = None

    def run(self) -> None:
        """Mount, serve, and return after the unmount.

        In the background the calling process exits 0 when the mount works, and the rest happens in
        another (daemon.py). Raises SessionError.
        """
        daemon = Daemon(self._arguments.foreground)
        daemon.fork()
        restore = self._take_signals()  # before the mount, which must not outlive us
        try:
            self._start(daemon)
            try:
                self._serve()
            finally:
                self._finish()
        finally:
            restore()
        if self.engine.failure is not None:
            failure = self.engine.failure
            raise SessionError(f"the filesystem failed to start: {describe(failure)}") from failure

    def exit(self) -> None:
        """Unmount and let `run` return; programs that still use the mount get ENOTCONN."""
        if self._device is None:
            self._exit_early = True  # a signal; `_start` comes back to it
        elif self._exiting.acquire(blocking=False):
            # Unmounting makes requests (what is not written back yet), so the loop must go on.
            threading.Thread(target=self._unmount, name="fuse-unmount", daemon=True).start()

    def exit_if_unused(self) -> bool:
        """Unmount and let `run` return, unless the mount is in use; tell which.

        Only the kernel knows, as a working directory is a use without a handle. Not for handlers: the
        unmount makes requests.
        """
        if self._mount is None or self._mount.place() is None:
            return False
        try:
            self._mount.unmount(lazy=False)
        except OSError as error:
            logger.info("not unmounted: %s", error.strerror)
            return False
        return True

    def invalidate(self, path: str, data: bool = True) -> bool:
        """Let the kernel drop what it has cached of a file; return false when it knows no such path.

        Without `data` that is its attributes, which a handler may do.
        """
        node = self.engine.nodes.find(path)
        if node is None:
            return False
        self._notify(notifications.inval_inode(node.id, data))
        return True

    def invalidate_file(self, file_id: FileId) -> None:
        """Let the kernel drop data and attributes of a file with a real inode number, if it knows it."""
        node = self._find_file(file_id)
        if node is not None:
            self._invalidate_inode(node)

    def invalidate_entry(self, directory: FileId, name: str) -> None:
        """Let the kernel look a name up again, and drop the directory's listing and attributes."""
        node = self._find_file(directory)
        if node is not None:
            self._invalidate_inode(node)
            child = self.engine.nodes.child(node, name)
            if child is not None:
                self._invalidate_inode(child)  # its link count may be another
            self._invalidate_entry(node, name)

    def invalidate_all(self) -> None:
        """Let the kernel drop all that it has cached."""
        for node in list(self.engine.nodes.by_id.values()):
            self._invalidate_inode(node)
            for name in list(node.children or ()):
                self._invalidate_entry(node, name)

    def limit_caching(self, seconds: float) -> None:
        """Let the kernel drop all that it has cached, and cache for no longer than this from now on."""
        self.engine.limit_timeouts(seconds)
        self.invalidate_all()

    def _find_file(self, file_id: FileId) -> Optional[Node]:
        # The root is never looked up, so the table does not know it by this.
        if self._root_file_id is None:
            status = call(self.engine.required("getattr"), "/")
            self._root_file_id = self.engine.file_id(status)
        nodes = self.engine.nodes
        return nodes.root if file_id == self._root_file_id else nodes.find_file(file_id)

    def _invalidate_inode(self, node: Node) -> None:
        self._notify(notifications.inval_inode(node.id, data=True))

    def _invalidate_entry(self, directory: Node, name: str) -> None:
        self._notify(notifications.inval_entry(directory.id, os.fsencode(name)))

    def _start(self, daemon: Daemon) -> None:
        """Mount, and tell the engine what it reaches the kernel by."""
        try:
            self._mount = Mount(str(self._arguments.mountpoint), self._arguments.options)
        except OSError as error:
            raise SessionError(
                f"cannot mount {self._arguments.mountpoint}: {error.strerror}"
            ) from error
        give_back_large_blocks()
        options = self._arguments.options
        spin = float(options["spin"]) / 1e6 if "spin" in options else DEFAULT_SPIN
        latency = WakeLatency(int(float(options.get("cpu_latency", default_latency()))))
        self._device = Device(self._mount.descriptor, spin, latency)
        self.engine.on_ready = daemon.ready
        self.engine.on_failure = self.exit
        self.engine.notify = self._notify
        self.engine.backings.open = self._open_backing
        self.engine.backings.close = self._device.close_backing
        if self._exit_early:
            self.exit()

    def _serve(self) -> None:
        assert self._device is not None
        if self.engine.operations.before_serving is not None:  # before there are threads
            self.engine.operations.before_serving(self._device.descriptor)
        options = self._arguments.options
        limit = int(options.get("workers", DEFAULT_WORKERS)) if self._multithreaded else 1
        self._workers = workers = Workers(self._device, self.engine, limit, self._ended.set)
        self.engine.concurrent = self._multithreaded and limit > 1
        if self.engine.concurrent:
            workers.start()
            self._ended.wait()
            if workers.death is not None:
                raise workers.death  # such as SystemExit, as it would be from the calling thread
        else:
            # In the calling thread, as fuse-python's engine: handlers may keep to one thread's objects.
            workers.run_alone()
            self._ended.set()

    def _finish(self) -> None:
        """Undo the mount whatever ended the loop, and say goodbye to the filesystem.

        Handlers that still run are waited for, as libfuse does: one of `release` may be what stores a file,
        and nothing else shows whether it has.
        """
        assert self._device is not None
        assert self._mount is not None
        self._exiting.acquire(blocking=False)
        self._device.stop()
        self.engine.waits.interrupt_all()
        self._insisted = False
        try:
            self._hide()
            self._await_handlers()
        finally:
            self._device.close()
            self._mount.close()  # ends what is left with ENOTCONN
            self.engine.close()
            if self.engine.operations.fsdestroy is not None:
                try:
                    call(self.engine.operations.fsdestroy)
                except Exception:
                    logger.exception("fsdestroy failed")

    def _hide(self) -> None:
        """Take the mount out of sight if it is still there."""
        assert self._mount is not None
        assert self._device is not None
        if not self._device.gone and self._mount.place() is not None:
            try:
                self._mount.unmount(lazy=True)
            except OSError as error:
                logger.error("cannot unmount: %s", error)

    def _await_handlers(self) -> None:
        """Wait until no handler runs, or the user insists on the end.

        Meanwhile nobody serves requests. What a handler waits for may be one, or a page that one has locked
        (NOTIFY_INVAL_INODE), and that wait would keep the device open past any close; so each is refused.
        """
        assert self._device is not None
        if self._workers is None:
            return
        patience = time.monotonic() + _PATIENCE
        while not self._workers.wait(_LOOK_AGAIN) or self._device.notifying:
            self._workers.refuse()
            if self._insisted:
                logger.error("handlers that still run are cut off")
                return
            if time.monotonic() > patience:
                word = "a second" if self._signalled == math.inf else "another"
                logger.warning(
                    "waiting for handlers that still run; %s SIGINT or SIGTERM ends that", word
                )
                patience = math.inf

    def _unmount(self) -> None:
        assert self._mount is not None
        assert self._device is not None
        place = self._mount.place()
        if place is None:
            self._stop()
            return
        try:
            self._mount.unmount(lazy=False)
        except OSError:
            try:
                sync_filesystem(place)
            except OSError as error:
                logger.warning("cannot write back before the end: %s", error)
            self._stop()

    def _insist(self) -> None:
        """End the wait that is under way: for what is written back first, and then for handlers.

        Writing back takes a thread that serves, and all may be in handlers that do not return.
        """
        self._insisted = True
        if self._device is not None and not self._ended.is_set():
            # A thread, because a signal's handler must not take a lock.
            threading.Thread(target=self._stop, name="fuse-stop", daemon=True).start()

    def _stop(self) -> None:
        assert self._device is not None
        self._device.stop()
        self._ended.set()  # all threads may be in handlers, and none be left to read the end

    def _open_backing(self, descriptor: int) -> int:
        """Register a file for kernel I/O, with the rights that the filesystem wants its writes to have."""
        assert self._device is not None
        registering = self.engine.operations.registering
        if registering is None:
            return self._device.open_backing(descriptor)
        with registering():
            return self._device.open_backing(descriptor)

    def _take_signals(self) -> Callable[[], None]:
        """Let the usual signals end the mount, where the program has no handler; return the way back."""
        if threading.current_thread() is not threading.main_thread():
            return lambda: None
        taken: List[Tuple[int, Any]] = []

        def end(number: int, frame: Optional[FrameType]) -> None:
            now = time.monotonic()
            if self._signalled == math.inf:
                self._signalled = now
                self.exit()
            elif number in _INSISTING and now > self._signalled + _PATIENCE:
                self._insist()

        for number in _SIGNALS:
            previous = signal.getsignal(number)
            if previous in (signal.SIG_DFL, signal.default_int_handler):
                taken.append((number, previous))
                signal.signal(number, end)

        def restore() -> None:
            for number, previous in taken:
                signal.signal(number, previous)

        return restore

    def _notify(self, message: bytes) -> None:
        assert self._device is not None
        self._device.notify(message)


def describe(error: BaseException) -> str:
    """Return an exception as one line."""
    if isinstance(error, OSError) and error.strerror:
        return str(error)
    return f"{type(error).__name__}: {error}"
