"""Processes that serve large reads, because `cryptography` holds the GIL while it encrypts.

A read is a packet with the open file's descriptor beside it (unix(7), SCM_RIGHTS). All processes take from
one socket, so whoever is free has the next; and each writes its replies to the kernel itself, so nothing is
brought back. 256 MiB by 1 MiB on two CPUs: 565 to 584 MB/s without, 803 to 874 with two processes. What was
tried before: threads, 744 MB/s of 681 for the cipher alone; one process that returned half of each read
through shared memory, 468 of 489.

They are forked before the first thread starts, and sleep until they are needed. They end with the last end
of the socket that packets go into, so also when the mount's process is killed.
"""

import errno
import logging
import mmap
import os
import signal
import socket
import struct
import threading
import time
from array import array
from contextlib import suppress
from typing import Callable, Dict, Optional, Tuple

from fusepy_legacy.kernel import abi

logger = logging.getLogger(__name__)

LARGE = 131072  # bytes; waking a process for fewer takes longer than it saves

READERS_MAX = 64
_UNIQUE = struct.Struct("=Q")
_HEAD = struct.Struct("=2Q")
_SLOT = struct.Struct(f"=2Q{READERS_MAX}Q")  # what a process writes down, see Readers._work
_DESCRIPTOR = struct.Struct("=i")
_JOB_MAX = 32768  # bytes; a path may be of any length
_PATIENCE = 1.0  # seconds for the reads that are under way when the mount ends
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # Ctrl-C is for the mount's process


