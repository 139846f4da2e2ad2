"""Tell the mount what others change in the directory underneath: fanotify(7).

With this, what the kernel remembers of names and attributes may stay valid for hours. One mark covers a
whole filesystem, that of a root, and an event names its directory by a file handle, so there is nothing to
set up for each directory. That takes CAP_SYS_ADMIN and Linux 5.9; from Linux 5.17 on an event names the file
as well, which is how the other names of a file are known to have changed.

What changes through the mount is no news: events of this process are left out. Writing to a mapped file
makes no event (fanotify(7), BUGS), but the close of what was mapped does, after its last use.
"""

import contextlib
import errno
import logging
import os
import select
import struct
import threading
import time
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from fusepy_legacy import syscalls

logger = logging.getLogger(__name__)

FileId = Tuple[int, int]  # st_dev, st_ino

# linux/fanotify.h
_FAN_CLOEXEC = 0x1
_FAN_NONBLOCK = 0x2
_FAN_UNLIMITED_QUEUE = 0x10
_FAN_REPORT_DFID_NAME = 0xC00
_FAN_REPORT_DFID_NAME_TARGET = 0x1E00
_FAN_MARK_ADD = 0x1
_FAN_MARK_FILESYSTEM = 0x100
_FAN_MODIFY = 0x2
_FAN_ATTRIB = 0x4
_FAN_CLOSE_WRITE = 0x8
_FAN_MOVED_FROM = 0x40
_FAN_MOVED_TO = 0x80
_FAN_CREATE = 0x100
_FAN_DELETE = 0x200
_FAN_Q_OVERFLOW = 0x4000
_FAN_ONDIR = 0x40000000
_INFO_FID = 1
_INFO_DFID_NAME = 2

_NAMES = _FAN_MOVED_FROM | _FAN_MOVED_TO | _FAN_CREATE | _FAN_DELETE
_EVENT = struct.Struct(
    "=IBxHQii"
)  # fanotify_event_metadata: length, version, its own length, mask, fd, pid
_INFO = struct.Struct("=BxH8x")  # fanotify_event_info_fid: type, length, fsid
_HANDLE = struct.Struct("=Ii")  # file_handle: bytes, type

_BUFFER = 1 << 16
# An answer that was under way when a change was told may have brought the old state after it.
_SAID_AGAIN = 1.0  # seconds
_LOOK_AGAIN = 1.0
_ATTEMPTS = 100  # at a file handle

_NEEDS = "it takes root's rights, Linux 5.9, and a filesystem with file handles"


class Change(NamedTuple):
    """One change. Without `name` it is one of a file's data or attributes.

    `directory` and `file` are None where the event does not tell, or what it tells of is gone; both are
    when events were lost.
    """

    directory: Optional[FileId]
    name: Optional[str]
    file: Optional[FileId]


LOST = Change(None, None, None)
UNWATCHED = Change(None, "", None)  # what changes from now on is not told


