"""The open /dev/fuse: one read(2) is one request, one write(2) one reply.

Waiting costs more than serving: after a request the kernel usually sends the next within microseconds, and
a thread that has gone to sleep takes longer to wake up than the request takes. So a reader polls for a
while before it sleeps, and latency.py sees to the program's waking. A stat of a missing name, Linux 6.18,
2 virtual CPUs, CPython 3.11: 69 µs with neither, 38 with 30 µs of polling, 23 with low latency, 13 with
both; 100 µs of polling are no better. A blocking read(2) instead of poll(2): no better than neither.
Following the program to its CPU was tried and dropped: the reply then wakes it on the other one, and the
two chase each other (open+read+close 144 → 310 µs).
"""

import errno
import fcntl
import io
import logging
import os
import select
import struct
import threading
import time
from typing import Optional, Set

from fusepy_legacy.kernel import abi
from fusepy_legacy.kernel.engine import Reply
from fusepy_legacy.kernel.latency import QUIET, WakeLatency

logger = logging.getLogger(__name__)

DEFAULT_SPIN = 30e-6  # seconds

_RETRY = (errno.ENOENT, errno.EINTR, errno.EAGAIN)
_GONE = (errno.ENODEV, errno.ECONNABORTED)

# Above every limit of open files: what a closed device is asked for fails with EBADF.
_CLOSED = 0x7FFFFFFF


def _length(reply: Reply) -> int:
    return len(reply) if isinstance(reply, bytes) else sum(len(part) for part in reply)


class Device:
    """Reads requests and writes replies. Any number of threads may do either at the same time.

    `spin` is how many seconds a reader polls before it sleeps.
    """

    def __init__(self, descriptor: int, spin: float, latency: WakeLatency) -> None:
        self.descriptor = descriptor
        # Its readinto makes no exception of EAGAIN: 0.7 µs instead of os.readv's 1.0, again and again.
        self._file = io.FileIO(descriptor, closefd=False)
        self.spin = spin
        self.latency = latency
        self.gone = False
        self._stop_reader, self._stop_writer = os.pipe()
        self._stopped = False
        self._stopping = threading.Lock()
        self.notifying: Set[int] = set()

    def close(self) -> None:
        """Close what belongs to this object; the device's descriptor does not, but it is used no more.

        Threads may still be in a handler, whose replies must not go to what is next opened by that number;
        nor may any of them read from there.
        """
        self.stop()
        self.descriptor = _CLOSED
        self._file.close()
        self.latency.close()
        os.close(self._stop_reader)
        os.close(self._stop_writer)
        self._stop_reader = _CLOSED

    def stop(self) -> None:
        """Let `read` return None to every reader from now on."""
        with self._stopping:  # a second one may come after `close`
            if not self._stopped:
                self._stopped = True
                os.write(self._stop_writer, b"x")  # never read, so it wakes everyone

    def read(self, buffer: memoryview) -> Optional[memoryview]:
        """Wait for a request and return the part of the buffer that it fills; None after the end.

        `gone` tells whether the end was the unmount.
        """
        readinto = self._file.readinto
        deadline = 0.0
        while not self._stopped:
            try:
                size = readinto(buffer)
                if size is not None:
                    return buffer[:size]
                now = time.perf_counter()
                if deadline == 0.0:
                    deadline = now + self.spin
                    self.latency.served(now)
                elif now >= deadline:
                    self._sleep()
                    deadline = 0.0
            except OSError as error:
                # ENOENT: the request was interrupted while it was read (fs/fuse/dev.c).
                if error.errno in _GONE:
                    self.gone = True
                    self.stop()
                elif error.errno not in _RETRY:
                    raise
            except ValueError:  # the file was closed since it was asked whether to stop
                break
        return None

    def take(self, buffer: memoryview) -> Optional[memoryview]:
        """Return a request as `read` does, also after `stop`; None when there is none now."""
        try:
            size = self._file.readinto(buffer)
        except OSError:
            return None
        return None if size is None else buffer[:size]

    def is_ready(self, seconds: float) -> bool:
        """Wait for a request or the end; return false when neither has come."""
        return self._sleep(seconds * 1000)

    def _sleep(self, milliseconds: Optional[float] = None) -> bool:
        waiting = select.poll()
        waiting.register(self.descriptor, select.POLLIN)
        waiting.register(self._stop_reader, select.POLLIN)
        if self.latency.asked:
            if waiting.poll(QUIET if milliseconds is None else milliseconds):
                return True
            self.latency.release()
            if milliseconds is not None:
                return False
        return bool(waiting.poll(milliseconds))

    def open_backing(self, descriptor: int) -> int:
        """Register a file for kernel I/O, and return its backing id. Raises OSError."""
        # A bytearray, because then Python returns what ioctl(2) does.
        argument = bytearray(abi.BACKING_MAP.pack(descriptor, 0))
        number: int = fcntl.ioctl(self.descriptor, abi.DEV_IOC_BACKING_OPEN, argument)
        return number

    def close_backing(self, number: int) -> None:
        """Give a backing id back; the end of the mount has given back all."""
        descriptor = self.descriptor
        if descriptor != _CLOSED:
            fcntl.ioctl(descriptor, abi.DEV_IOC_BACKING_CLOSE, struct.pack("=I", number))

    def notify(self, message: bytes) -> None:
        """Send a notification, which the kernel may refuse.

        What it is about may be gone (ENOENT), or a file may have the node that a directory had (ENOTDIR):
        then there is nothing cached to forget. fs/fuse/dir.c, fuse_reverse_inval_entry

        It may wait for requests. `notifying` holds the threads that do; after `stop` there are no more.
        """
        thread = threading.get_ident()
        self.notifying.add(thread)
        try:
            if not self._stopped:
                os.write(self.descriptor, message)
        except OSError as error:
            logger.debug("a notification was not taken: %s", error)
        finally:
            self.notifying.discard(thread)

    def write(self, reply: Reply) -> bool:
        """Send a reply; return false when the kernel does not want it: the request was interrupted."""
        try:
            if isinstance(reply, bytes):
                os.write(self.descriptor, reply)
            else:
                os.writev(self.descriptor, reply)
        except OSError as error:
            if error.errno == errno.ENOENT:
                return False
            if error.errno not in _GONE and self.descriptor != _CLOSED:
                # EINVAL: not a reply that this kernel can understand; ENOMEM: no page for it. The request has
                # failed then (fs/fuse/dev.c, fuse_dev_do_write), and that is no reason to end the mount.
                logger.error(
                    "the kernel refused a reply of %d bytes: %s", _length(reply), error.strerror
                )
                return False
        return True
