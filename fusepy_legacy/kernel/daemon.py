"""Foreground or background: the process that serves a mount, and the one that started it.

The starter of a background mount must not report success before the mount works. So it forks first and
waits; the serving process mounts, initialises the filesystem, and then says that it is ready. What goes
wrong until then is said on the starter's own stderr, and becomes its exit code.
"""

import os
import sys
from typing import Optional


class Daemon:
    """The start of one serving process.

    `foreground`: stay in the calling process; then `fork` and `ready` do nothing.
    """

    def __init__(self, foreground: bool) -> None:
        self.foreground = foreground
        self._report: Optional[int] = None

    def fork(self) -> None:
        """Return in the serving process only; the starter exits here, with the server's word.

        It exits 0 when the server says that it is ready, and with the server's exit code when it ends
        without. Threads do not survive a fork (pthread_atfork(3)), so call it before starting any.
        """
        if self.foreground:
            return
        _flush()
        reader, writer = os.pipe()
        pid = os.fork()
        if pid:
            os.close(writer)
            # _exit, as daemon(3): what is registered to run at exit belongs to the server now.
            os._exit(_wait(reader, pid))
        os.close(reader)
        os.setsid()
        os.chdir("/")  # here, not when ready: fsinit may choose a directory to work in
        self._report = writer

    def ready(self) -> None:
        """Let the starter exit 0, and let go of its terminal."""
        if self._report is None:
            return
        _flush()
        use_no_terminal()
        os.write(self._report, b"1")
        os.close(self._report)
        self._report = None


def use_no_terminal() -> None:
    """Let go of the terminal, or of whatever standard input, output and error were."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(null)


def open_standard_descriptors() -> None:
    """Open /dev/null as 0, 1 and 2 where the starter was given none: `ready` would close our own files."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # as the lowest number that is free: this one
            os.set_inheritable(opened, True)


def _flush() -> None:
    for stream in sys.stdout, sys.stderr:
        if stream is not None:  # Python's for a descriptor that is closed
            stream.flush()


def _wait(reader: int, pid: int) -> int:
    """Return the starter's exit code."""
    if os.read(reader, 1):
        return 0
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return 128 + os.WTERMSIG(status)  # as shells say it
    return os.WEXITSTATUS(status)
