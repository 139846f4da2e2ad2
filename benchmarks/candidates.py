"""What is measured: a table of programs that show one directory at another, and how to run one."""

import contextlib
import ctypes
import os
import resource
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Callable, Dict, NamedTuple, Optional, Tuple

REPOSITORY = Path(__file__).resolve().parents[1]
HANGS = 120.0  # seconds after which a candidate has failed a row
PATIENCE = 20.0  # seconds for a program to start, and to end

# sys/mount.h; what every candidate is mounted with, and a remount is to keep.
_MS_NOSUID, _MS_NODEV, _MS_REMOUNT = 2, 4, 32

_PASSTHROUGH = (sys.executable, "-m", "fusepy_legacy", "{mountpoint}", "-f", "-o")


class Candidate(NamedTuple):
    """A program that serves `{mountpoint}` in the foreground; without a command, the directory itself.

    With `roots`, `{mountpoint}.ini` is a roots file with these labels; the last one is of the root that is
    measured, the others are of empty directories. With `below`, `{above}` is shown, the directory that the
    measured one is in.
    """

    name: str
    command: Tuple[str, ...]
    roots: Tuple[str, ...] = ()
    below: bool = False


def candidates(passthrough_hp: Optional[str]) -> Dict[str, Candidate]:
    """Return the table by name; `passthrough_hp` is the path of libfuse's example, if there is one."""
    table = [
        Candidate("native", ()),
        Candidate("bindfs", ("bindfs", "-f", "--multithreaded", "{root}", "{mountpoint}")),
        Candidate("stock", (*_PASSTHROUGH, "root={root},allow_other,engine=stock")),
        # As libfuse 2 is by itself: without big_writes, which ours asks for, it writes a page at a time.
        Candidate(
            "stock_pages", (*_PASSTHROUGH, "root={root},allow_other,engine=stock,max_write=4096")
        ),
        Candidate("kernel", (*_PASSTHROUGH, "root={root},allow_other,engine=kernel")),
        # The same with every byte through the file object, as a class with its own read has it.
        Candidate(
            "no_kernel_io", (*_PASSTHROUGH, "root={root},allow_other,engine=kernel,no_kernel_io")
        ),
        Candidate(
            "roots",
            (*_PASSTHROUGH, "roots={mountpoint}.ini,allow_other,engine=kernel"),
            roots=("other", "measured"),
        ),
        # What roots is to be compared with: a single root whose paths are as long as those under a label.
        Candidate("deeper", (*_PASSTHROUGH, "root={above},allow_other,engine=kernel"), below=True),
    ]
    if passthrough_hp is not None:
        options = ("--foreground", "-o", "allow_other")
        command = (os.path.abspath(passthrough_hp), *options, "{root}", "{mountpoint}")
        table.append(Candidate("passthrough_hp", command))
    return {candidate.name: candidate for candidate in table}


def parse_candidate(text: str) -> Candidate:
    """Make a candidate of NAME=COMMAND, the command quoted as for a shell; ValueError when it is none."""
    name, _, command = text.partition("=")
    words = tuple(shlex.split(command))
    if not name or "{mountpoint}" not in command or "{root}" not in command:
        raise ValueError(f"not NAME=COMMAND with {{root}} and {{mountpoint}} in it: {text}")
    return Candidate(name, words)


class StartError(Exception):
    """A candidate cannot be measured; the text says why."""


def filesystem_types() -> Dict[str, str]:
    """Return the filesystem type at each mount point, the topmost where several are: proc(5), mounts."""
    with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as table:
        fields = [line.split() for line in table]
    # Blanks and the like are written as octal escapes.
    unescaped = (os.fsencode(field[1]).decode("unicode_escape") for field in fields)
    return {os.fsdecode(name.encode("latin-1")): field[2] for name, field in zip(unescaped, fields)}


def filesystem_type(directory: Path) -> str:
    """Return the type of the filesystem that a directory is on."""
    types = filesystem_types()
    real = directory.resolve()
    return next(types[str(name)] for name in (real, *real.parents) if str(name) in types)