class Watch:
    """The changes on the filesystems that were added, in one thread. Safe for threads.

    Each filesystem has a fanotify group of its own, so that it is known where an event's file handle leads.
    """

    def __init__(self) -> None:
        self._filesystems: Dict[int, _Filesystem] = {}  # by st_dev
        self._left: List[_Filesystem] = []  # for the thread to close, which may be waiting for them
        self._said: List[Change] = []
        self._stopping = False
        # A root may be collected, and `remove` be called, in the middle of another call here.
        self._guard = threading.RLock()
        self._thread: Optional[threading.Thread] = None
        self._wake_reader, self._wake_writer = os.pipe()
        os.set_blocking(self._wake_writer, False)

    def add(self, directory: int) -> None:
        """Watch the filesystem that an open directory is on, from now on until `remove` was called as often.

        Raises OSError where the kernel, the filesystem or the lack of rights does not allow it.
        """
        device = os.fstat(directory).st_dev
        with self._guard:
            if device not in self._filesystems:
                try:
                    self._filesystems[device] = _Filesystem(directory)
                except OSError as error:
                    raise OSError(error.errno, f"-o watch: {error.strerror}; {_NEEDS}") from error
                self._wake()
            self._filesystems[device].users += 1

    def remove(self, device: int) -> None:
        """Take back one call of `add` for a filesystem, by its st_dev."""
        with self._guard:
            filesystem = self._filesystems.get(device)
            if filesystem is None:
                return  # all is closed
            filesystem.users -= 1
            if not filesystem.users:
                self._left.append(self._filesystems.pop(device))
                self._wake()

    def say(self, changes: Sequence[Change]) -> None:
        """Have the thread tell of changes that are known from elsewhere."""
        with self._guard:
            self._said += changes
            self._wake()

    def start(
        self, tell: Callable[[Change], None], look: Callable[[], bool] = lambda: False
    ) -> None:
        """Call `tell` with each change, and again a second later, in a thread of its own.

        What `tell` raises is logged. When the thread cannot go on, the last that it tells is UNWATCHED.
        `look` is called there after each change, and every second as long as it returns true.
        """
        self._thread = threading.Thread(
            target=self._run, args=(tell, look), name="fuse-watch", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """End the thread and close the descriptors."""
        if self._thread is not None:
            with self._guard:
                self._stopping = True
                self._wake()
            self._thread.join()
        with self._guard:
            for filesystem in (*self._filesystems.values(), *self._left):
                filesystem.close()
            self._filesystems, self._left = {}, []
        os.close(self._wake_reader)
        os.close(self._wake_writer)

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # it has been woken often enough
            os.write(self._wake_writer, b"x")

    def _run(self, tell: Callable[[Change], None], look: Callable[[], bool]) -> None:
        try:
            self._tell_all(tell, look)
        except BaseException:
            logger.critical("changes underneath are not noticed any more", exc_info=True)
            _tell(tell, UNWATCHED)

    def _tell_all(self, tell: Callable[[Change], None], look: Callable[[], bool]) -> None:
        again: Dict[Change, float] = {}  # when to say it, the earliest first
        while not self._stopping:
            timeouts = [_LOOK_AGAIN] if look() else []
            if again:
                timeouts.append(max(0.0, next(iter(again.values())) - time.monotonic()))
            changes = self._next_changes(min(timeouts) if timeouts else None)
            now = time.monotonic()
            for change in changes:
                _tell(tell, change)
                again.pop(change, None)
                again[change] = now + _SAID_AGAIN
            for change in [change for change, due in again.items() if due <= now]:
                del again[change]
                _tell(tell, change)

    def _next_changes(self, timeout: Optional[float]) -> List[Change]:
        """Wait for changes, for at most `timeout` seconds; return what there is."""
        with self._guard:
            for filesystem in self._left:
                filesystem.close()
            self._left = []
            watched = {each.fanotify: each for each in self._filesystems.values()}
        waiting = select.poll()
        for descriptor in (self._wake_reader, *watched):
            waiting.register(descriptor, select.POLLIN)
        ready = dict(waiting.poll(None if timeout is None else timeout * 1000))
        changes: List[Change] = []
        if ready.pop(self._wake_reader, None):
            os.read(self._wake_reader, _BUFFER)
            with self._guard:
                changes, self._said = self._said, []
        for descriptor in ready:
            if watched[descriptor].users:
                changes += watched[descriptor].read()
        return changes


class _Filesystem:
    """The changes on one filesystem, from the construction on. `users` counts who wants them."""

    def __init__(self, directory: int) -> None:
        self.users = 0
        self.fanotify = -1
        # Not O_PATH: open_by_handle_at(2) does not take such a descriptor.
        self._top = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
        try:
            self.fanotify = _fanotify()
            mask = _NAMES | _FAN_MODIFY | _FAN_ATTRIB | _FAN_CLOSE_WRITE | _FAN_ONDIR
            syscalls.fanotify_mark(
                self.fanotify, _FAN_MARK_ADD | _FAN_MARK_FILESYSTEM, mask, self._top
            )
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the descriptors."""
        for descriptor in self.fanotify, self._top:
            if descriptor >= 0:
                os.close(descriptor)

    def read(self) -> List[Change]:
        """Return what has changed."""
        try:
            return list(self._changes(os.read(self.fanotify, _BUFFER)))
        except BlockingIOError:
            return []
        except OSError as error:
            logger.debug("an event could not be read: %s", error)
            return [LOST]

    def _changes(self, data: bytes) -> Iterator[Change]:
        """Yield what others changed, each change once."""
        events: Dict[Tuple[int, bytes], None] = {}
        own = os.getpid()
        start = 0
        while start < len(data):
            length, _, metadata, mask, _, pid = _EVENT.unpack_from(data, start)
            if pid != own:
                kind = mask & (_NAMES | _FAN_Q_OVERFLOW)
                events[kind, data[start + metadata : start + length]] = None
            start += length
        for mask, records in events:
            if mask & _FAN_Q_OVERFLOW:
                yield LOST
            else:
                yield from self._change(mask, records)

    def _change(self, mask: int, records: bytes) -> Iterator[Change]:
        directory: Optional[FileId] = None
        name: Optional[str] = None
        file: Optional[FileId] = None
        start = 0
        while start < len(records):
            kind, length = _INFO.unpack_from(records, start)
            handle = start + _INFO.size
            end = handle + _HANDLE.size + _HANDLE.unpack_from(records, handle)[0]
            if kind == _INFO_DFID_NAME:
                directory = self._file_id(records[handle:end])
                encoded = records[end : start + length]
                name = os.fsdecode(encoded[: encoded.index(b"\0")])
            elif kind == _INFO_FID:
                file = self._file_id(records[handle:end])
            start += length
        if name == ".":
            file, directory = directory, None
        # Without the file's own handle, what is said of the name has to do.
        if directory is None or (not mask and file is not None):
            directory = name = None
        if directory is not None or file is not None:
            yield Change(directory, name, file)

    def _file_id(self, handle: bytes) -> Optional[FileId]:
        """Return what a file handle stands for, None when that is gone."""
        attempts = 0
        while True:
            attempts += 1
            try:
                descriptor = syscalls.open_by_handle_at(self._top, handle, os.O_PATH)
                break
            except OSError as error:
                if error.errno == errno.ESTALE:
                    return None
                # ext4 says ENOMEM of a file that is being removed, and ESTALE within some ten attempts.
                if error.errno != errno.ENOMEM or attempts == _ATTEMPTS:
                    raise
        try:
            status = os.fstat(descriptor)
            return status.st_dev, status.st_ino
        finally:
            os.close(descriptor)


def _tell(tell: Callable[[Change], None], change: Change) -> None:
    """Tell of a change; when that fails, the next one shall be told all the same."""
    try:
        tell(change)
    except Exception:
        logger.exception("a change underneath could not be told: %s", change)


def _fanotify() -> int:
    flags = _FAN_CLOEXEC | _FAN_NONBLOCK | _FAN_UNLIMITED_QUEUE
    try:
        return syscalls.fanotify_init(flags | _FAN_REPORT_DFID_NAME_TARGET, os.O_RDONLY)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    return syscalls.fanotify_init(flags | _FAN_REPORT_DFID_NAME, os.O_RDONLY)
