"""What goes wrong is said: to the user who mounts, in one line and an exit code; to programs, by errno."""

import errno
import os
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence

import pytest

from tests.mounted.commands import (
    Outcome,
    Word,
    output_of,
    processes_with,
    run,
    server_environment,
    wait_until,
)
from tests.mounted.mounting import (
    PROGRAMS,
    Mounted,
    Sides,
    command_line,
    is_mounted,
    make_sides,
    mounts_below,
    passthrough,
    tmpfs,
    unmount,
)

# README.md: exit codes
USAGE, ROOT, MOUNTPOINT, FAILED, FUSE = 1, 6, 10, 11, 19


def assert_refused(outcome: Outcome, code: int, *parts: str) -> None:
    """One line on stderr that has these parts, nothing on stdout, this exit code."""
    assert outcome.code == code, outcome
    assert outcome.output == ""
    assert outcome.errors.count("\n") == 1, outcome.errors
    assert outcome.errors.startswith("fusepy-passthrough: ")
    for part in parts:
        assert part in outcome.errors


def mirror_command(sides: Sides, engine: str, *switches: str) -> List[Word]:
    """Return the command that mirrors one side at the other."""
    return command_line(sides.mount, *switches, engine=engine, options=[f"root={sides.backing}"])


def start(
    command: Sequence[Word], sides: Sides, environment: Optional[Dict[str, str]] = None
) -> Outcome:
    """Run a start that should fail, and take its mount away if it did not."""
    directory = sides.mount.parent
    before = mounts_below(directory)
    try:
        outcome = run(command, directory, server_environment(environment), seconds=20)
        assert mounts_below(directory) == before
    finally:
        if is_mounted(sides.mount) and sides.mount not in before:
            unmount(sides.mount)
    assert processes_with(directory) == set()
    return outcome


# What is wrong with the command line


class Wrong(NamedTuple):
    """A command line behind the program, in a directory that holds both sides; and what is said of it."""

    arguments: str
    code: int
    parts: Sequence[str]


COMMAND_LINES = {
    "nothing at all": Wrong("", USAGE, ["no mount point"]),
    "no mount point": Wrong("-o root=backing", USAGE, ["no mount point"]),
    "no root": Wrong("mount", USAGE, ["no root", "-o root=DIR"]),
    "root without its value": Wrong("mount -o root", USAGE, ["root"]),
    "root with an empty value": Wrong("mount -o root=", USAGE, ["root"]),
    "too many arguments": Wrong("backing other mount", USAGE, ["too many arguments", "other"]),
    "an unknown mount option": Wrong(
        "mount -o root=backing,nonsense", USAGE, ["unknown option", "nonsense"]
    ),
    "an unknown mount option with a value": Wrong(
        "mount -o root=backing,nonsense=1", USAGE, ["unknown option", "nonsense"]
    ),
    "an unknown switch": Wrong("mount -o root=backing -x", USAGE, ["-x"]),
    "an unknown long option": Wrong("mount -o root=backing --nonsense", USAGE, ["--nonsense"]),
    "-o without its value": Wrong("backing mount -o", USAGE, ["-o"]),
    "an engine's option without its value": Wrong(
        "mount -o root=backing,attr_timeout", USAGE, ["attr_timeout", "value"]
    ),
    "an engine's option with a value it does not take": Wrong(
        "mount -o root=backing,allow_other=1", USAGE, ["allow_other", "no value"]
    ),
    "a value that is no number": Wrong(
        "mount -o root=backing,attr_timeout=soon", USAGE, ["attr_timeout", "soon"]
    ),
    "root missing": Wrong("mount -o root=missing", ROOT, ["missing", "No such file"]),
    "root not a directory": Wrong("mount -o root=file", ROOT, ["file", "Not a directory"]),
    "mount point missing": Wrong("missing -o root=backing", MOUNTPOINT, ["missing", "create"]),
    "mount point not a directory": Wrong(
        "file -o root=backing", MOUNTPOINT, ["file", "not a directory"]
    ),
    "mount point not empty": Wrong(
        "full -o root=backing", MOUNTPOINT, ["full", "not empty", "nonempty"]
    ),
}


