"""fusepy_legacy.kernel.daemon: who starts a mount learns how it went, and the server goes on alone."""

import contextlib
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Iterator, List, Optional

import pytest

from fusepy_legacy.kernel.daemon import Daemon
from tests.mounted.commands import REPOSITORY

# `tell` and `wait` talk with the test through pipes that the server inherits: it ends with the test.
PROGRAM = """
import os, signal, sys
from fusepy_legacy.kernel.daemon import Daemon

def tell(*words):
    os.write({told}, (" ".join(map(str, words)) + "\\n").encode())

def wait():
    os.read({waits}, 1)

signal.alarm(60)
daemon = Daemon(foreground=False)
{before}
daemon.fork()
{server}
"""


class Start:
    """A program that goes to the background: its starter as a process, and what its server tells.

    Context manager; at the end the server is let go and must end as well.
    """

    def __init__(self, server: str, before: str = "", directory: Optional[Path] = None) -> None:
        self.told, told = os.pipe()
        waits, self.lets_go = os.pipe()
        self.heard = b""
        self.printed: Optional[str] = None
        text = PROGRAM.format(told=told, waits=waits, before=before, server=server)
        environment = dict(os.environ, PYTHONPATH=str(REPOSITORY))
        environment.pop("PYTHONUNBUFFERED", None)  # lost output would go unnoticed
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", text],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            universal_newlines=True,
            pass_fds=(told, waits),
            cwd=None if directory is None else str(directory),
            env=environment,
        )
        os.close(told)
        os.close(waits)

    def __enter__(self) -> "Start":
        return self

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(OSError):
            os.write(self.lets_go, b"....")
        os.close(self.lets_go)
        self.hear_all()
        os.close(self.told)
        self.output()

    def hear(self) -> List[str]:
        """Return the words of the server's next line."""
        while b"\n" not in self.heard:
            assert select.select([self.told], [], [], 20)[0], "the server says nothing"
            part = os.read(self.told, 1000)
            assert part, "the server has ended"
            self.heard += part
        line, _, self.heard = self.heard.partition(b"\n")
        return line.decode().split()

    def hear_all(self) -> str:
        """Return what the server says until it has ended."""
        while select.select([self.told], [], [], 20)[0]:
            part = os.read(self.told, 1000)
            if not part:
                break
            self.heard += part
        else:
            raise AssertionError("the server does not end")
        heard, self.heard = self.heard.decode(), b""
        return heard

    def let_go(self) -> None:
        """Let the server's `wait` return."""
        os.write(self.lets_go, b".")

    def output(self) -> str:
        """Return what starter and server have printed, once the starter has ended."""
        if self.printed is None:
            self.printed, _ = self.process.communicate(timeout=20)
        return self.printed


def test_the_starter_waits_until_the_server_is_ready() -> None:
    """It runs while the server prepares, and exits 0 when the server says so; the server goes on."""
    with Start("tell('up'); wait(); daemon.ready(); tell('ready'); wait(); tell('end')") as start:
        assert start.hear() == ["up"]
        assert start.process.poll() is None
        start.let_go()
        assert start.hear() == ["ready"]
        assert start.output() == ""
        assert start.process.returncode == 0
        start.let_go()
        assert start.hear() == ["end"]


def test_the_server_is_another_process_in_a_session_of_its_own() -> None:
    """No terminal's Ctrl-C or hangup reaches it (setsid(2))."""
    with Start("tell(os.getpid(), os.getsid(0)); daemon.ready()", "tell(os.getpid())") as start:
        (starter,) = start.hear()
        server, session = start.hear()
    assert starter == str(start.process.pid)
    assert server == session != starter


def test_when_ready_the_server_lets_go_of_terminal_and_directory(tmp_path: Path) -> None:
    """Until then it has the streams, for its errors; the directory is / from the start, for fsinit."""
    look = "tell(os.getcwd(), *(os.readlink(f'/proc/self/fd/{number}') for number in range(3)))"
    with Start(f"{look}; daemon.ready(); {look}", directory=tmp_path) as start:
        before, after = start.hear(), start.hear()
    assert before[0] == "/"
    assert before[2] == before[3] != "/dev/null"
    assert after == ["/", "/dev/null", "/dev/null", "/dev/null"]


def test_the_server_keeps_no_descriptor_of_the_report() -> None:
    """When it is ready, it has open what it had before the fork."""
    look = "tell(*os.listdir('/proc/self/fd'))"
    with Start(f"daemon.ready(); {look}", before=look) as start:
        assert start.hear() == start.hear()


def test_ready_twice_is_ready_once() -> None:
    """The second call does nothing."""
    with Start("daemon.ready(); os.chdir('/proc'); daemon.ready(); tell(os.getcwd())") as start:
        assert start.hear() == ["/proc"]
        start.output()
        assert start.process.returncode == 0


@pytest.mark.parametrize("code", [0, 1, 19, 255])
def test_the_starter_takes_over_the_exit_code(code: int) -> None:
    """When the server ends without having been ready."""
    with Start(f"sys.exit({code})") as start:
        start.output()
        assert start.process.returncode == code


def test_the_starter_shows_why_the_server_failed() -> None:
    """The server's stderr is the starter's; an exception is exit code 1, as Python has it."""
    with Start("raise ValueError('the reason')") as start:
        assert "the reason" in start.output()
        assert start.process.returncode == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGABRT])
def test_the_starter_tells_by_which_signal_the_server_died(number: int) -> None:
    """128 and the signal's number, as shells have it; what was printed before the fork is not lost."""
    with Start(f"os.kill(os.getpid(), {int(number)})", before="print('before')") as start:
        assert start.output() == "before\n"
        assert start.process.returncode == 128 + number


def test_what_happens_after_ready_does_not_change_the_starters_word() -> None:
    """The server's later end is no business of a starter that has exited."""
    with Start("daemon.ready(); tell('ready'); wait(); sys.exit(7)") as start:
        assert start.hear() == ["ready"]
        start.output()
        assert start.process.returncode == 0
        start.let_go()
        assert start.hear_all() == ""


def test_nothing_printed_comes_twice_or_gets_lost() -> None:
    """Text in Python's buffers at the fork, and at ready, is printed once."""
    before = "print('before'); print('before, as an error', file=sys.stderr)"
    server = "print('server'); print('server, as an error', file=sys.stderr); daemon.ready()"
    with Start(server, before) as start:
        lines = sorted(start.output().splitlines())
    assert lines == ["before", "before, as an error", "server", "server, as an error"]


def test_what_runs_at_exit_runs_in_the_server_only() -> None:
    """The starter leaves without Python's exit handlers, which are the server's now."""
    before = "import atexit; atexit.register(lambda: tell('exit', os.getpid()))"
    with Start("daemon.ready(); tell('server', os.getpid())", before) as start:
        start.output()
        words = start.hear_all().split()
    assert words[::2] == ["server", "exit"]
    assert words[1] == words[3]


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Path]:
    """A directory to work in."""
    before = os.getcwd()
    os.chdir(str(tmp_path))
    yield tmp_path
    os.chdir(before)


def test_in_the_foreground_nothing_happens(here: Path) -> None:
    """The same process goes on, with its directory and its streams."""
    daemon = Daemon(foreground=True)
    before = os.getpid(), os.getcwd(), [os.fstat(number) for number in range(3)]
    daemon.fork()
    daemon.ready()
    assert (os.getpid(), os.getcwd(), [os.fstat(number) for number in range(3)]) == before
