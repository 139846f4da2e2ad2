"""Mount a program's filesystem, wait until it works, and take it away again whatever happened."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Callable, Dict, List, Optional, Sequence, Type

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE = 20.0


def wait_until(condition: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
    """Poll until the condition holds; AssertionError when it never does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for: {what}"
        time.sleep(0.005)


def mount_types() -> Dict[str, str]:
    """Return the filesystem type of each mount point of this namespace, the topmost one where several are."""
    with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as table:
        fields = [line.split() for line in table]
    return {field[1].encode().decode("unicode_escape"): field[2] for field in fields}


def is_mounted(mountpoint: Path) -> bool:
    """Tell whether a FUSE filesystem is mounted there, alive or dead."""
    return mount_types().get(str(mountpoint), "").startswith("fuse")


def unmount(mountpoint: Path) -> None:
    """Unmount, by force if need be; nothing mounted is no error."""
    for options in ([], ["-l"]):
        if not is_mounted(mountpoint):
            return
        subprocess.run(["umount", *options, str(mountpoint)], stderr=subprocess.DEVNULL)
    assert not is_mounted(mountpoint), f"{mountpoint} is still mounted"


class Mounted:
    """Context manager: a foreground program that serves a mount point.

    `errors` is what it has printed on stderr, complete after the exit; `returncode` likewise.
    """

    def __init__(
        self, command: Sequence[str], mountpoint: Path, environment: Optional[Dict[str, str]] = None
    ) -> None:
        self.command: List[str] = [str(word) for word in command]
        self.mountpoint = mountpoint
        self.environment = environment
        self.errors = ""
        self.returncode: Optional[int] = None

    def __enter__(self) -> "Mounted":
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=str(REPOSITORY),
            env=dict(os.environ, PYTHONWARNINGS="error", **(self.environment or {})),
            universal_newlines=True,
            preexec_fn=os.setpgrp,
        )
        try:
            wait_until(self._ready, f"the mount of {self.command}")
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self._end()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        self._collect()
        assert self.returncode is not None
        return self.returncode

    def _ready(self) -> bool:
        if self.process.poll() is not None:
            self._collect()
            raise AssertionError(f"{self.command} ended with {self.returncode}: {self.errors}")
        return is_mounted(self.mountpoint)

    def _end(self) -> None:
        unmount(self.mountpoint)
        if self.returncode is None:
            self._collect()

    def _collect(self) -> None:
        try:
            output, _ = self.process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            output, _ = self.process.communicate()
            raise AssertionError(f"{self.command} did not end: {output}") from None
        finally:
            self.returncode = self.process.returncode
        self.errors += output


def passthrough(root: Path, mountpoint: Path, *options: str) -> Mounted:
    """Mirror `root` at `mountpoint` for all users."""
    words = ",".join(("allow_other", f"root={root}", *options))
    command = [sys.executable, "-m", "fusepy_legacy", str(mountpoint), "-f", "-o", words]
    return Mounted(command, mountpoint)