@pytest.mark.parametrize("switches", [["-f"], []], ids=["foreground", "background"])
@pytest.mark.parametrize("wrong", COMMAND_LINES.values(), ids=list(COMMAND_LINES))
def test_a_wrong_command_line(engine: str, sides: Sides, wrong: Wrong, switches: List[str]) -> None:
    """It is refused with one line that says what to mend, and the documented exit code."""
    directory = sides.mount.parent
    (directory / "file").touch()
    (directory / "other").mkdir()
    (directory / "full").mkdir()
    (directory / "full" / "entry").touch()
    # What is wrong comes last: "-o" is the end of one of the lines.
    command = command_line(*switches, engine=engine)
    outcome = start([*command, *wrong.arguments.split()], sides)
    assert_refused(outcome, wrong.code, *wrong.parts)


def test_a_root_that_its_user_cannot_read(engine: str, public_path: Path) -> None:
    """An ordinary user's mirror of a directory that is closed to that user is refused."""
    sides = make_sides(public_path)
    sides.backing.chmod(0o711)
    os.chown(str(sides.mount), 65534, 65534)
    device = public_path / "device"
    device.mkdir()
    command = command_line(
        sides.mount,
        "-f",
        engine=engine,
        options=[f"root={sides.backing}"],
        program=[PROGRAMS / "as_nobody.py"],
    )
    # A /dev/fuse for everyone, as udev makes it, on a filesystem that honours device nodes.
    setup = (
        f"mount -t tmpfs -o dev tmpfs {device} && mknod -m 666 {device}/fuse c 10 229"
        f" && mount --bind {device}/fuse /dev/fuse"
    )
    outcome = start(in_namespace(setup, sides.mount, command), sides)
    assert_refused(outcome, ROOT, str(sides.backing), "Permission denied")


def test_a_dead_mount(engine: str, sides: Sides) -> None:
    """A mount point whose server has died is refused, with how to clear it."""
    with passthrough(sides.backing, sides.mount, engine=engine) as server:
        server.stop(9)
        command = mirror_command(sides, engine)
        outcome = start(command, sides)
    assert_refused(outcome, MOUNTPOINT, str(sides.mount), "fusermount -u", "umount -l")


def test_a_dead_mount_as_the_root(engine: str, sides: Sides) -> None:
    """A root that is a dead mount is refused."""
    with passthrough(sides.mount, sides.backing, engine=engine) as server:
        server.stop(9)
        command = mirror_command(sides, engine)
        outcome = start(command, sides)
    assert_refused(outcome, ROOT, str(sides.backing), os.strerror(errno.ENOTCONN))


def test_another_module_of_the_name_fuse(engine: str, sides: Sides) -> None:
    """fusepy's module in the place of fuse-python's is named, with how to mend that."""
    other = sides.mount.parent / "other"
    other.mkdir()
    (other / "fuse.py").write_text("class FUSE: ...\nclass Operations: ...\n")
    command = mirror_command(sides, engine)
    path = f"{other}:{server_environment()['PYTHONPATH']}"
    outcome = start(command, sides, {"PYTHONPATH": path})
    assert_refused(outcome, FAILED, str(other / "fuse.py"), "fusepy", "pip install")


# What is wrong with the machine


def in_namespace(setup: str, mountpoint: Path, command: Sequence[Word]) -> List[Word]:
    """Return a command that runs another where `setup` has changed the mounts, which nobody else sees.

    Exit code 98: something was mounted there; 99: `setup` failed.
    """
    script = f"""
        {setup} || exit 99
        "$@"
        code=$?
        grep -qF ' {mountpoint} ' /proc/self/mounts && exit 98
        exit $code
    """
    return ["unshare", "--mount", "sh", "-c", script, "sh", *command]


DEVICES = {
    "missing": ("mount -t tmpfs tmpfs /dev", ["No such file", "modprobe fuse"]),
    "not permitted": (
        "mount --bind /dev/fuse /dev/fuse && mount -o remount,bind,nodev /dev/fuse",
        ["Permission denied", "may not use"],
    ),
    "an empty file": ("mount --bind {empty} /dev/fuse", ["/dev/fuse"]),
    "another device": ("mount --bind /dev/null /dev/fuse", ["/dev/fuse"]),
}