class Serving:
    """Context manager: a candidate that shows `root` at `mountpoint`. StartError when it does not start.

    `directory` is where to work: the mount point, or for native the root itself.
    """

    def __init__(self, candidate: Candidate, root: Path, mountpoint: Path) -> None:
        self.name = candidate.name
        self.directory = root
        if candidate.command:
            below = (root.name,) if candidate.below else candidate.roots[-1:]
            self.directory = mountpoint.joinpath(*below)
        self._root = root
        self._roots = candidate.roots
        self._mountpoint = mountpoint
        self._command = [
            word.format(root=root, above=root.parent, mountpoint=mountpoint)
            for word in candidate.command
        ]
        self._process: Optional[subprocess.Popen[bytes]] = None

    def __enter__(self) -> "Serving":
        if not self._command:
            return self
        self._mountpoint.mkdir(exist_ok=True)
        if self._roots:
            self._write_roots()
        self._output = tempfile.TemporaryFile()  # not a pipe: nobody reads while it is measured
        try:
            # A session of its own: Ctrl-C is for the measuring process, which unmounts.
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=subprocess.STDOUT,
                cwd=str(REPOSITORY),
                preexec_fn=_allow_many_open_files,
                start_new_session=True,
            )
            self._wait_until_mounted()
        except OSError as error:
            self._end()
            raise StartError(
                f"{self.name}: {self._command[0]}: {os.strerror(error.errno or 0)}"
            ) from None
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._end()

    @property
    def running(self) -> bool:
        """Tell whether a process serves; none does for native."""
        return self._process is not None and self._process.poll() is None

    @property
    def ended(self) -> bool:
        """Tell whether there was a process, and it has ended."""
        return self._process is not None and self._process.poll() is not None

    def last_words(self) -> str:
        """Return the last line that an ended process has written, or how it ended."""
        assert self._process is not None
        self._output.seek(0)
        lines = self._output.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"it ended with {self._process.returncode}"

    def cpu_seconds(self) -> float:
        """Return the CPU time of the serving process and its ended threads; 0 for native.

        It is the sum of /proc/PID/stat's utime and stime, but in nanoseconds instead of ticks of 10 ms,
        which are longer than a row: the process's CPU clock, whose number is made of the process id as
        in clock_getcpuclockid(3) (linux/posix-timers.h: ~pid << 3, or CPUCLOCK_SCHED, 2).
        """
        if self._process is None:
            return 0.0
        return time.clock_gettime(~self._process.pid << 3 | 2)

    def resident_bytes(self) -> int:
        """Return the serving process's memory: VmRSS of proc(5)."""
        assert self._process is not None
        with open(
            f"/proc/{self._process.pid}/status", encoding="ascii", errors="replace"
        ) as status:
            line = next(line for line in status if line.startswith("VmRSS:"))
        return int(line.split()[1]) * 1024

    def forget(self) -> None:
        """Let the kernel forget the names and inodes of this mount, and wait until the process has heard.

        So a round begins as the first did, and passthrough_hp, which holds a descriptor for each name, needs
        them for one round only. A remount drops them (linux/fs/super.c, reconfigure_super); that takes
        root's rights, and without them nothing happens.
        """
        if not self.running:
            return
        flags = ctypes.c_ulong(_MS_REMOUNT | _MS_NOSUID | _MS_NODEV)
        ctypes.CDLL(None).mount(None, os.fsencode(str(self._mountpoint)), None, flags, None)
        recent = [-1.0]

        def is_quiet() -> bool:
            recent.append(self.cpu_seconds() if self.running else recent[-1])
            return recent[-1] == recent[-2]

        wait_until(is_quiet)

    def kill(self) -> None:
        """End a process that does not answer; what waits for it gets an error."""
        if self._process is not None:
            self._process.kill()

    def _write_roots(self) -> None:
        sections = []
        for label in self._roots[:-1]:
            path = self._mountpoint.with_name(f"{self._mountpoint.name}-{label}")
            path.mkdir(exist_ok=True)
            sections.append(f"[{label}]\npath = {path}\n")
        sections.append(f"[{self._roots[-1]}]\npath = {self._root}\n")
        Path(f"{self._mountpoint}.ini").write_text("\n".join(sections))

    def _is_mounted(self) -> bool:
        return filesystem_types().get(str(self._mountpoint), "").startswith("fuse")

    def _wait_until_mounted(self) -> None:
        wait_until(lambda: self._is_mounted() or self.ended)
        if self.ended:
            raise StartError(f"{self.name}: {self.last_words()}")
        if not self._is_mounted():
            raise StartError(f"{self.name}: it does not mount within {PATIENCE:g} s")

    def _end(self) -> None:
        if not self._command:
            return
        self._unmount()
        if self._process is not None:
            # Still mounted: something is open there. A mount without its process gives way.
            if self._is_mounted() or not wait_until(lambda: self.ended):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._unmount("-l")
        self._output.close()

    def _unmount(self, *lazily: str) -> None:
        for command in (["umount", *lazily], ["fusermount3", "-u"], ["fusermount", "-u"]):
            if not self._is_mounted():
                return
            with contextlib.suppress(FileNotFoundError):
                subprocess.run([*command, str(self._mountpoint)], stderr=subprocess.DEVNULL)


def _allow_many_open_files() -> None:
    """Raise the limit of open files as far as may be: all that there can be, or the hard limit.

    passthrough_hp keeps an O_PATH descriptor for each name that the kernel knows, and fails with EMFILE when
    there are more than its limit. Only CAP_SYS_RESOURCE raises the hard one (setrlimit(2)).
    """
    with open("/proc/sys/fs/nr_open", encoding="ascii") as file:
        most = int(file.read())
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    except ValueError:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def wait_until(condition: Callable[[], bool]) -> bool:
    """Poll; tell whether the condition came true in time."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
