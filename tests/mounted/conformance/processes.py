"""Other processes for a check: another user's calls, another owner of locks.

A child never hangs the run: it ends by SIGALRM after its lifetime, the parent waits for its report
for a limited time only, and kills it when the block ends.
"""

import os
import pickle
import select
import signal
import traceback
import warnings
from contextlib import contextmanager, suppress
from typing import Any, Callable, Iterator, NamedTuple, Optional, Sequence

from .expectations import eventually, require_root

NOBODY = 65534

_LIFETIME = 20  # seconds; a conformance check takes far less


class Identity(NamedTuple):
    """Whose process a child is."""

    uid: int
    gid: int
    groups: Sequence[int] = ()


class Bell:
    """Lets one process tell another that it has come to a certain point."""

    def __init__(self) -> None:
        self._hears, self._rings = os.pipe()

    def __enter__(self) -> "Bell":
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self._hears)
        os.close(self._rings)

    def ring(self) -> None:
        """Say it."""
        os.write(self._rings, b"!")

    def wait(self, seconds: float = _LIFETIME) -> None:
        """Wait until it was said."""
        _wait_readable(self._hears, seconds)
        os.read(self._hears, 1)


class Child:
    """A process that calls one function, reports the outcome, and lives until the block ends."""

    def __init__(
        self,
        function: Callable[[], Any],
        identity: Optional[Identity] = None,
        directory: Optional[os.PathLike] = None,
    ) -> None:
        if identity is not None:
            require_root()
        self._report, child_report = os.pipe()
        child_leave, self._leave = os.pipe()
        with warnings.catch_warnings():
            # Python 3.12 warns of fork beside threads; the child only makes system calls.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.pid = os.fork()
        if self.pid == 0:
            _live(function, identity, directory, child_report, child_leave)
        os.close(child_report)
        os.close(child_leave)

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *exception: object) -> None:
        with suppress(BrokenPipeError):  # it was killed
            os.write(self._leave, b"!")
        os.close(self._leave)
        os.close(self._report)
        if not eventually(self._reaped, 2.0):
            os.kill(self.pid, signal.SIGKILL)
            assert eventually(self._reaped, 2.0), "a child cannot be ended"

    def result(self, seconds: float = _LIFETIME) -> Any:
        """What the function returned. Raises its OSError; any other exception fails the check."""
        pieces = []
        while True:
            _wait_readable(self._report, seconds)
            piece = os.read(self._report, 65536)
            if not piece:
                break
            pieces.append(piece)
        assert pieces, "the child ended without a report"
        value, number, failure = pickle.loads(b"".join(pieces))
        assert failure is None, failure
        if number is not None:
            raise OSError(number, os.strerror(number))
        return value

    def is_asleep(self) -> bool:
        """Whether it waits in the kernel (state S or D of proc(5))."""
        with open(f"/proc/{self.pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] in ("S", "D")

    def kill(self) -> None:
        """End it by SIGKILL, without any chance to tidy up."""
        os.kill(self.pid, signal.SIGKILL)

    def _reaped(self) -> bool:
        try:
            return os.waitpid(self.pid, os.WNOHANG)[0] == self.pid
        except ChildProcessError:
            return True


@contextmanager
def held(function: Callable[[], Any]) -> Iterator[Child]:
    """Another process in which the function has succeeded, and that keeps what it took (locks)."""
    with Child(function) as child:
        child.result()
        yield child


def run(
    function: Callable[[], Any],
    identity: Optional[Identity] = None,
    directory: Optional[os.PathLike] = None,
) -> Any:
    """Call the function in another process; its value or its OSError is the caller's."""
    with Child(function, identity, directory) as child:
        return child.result()


def run_as_nobody(
    directory: os.PathLike, function: Callable[[], Any], groups: Sequence[int] = ()
) -> Any:
    """Call the function as an ordinary user whose working directory is the given one.

    It is entered as root, so nobody needs to be let through the directories above: the function
    uses names relative to it.
    """
    return run(function, Identity(NOBODY, NOBODY, groups), directory)


def _live(
    function: Callable[[], Any],
    identity: Optional[Identity],
    directory: Optional[os.PathLike],
    report: int,
    leave: int,
) -> None:
    """The whole life of a child."""
    value, number, failure = None, None, None
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(_LIFETIME)
        os.umask(0o022)
        if directory is not None:
            os.chdir(str(directory))
        if identity is not None:
            os.setgroups(list(identity.groups))
            os.setgid(identity.gid)
            os.setuid(identity.uid)
        value = function()
    except OSError as error:
        number = error.errno
    except BaseException:
        failure = traceback.format_exc()
    try:
        os.write(report, pickle.dumps((value, number, failure)))
        os.close(report)
        os.read(leave, 1)
    finally:
        os._exit(0)


def _wait_readable(descriptor: int, seconds: float = _LIFETIME) -> None:
    ready = select.select([descriptor], [], [], seconds)[0]
    assert ready, "no word from the other process"