@pytest.mark.parametrize("switches", [["-f"], []], ids=["foreground", "background"])
@pytest.mark.parametrize("device", list(DEVICES))
def test_no_usable_device(engine: str, sides: Sides, device: str, switches: List[str]) -> None:
    """A /dev/fuse that is not there, or not to be used, or not FUSE's, is refused with exit code 19."""
    setup, parts = DEVICES[device]
    empty = sides.mount.parent / "empty"
    empty.touch()
    command = mirror_command(sides, engine, *switches)
    outcome = start(in_namespace(setup.format(empty=empty), sides.mount, command), sides)
    assert_refused(outcome, FUSE, *parts)


# What goes wrong in a handler


def write_through(path: Path, data: bytes = b"data") -> None:
    """Create a file and write to it, with nothing kept back in this process."""
    descriptor = os.open(str(path), os.O_WRONLY | os.O_CREAT)
    try:
        assert os.write(descriptor, data) == len(data)
    finally:
        os.close(descriptor)


HANDLERS: Dict[str, Callable[[Path], object]] = {
    "getattr": lambda path: path.stat(),
    "mkdir": lambda path: path.mkdir(),
    "open": lambda path: os.open(str(path), os.O_RDONLY),
    "read": lambda path: path.read_bytes(),
    "write": write_through,
    "readdir": lambda path: os.listdir(str(path)),
}


@pytest.mark.parametrize("name", list(HANDLERS))
def test_an_unexpected_exception(engine: str, sides: Sides, name: str) -> None:
    """The program gets EIO, the log a traceback, and the mount goes on."""
    broken = f"broken-{name}"
    for existing in "broken-open", "broken-read":
        (sides.backing / existing).write_text("below")
    (sides.backing / "broken-readdir").mkdir()
    (sides.backing / "fine").write_text("fine")
    program = [PROGRAMS / "raising.py"]
    with passthrough(sides.backing, sides.mount, engine=engine, program=program) as server:
        with pytest.raises(OSError, match=rf"^\[Errno {errno.EIO}\]"):
            HANDLERS[name](sides.mount / broken)
        assert (sides.mount / "fine").read_text() == "fine"
        wait_until(lambda: f"LookupError: {name} is broken" in server.errors, "the log", 5)
        assert "Traceback" in server.errors
        assert f"in {'__init__' if name == 'open' else name}\n" in server.errors


# What goes wrong on the backing side


def write_until_refused(path: Path) -> int:
    """Write 64 KiB at a time, at most 64 MiB, until that fails; return the errno, 0 for none."""
    descriptor = os.open(str(path), os.O_WRONLY | os.O_CREAT)
    try:
        for _ in range(1024):
            os.write(descriptor, bytes(65536))
    except OSError as error:
        return error.errno
    finally:
        os.close(descriptor)
    return 0


@contextmanager
def mirror_of_tmpfs(options: str, sides: Sides, engine: str) -> Iterator[Mounted]:
    """Mirror a filesystem in memory for the block."""
    with tmpfs(sides.backing, options):
        with passthrough(sides.backing, sides.mount, engine=engine) as server:
            yield server


def wait_until_closed(server: Mounted, *paths: Path) -> None:
    """Wait until the server has closed files; close(2) of a program returns before that (FUSE_RELEASE)."""
    names = {str(path) for path in paths}
    names |= {f"{name} (deleted)" for name in names}
    wait_until(lambda: not names & set(server.descriptors()), "the server to close the files")


def test_a_full_filesystem(engine: str, sides: Sides) -> None:
    """ENOSPC reaches the program that writes; what was written stays; with room again it goes on."""
    with mirror_of_tmpfs("size=4m", sides, engine) as server:
        write_through(sides.mount / "before")
        assert write_until_refused(sides.mount / "large") == errno.ENOSPC
        assert (sides.backing / "large").stat().st_size > 2 << 20
        assert (sides.mount / "before").read_bytes() == b"data"
        assert write_until_refused(sides.mount / "other") == errno.ENOSPC
        wait_until_closed(server, sides.backing / "large")
        (sides.mount / "large").unlink()
        write_through(sides.mount / "after")
        assert (sides.backing / "after").read_bytes() == b"data"


