"""Run a program to its end within a limited time, and find what it has left running."""

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Callable, Dict, NamedTuple, Optional, Sequence, Set, Union

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE = 20.0

Word = Union[str, Path]


def wait_until(condition: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
    """Poll until the condition holds; AssertionError when it never does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for: {what}"
        time.sleep(0.005)


class Outcome(NamedTuple):
    """What came of a command: its exit code, and what it has printed on stdout and on stderr."""

    code: int
    output: str
    errors: str


def run(
    command: Sequence[Word],
    cwd: Optional[Path] = None,
    environment: Optional[Dict[str, str]] = None,
    seconds: float = 60.0,
) -> Outcome:
    """Run a command to its end; whoever still holds its stdout or stderr then, is waited for too.

    AssertionError, and no process left in its group, when it takes longer.
    """
    process = subprocess.Popen(
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=str(cwd or REPOSITORY),
        env=dict(os.environ, **(environment or {})),
        universal_newlines=True,
        errors="surrogateescape",  # names need not be UTF-8
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=seconds)
    except BaseException as error:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for stream in process.stdout, process.stderr:
            stream.close()  # unread: a process in another group may hold the other end for ever
        if isinstance(error, subprocess.TimeoutExpired):
            raise AssertionError(f"{command}, or what it has started, did not end") from None
        raise
    return Outcome(process.returncode, output, errors)


def output_of(
    *command: Word,
    cwd: Optional[Path] = None,
    environment: Optional[Dict[str, str]] = None,
) -> str:
    """Run a command that must succeed, and return what it has printed on stdout."""
    outcome = run(command, cwd, environment)
    assert outcome.code == 0, f"{command}: {outcome}"
    return outcome.output


def server_environment(extra: Optional[Dict[str, str]] = None) -> Dict[str, str]:
    """Return what a program of this package is run with: its sources, and warnings as errors."""
    return {"PYTHONPATH": str(REPOSITORY), "PYTHONWARNINGS": "error", **(extra or {})}


def processes_with(path: Path) -> Set[int]:
    """Return the processes, other than this one, that have the path in a word of their command line."""
    found = set()
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and process.name != str(os.getpid()):
            try:
                words = (process / "cmdline").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if os.fsencode(str(path)) in words:
                found.add(int(process.name))
    return found