class Readers:
    """A number of processes. Threads may share it.

    `serve` is called there with a descriptor, which it does not close, and the job's bytes, and returns what
    the program reads or raises OSError; any other exception is logged and becomes EIO. `prepare` is called
    there once, first.

    Raises OSError as fork(2) does; then no process is left.
    """

    def __init__(
        self,
        count: int,
        device: int,
        serve: Callable[[int, bytes], bytes],
        prepare: Callable[[], None] = lambda: None,
    ) -> None:
        """`device` is the open /dev/fuse."""
        # Its own: the mount's is closed first, and its number may be another file's by then.
        self._device = os.dup(device)
        self._serve = serve
        self._sending, self._receiving = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._slots = mmap.mmap(-1, count * _SLOT.size)  # shared; each process writes its own
        self._guard = threading.Lock()  # for the following, and while something is sent
        self._working: Dict[int, int] = {}  # process ids, by place
        self._seen = [0] * count  # how many of a process's jobs are known to be done
        self._pending: Dict[int, Tuple[int, bytes]] = {}  # others: descriptor and job by unique
        self._closing = False
        if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
            with suppress(ValueError):  # not in the main thread
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, ends are not told: wait(2)
        try:
            for place in range(count):
                self._working[place] = self._fork(place, prepare)
        except OSError:
            self._close_all()
            for pid in self._working.values():
                os.waitpid(pid, 0)
            raise
        self._minders = [
            threading.Thread(target=self._mind, args=each, name="reader-minder", daemon=True)
            for each in self._working.items()
        ]
        for minder in self._minders:
            minder.start()

    @property
    def pids(self) -> Tuple[int, ...]:
        """The processes that are left."""
        return tuple(self._working.values())

    def hand_over(self, unique: int, descriptor: int, job: bytes) -> bool:
        """Let a process answer the request `unique`; false when none is free, and the caller has to.

        Then a source that makes its readers wait holds up no more than these processes.
        """
        if len(job) > _JOB_MAX:
            return False
        beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [descriptor]))]
        with self._guard:
            if self._closing:
                return False
            self._settle()
            if len(self._pending) >= len(self._working):
                return False
            try:
                # Kept until it is done, for when the process dies that has it.
                self._pending[unique] = os.dup(descriptor), job
                self._sending.sendmsg([_UNIQUE.pack(unique), job], beside, socket.MSG_DONTWAIT)
            except OSError as error:
                logger.debug("not handed over: %s", error)
                self._drop(unique)
                return False
        return True

    def close(self) -> None:
        """End the processes, after what they have in hand."""
        self._closing = True
        with self._guard:
            self._sending.close()
        self._join()
        for pid in self.pids:  # of a source that does not answer
            logger.warning("a large read does not end; process %d is killed", pid)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._join()
        for unique in list(self._pending):
            self._drop(unique)
        self._close_all()

    def _join(self) -> None:
        deadline = time.monotonic() + _PATIENCE
        for minder in self._minders:
            minder.join(max(0.0, deadline - time.monotonic()))

    def _settle(self) -> None:
        """Forget the jobs that are done; with the guard held."""
        for place, (_, done, *finished) in enumerate(_SLOT.iter_unpack(self._slots)):
            for number in range(self._seen[place], done):
                self._drop(finished[number % READERS_MAX])
            self._seen[place] = done

    def _drop(self, unique: int) -> None:
        kept = self._pending.pop(unique, None)
        if kept is not None:
            os.close(kept[0])

    def _close_all(self) -> None:
        self._sending.close()
        self._receiving.close()
        self._slots.close()
        device, self._device = self._device, -1
        if device >= 0:
            os.close(device)

    # In the processes

    def _fork(self, place: int, prepare: Callable[[], None]) -> int:
        pid = os.fork()
        if pid:
            return pid
        code = 1
        try:
            for number in _IGNORED:
                signal.signal(number, signal.SIG_IGN)
            self._sending.close()  # or no process would ever see the end
            prepare()
            self._work(place)
            code = 0
        except BaseException:
            logger.critical("a reading process died", exc_info=True)
        finally:
            os._exit(code)

    def _work(self, place: int) -> None:
        """Do jobs until the last. The slot says which is in hand, how many are done, and which came last.

        Each unique is there before its job counts as done, with a system call in between.
        """
        head = place * _SLOT.size
        done = 0
        while True:
            received = self._receive()
            if received is None:
                return
            unique = received[0]
            last = head + _HEAD.size + done % READERS_MAX * _UNIQUE.size
            _UNIQUE.pack_into(self._slots, last, unique)
            _HEAD.pack_into(self._slots, head, unique, done)
            self._answer(*received)
            done += 1
            _HEAD.pack_into(self._slots, head, 0, done)

    def _receive(self) -> Optional[Tuple[int, int, bytes]]:
        """Return the next job: its unique, descriptor and bytes; None after the last."""
        data, beside, _, _ = self._receiving.recvmsg(
            _UNIQUE.size + _JOB_MAX,
            socket.CMSG_SPACE(_DESCRIPTOR.size),
            socket.MSG_CMSG_CLOEXEC,
        )
        if not data:
            return None
        # Nothing is beside it when no more files can be opened here: MSG_CTRUNC.
        descriptor = _DESCRIPTOR.unpack(beside[0][2])[0] if beside else -1
        return _UNIQUE.unpack_from(data)[0], descriptor, data[_UNIQUE.size :]

    def _answer(self, unique: int, descriptor: int, job: bytes) -> None:
        """Serve a job, and close its descriptor."""
        number, body = 0, b""
        if descriptor < 0:
            number = errno.EMFILE
        else:
            try:
                body = self._serve(descriptor, job)
            except OSError as error:
                number = error.errno or errno.EIO
            except Exception:
                logger.exception("a large read failed")
                number = errno.EIO
            finally:
                os.close(descriptor)
        self._reply(unique, number, body)

    def _reply(self, unique: int, number: int, body: bytes = b"") -> None:
        head = abi.OUT_HEADER.pack(abi.OUT_HEADER.size + len(body), -number, unique)
        try:
            os.writev(self._device, (head, body))
        except OSError as error:
            # ENOENT: nobody waits for it any more. ENODEV and the like: unmounted, and the end is near.
            logger.debug("reply not taken: %s", error)

    # In the mount's process

    def _mind(self, place: int, pid: int) -> None:
        """Wait for a process's end; before the mount's, do here what it had in hand."""
        try:
            _, status = os.waitpid(pid, 0)
        except ChildProcessError:  # somebody else has waited for it
            status = 0
        with self._guard:
            del self._working[place]
            lost = {} if self._closing else self._take_back()
        if self._closing:
            return
        logger.error("a reading process has died (wait status %d)", status)
        for unique, (descriptor, job) in lost.items():
            self._answer(unique, descriptor, job)

    def _take_back(self) -> Dict[int, Tuple[int, bytes]]:
        """Return the jobs that no process has in hand, to be done here; with the guard held.

        One of them may be about to be taken by another process: the kernel takes the first reply, and refuses
        the second.
        """
        self._settle()
        slots = list(_SLOT.iter_unpack(self._slots))
        in_hand = {slots[place][0] for place in self._working}
        return {
            unique: self._pending.pop(unique)
            for unique in list(self._pending)
            if unique not in in_hand
        }
