"""Mount a program's filesystem, wait until it works, and take it away again whatever happened."""

import os
import re
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence

from tests.mounted.commands import (
    PATIENCE,
    REPOSITORY,
    Word,
    output_of,
    server_environment,
    wait_until,
)

PROGRAMS = Path(__file__).resolve().parent / "programs"

# Each test runs once for each of these.
ENGINES = ("kernel", "stock")

PASSTHROUGH: Sequence[Word] = ("-m", "fusepy_legacy")


class Sides(NamedTuple):
    """Two empty directories: the mirror's mount point, and the directory to be mirrored."""

    mount: Path
    backing: Path


def make_sides(directory: Path) -> Sides:
    """Make the two directories."""
    sides = Sides(directory / "mount", directory / "backing")
    for side in sides:
        side.mkdir()
    return sides


# The mount table


def mount_types() -> Dict[str, str]:
    """Return the filesystem type of each mount point of this namespace, the topmost one where several are."""
    with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as table:
        fields = [line.split(" ") for line in table]
    return {_unescaped(field[1]): field[2] for field in fields}


def _unescaped(field: str) -> str:
    """Return a field of the mount table with its octal escapes undone (proc_pid_mounts(5), fstab(5))."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), field)


def is_mounted(mountpoint: Path) -> bool:
    """Tell whether a FUSE filesystem is mounted there, alive or dead."""
    return mount_types().get(str(mountpoint), "").startswith("fuse")


def mounts_below(directory: Path) -> List[Path]:
    """Return the mount points of any filesystem at a directory or below it, the deepest first."""
    prefix = str(directory) + "/"
    found = [point for point in mount_types() if f"{point}/".startswith(prefix)]
    return [Path(point) for point in sorted(found, reverse=True)]


def unmount(mountpoint: Path) -> None:
    """Unmount, by force if need be; nothing mounted is no error."""
    for options in ([], ["-l"]):
        if str(mountpoint) not in mount_types():
            return
        with suppress(subprocess.TimeoutExpired):  # it may wait for a server that does not answer
            command = ["umount", *options, str(mountpoint)]
            subprocess.run(command, stderr=subprocess.DEVNULL, timeout=5)
    assert str(mountpoint) not in mount_types(), f"{mountpoint} is still mounted"


@contextmanager
def tmpfs(directory: Path, options: str) -> Iterator[None]:
    """Mount a filesystem in memory on a directory for the block."""
    output_of("mount", "-t", "tmpfs", "-o", options, "tmpfs", directory)
    try:
        yield
    finally:
        unmount(directory)


# Servers


def command_line(
    *arguments: Word,
    engine: str,
    options: Sequence[str] = (),
    program: Sequence[Word] = PASSTHROUGH,
) -> List[Word]:
    """Return the command that mounts with an engine: `options` are those of -o.

    `program` is what Python runs, the mirror itself or a subclass of it.
    """
    words = ",".join((f"engine={engine}", *options))
    return [sys.executable, *program, *arguments, "-o", words]


class Mounted:
    """Context manager: a foreground program that serves a mount point.

    `errors` is what it has printed so far, on stdout too; `returncode` is None as long as it runs.
    """

    def __init__(
        self,
        command: Sequence[Word],
        mountpoint: Path,
        environment: Optional[Dict[str, str]] = None,
    ) -> None:
        self.command = [str(word) for word in command]
        self.mountpoint = mountpoint
        self.environment = environment
        self.returncode: Optional[int] = None
        self._printed: Optional[str] = None

    def __enter__(self) -> "Mounted":
        # A file: a pipe that nobody reads would stop a program that has much to say.
        output, name = tempfile.mkstemp()
        self._output = Path(name)
        try:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=str(REPOSITORY),
                env=dict(os.environ, **server_environment(self.environment)),
                start_new_session=True,
            )
        except BaseException:
            self._output.unlink()
            raise
        finally:
            os.close(output)
        try:
            wait_until(self._ready, f"the mount of {self.command}")
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._end()

    @property
    def pid(self) -> int:
        """The process that serves."""
        return self.process.pid

    @property
    def errors(self) -> str:
        """What the program has printed."""
        if self._printed is not None:
            return self._printed
        return self._output.read_bytes().decode("utf-8", "backslashreplace")

    def descriptors(self) -> List[str]:
        """Return what the open descriptors of the program lead to."""
        links = []
        for link in Path(f"/proc/{self.pid}/fd").iterdir():
            try:
                links.append(os.readlink(str(link)))
            except FileNotFoundError:
                continue  # closed in the meantime
        return links

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Return the exit code once the program has ended; AssertionError when it does not."""
        try:
            self.returncode = self.process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(self.pid, signal.SIGKILL)
            self.returncode = self.process.wait()
            raise AssertionError(f"{self.command} did not end: {self.errors}") from None
        return self.returncode

    def _ready(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"{self.command} ended with {self.wait()}: {self.errors}")
        return is_mounted(self.mountpoint)

    def _end(self) -> None:
        with ExitStack() as cleanup:
            cleanup.callback(self._output.unlink)
            cleanup.callback(self._keep_output)
            cleanup.callback(unmount, self.mountpoint)  # what wait had to kill leaves a dead mount
            cleanup.callback(self.wait)
            cleanup.callback(unmount, self.mountpoint)

    def _keep_output(self) -> None:
        self._printed = self.errors


def passthrough(
    root: Path,
    mountpoint: Path,
    *options: str,
    engine: str = ENGINES[0],
    program: Sequence[Word] = PASSTHROUGH,
    switches: Sequence[str] = (),
    prefix: Sequence[Word] = (),
) -> Mounted:
    """Mirror `root` at `mountpoint` for all users.

    `prefix` is a command that replaces itself by the one behind it, such as prlimit.
    """
    words = ("allow_other", f"root={root}", *options)
    command = command_line(
        mountpoint, "-f", *switches, engine=engine, options=words, program=program
    )
    return Mounted([*prefix, *command], mountpoint)


def write_roots(file: Path, **roots: Sequence[Word]) -> Path:
    """Write a roots file: for each label its lines, the path first."""
    sections = [
        "\n".join((f"[{label}]", f"path = {path}", *lines))
        for label, (path, *lines) in roots.items()
    ]
    file.write_text("\n\n".join(sections) + "\n")
    return file


def roots_mount(
    file: Path,
    mountpoint: Path,
    *options: str,
    engine: str = ENGINES[0],
    switches: Sequence[str] = (),
) -> Mounted:
    """Mirror the directories of a roots file at `mountpoint` for all users."""
    words = ("allow_other", f"roots={file}", *options)
    command = command_line(mountpoint, "-f", *switches, engine=engine, options=words)
    return Mounted(command, mountpoint)


class Mirror(NamedTuple):
    """A mounted mirror: its mount point, the directory that it mirrors, and the process that serves."""

    mount: Path
    backing: Path
    server: Mounted