def test_a_filesystem_without_inodes(engine: str, sides: Sides) -> None:
    """ENOSPC reaches the program that creates a file or directory."""
    with mirror_of_tmpfs("size=1m,nr_inodes=3", sides, engine) as server:
        (sides.mount / "first").touch()
        (sides.mount / "second").mkdir()
        for create in (sides.mount / "third").touch, (sides.mount / "third").mkdir:
            with pytest.raises(OSError, match=rf"^\[Errno {errno.ENOSPC}\]"):
                create()
        wait_until_closed(server, sides.backing / "first")
        (sides.mount / "first").unlink()
        (sides.mount / "third").touch()
        assert sorted(os.listdir(str(sides.backing))) == ["second", "third"]


def test_a_readonly_filesystem(engine: str, sides: Sides) -> None:
    """EROFS reaches the program that writes; reading goes on; writable again, so does writing."""
    with mirror_of_tmpfs("size=1m", sides, engine) as server:
        write_through(sides.mount / "file")
        wait_until_closed(server, sides.backing / "file")
        output_of("mount", "-o", "remount,ro", sides.backing)
        attempts: List[Callable[[], object]] = [
            lambda: write_through(sides.mount / "file"),
            lambda: write_through(sides.mount / "new"),
            (sides.mount / "directory").mkdir,
            (sides.mount / "file").unlink,
            lambda: (sides.mount / "file").rename(sides.mount / "renamed"),
            lambda: (sides.mount / "file").chmod(0o600),
            lambda: os.truncate(str(sides.mount / "file"), 0),
            lambda: os.utime(str(sides.mount / "file"), (1, 1)),
            lambda: os.setxattr(str(sides.mount / "file"), "trusted.name", b"value"),
        ]
        for attempt in attempts:
            with pytest.raises(OSError, match=rf"^\[Errno {errno.EROFS}\]"):
                attempt()
        assert (sides.mount / "file").read_bytes() == b"data"
        output_of("mount", "-o", "remount,rw", sides.backing)
        write_through(sides.mount / "new")
        assert (sides.backing / "new").read_bytes() == b"data"


def test_too_many_open_files(engine: str, sides: Sides) -> None:
    """EMFILE of the server reaches the program that opens one more; closing makes room again.

    Neither the files that are open nor their closing suffer.
    """
    limited = ["prlimit", "--nofile=32:32"]
    opened: List[int] = []
    with passthrough(sides.backing, sides.mount, engine=engine, prefix=limited) as server:
        write_through(sides.mount / "before")
        wait_until_closed(server, sides.backing / "before")
        idle = len(server.descriptors())
        try:
            assert open_until_refused(sides.mount, opened) == errno.EMFILE
            assert 16 <= len(opened) < 32
            for descriptor in opened:
                assert os.write(descriptor, b"data") == 4
            os.fsync(opened[0])
        finally:
            failures = close_all(opened)
        assert failures == []
        wait_until(lambda: len(server.descriptors()) == idle, "the descriptors to be closed")
        write_through(sides.mount / "after")
        assert (sides.backing / "after").read_bytes() == b"data"
        for number in range(len(opened)):
            assert (sides.backing / f"file-{number}").read_bytes() == b"data"
        assert "Traceback" not in server.errors


def open_until_refused(directory: Path, opened: List[int]) -> int:
    """Create at most 100 files, collect their descriptors, return the errno of the first failure or 0."""
    for number in range(100):
        try:
            path = str(directory / f"file-{number}")
            opened.append(os.open(path, os.O_WRONLY | os.O_CREAT))
        except OSError as error:
            return error.errno
    return 0


def close_all(descriptors: Sequence[int]) -> List[str]:
    """Close all descriptors, and return the errors that close(2) reports."""
    failures = []
    for descriptor in descriptors:
        try:
            os.close(descriptor)
        except OSError as error:
            failures.append(errno.errorcode[error.errno])
    return failures


def test_a_used_up_quota(engine: str, sides: Sides) -> None:
    """EDQUOT reaches the program that writes, or, where it is known only later, the one that closes."""
    program = [PROGRAMS / "quota.py"]
    with passthrough(sides.backing, sides.mount, engine=engine, program=program):
        with pytest.raises(OSError, match=rf"^\[Errno {errno.EDQUOT}\]"):
            write_through(sides.mount / "file")
        descriptor = os.open(str(sides.mount / "late"), os.O_WRONLY | os.O_CREAT)
        assert os.write(descriptor, b"data") == 4
        assert close_all([descriptor]) == ["EDQUOT"]
        assert (sides.backing / "late").read_bytes() == b"data"
