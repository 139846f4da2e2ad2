"""How a mount begins and ends: in the foreground, in the background, and by force."""

import contextlib
import errno
import os
import signal
import struct
import subprocess
import threading
from pathlib import Path
from typing import Iterator, List, Sequence

import pytest

from tests.errnos import raises_errno
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
    Mirror,
    Sides,
    command_line,
    is_mounted,
    mounts_below,
    passthrough,
    unmount,
)

CONNECTION_LOST = rf"^\[Errno ({errno.ENOTCONN}|{errno.ECONNABORTED})\]"


@contextlib.contextmanager
def in_background(command: Sequence[Word], sides: Sides) -> Iterator[Outcome]:
    """Run a starter to its end; unmount what it has mounted, and see its server end too."""
    outcome = run(command, sides.mount.parent, server_environment(), seconds=20)
    try:
        yield outcome
    finally:
        unmount(sides.mount)
        wait_until(lambda: not processes_with(sides.mount), "the end of the server")


def mirror_command(sides: Sides, engine: str, *switches: str) -> List[Word]:
    """Return the command that mirrors one side at the other."""
    options = ("allow_other", f"root={sides.backing}")
    return command_line(sides.mount, *switches, engine=engine, options=options)


# Foreground


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_signal_unmounts_and_the_exit_is_clean(engine: str, sides: Sides, name: str) -> None:
    """Each of them ends the foreground process with 0 and no word; fsdestroy has been called."""
    note = sides.mount.parent / "note"
    program = [PROGRAMS / "farewell.py"]
    options = (f"note={note}",)
    with passthrough(
        sides.backing, sides.mount, *options, engine=engine, program=program
    ) as server:
        (sides.mount / "file").write_text("written")
        assert not note.exists()
        assert server.stop(getattr(signal, name)) == 0
        assert not is_mounted(sides.mount)
    assert server.errors == ""
    assert note.is_dir()
    assert os.listdir(str(sides.mount)) == []
    assert (sides.backing / "file").read_text() == "written"


def test_a_signal_unmounts_also_under_an_open_file(engine: str, sides: Sides) -> None:
    """SIGTERM does not wait for programs: what they wrote is in the backing file, the next write fails.

    With kernel I/O writing would go on, as in the test of a kill.
    """
    options = ["no_kernel_io"] if engine == "kernel" else []
    with passthrough(sides.backing, sides.mount, *options, engine=engine) as server:
        write_past_the_end(Mirror(sides.mount, sides.backing, server))


def write_past_the_end(mirror: Mirror) -> None:
    """Hold a file open over the end of its mount."""
    descriptor = os.open(str(mirror.mount / "file"), os.O_WRONLY | os.O_CREAT)
    try:
        os.write(descriptor, b"written")
        assert mirror.server.stop(signal.SIGTERM) == 0
        assert not is_mounted(mirror.mount)
        with pytest.raises(OSError, match=CONNECTION_LOST):
            os.write(descriptor, b"more")
    finally:
        with contextlib.suppress(OSError):  # what close says here is the kernel's affair
            os.close(descriptor)
    assert (mirror.backing / "file").read_bytes() == b"written"


@pytest.mark.parametrize("unmounter", ["umount", "fusermount"])
def test_an_unmount_from_outside_ends_the_process(mirror: Mirror, unmounter: str) -> None:
    """umount and fusermount -u end the foreground process with 0 and no word."""
    (mirror.mount / "file").write_text("written")
    output_of(unmounter, *(["-u"] if unmounter == "fusermount" else []), mirror.mount)
    assert mirror.server.wait() == 0
    assert mirror.server.errors == ""
    assert (mirror.backing / "file").read_text() == "written"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root remounts")
def test_a_mount_is_made_read_only_and_back(mirror: Mirror) -> None:
    """mount(8) says so to the kernel itself, -i: nothing changes meanwhile."""
    file = mirror.mount / "file"
    file.write_text("content")

    def remount(how: str) -> None:
        subprocess.check_call(["mount", "-i", "-o", f"remount,{how}", str(mirror.mount)])

    remount("ro")
    for change in file.unlink, lambda: file.write_text("x"), lambda: file.chmod(0o600):
        with raises_errno(errno.EROFS):
            change()
    assert file.read_text() == "content"
    remount("rw")
    file.write_text("changed")
    assert (mirror.backing / "file").read_text() == "changed"


@pytest.mark.parametrize("ending", ["umount", "SIGTERM"])
@pytest.mark.parametrize("switches", [[], ["-s"]], ids=["", "-s"])
def test_the_end_waits_for_handlers(
    engine: str, sides: Sides, ending: str, switches: List[str]
) -> None:
    """A release that stores the file runs to its end, and fsdestroy comes after it."""
    with passthrough(
        sides.backing,
        sides.mount,
        "seconds=0.5",
        engine=engine,
        switches=switches,
        program=[PROGRAMS / "lingering.py"],
    ) as server:
        (sides.mount / "file").write_text("data")
        wait_until(lambda: "release begins" in server.errors, "the release")
        if ending == "umount":
            wait_until(lambda: run(["umount", sides.mount]).code == 0, "umount")
            assert server.wait() == 0
        else:
            assert server.stop() == 0
        assert not is_mounted(sides.mount)
    assert server.errors == "release begins\nrelease ends\ndestroyed\n"


# Background


def test_the_starter_returns_when_the_mount_works(engine: str, sides: Sides) -> None:
    """Its exit code is 0, it says nothing, and the mount can be used at once; every time."""
    (sides.backing / "file").write_text("below")
    for _ in range(3):
        with in_background(mirror_command(sides, engine), sides) as outcome:
            assert (sides.mount / "file").read_text() == "below"
            assert outcome == Outcome(0, "", "")
            (sides.mount / "new").write_text("above")
        assert (sides.backing / "new").read_text() == "above"
        assert os.listdir(str(sides.mount)) == []


def test_the_server_is_detached(engine: str, sides: Sides) -> None:
    """Its working directory is /, it leads a session without a terminal, its stdio is /dev/null."""
    with in_background(mirror_command(sides, engine), sides):
        (server,) = processes_with(sides.mount)
        process = Path(f"/proc/{server}")
        assert os.readlink(str(process / "cwd")) == "/"
        # proc_pid_stat(5): behind the name in parentheses, the fields from number 3 on.
        fields = (process / "stat").read_text().rpartition(")")[2].split()
        session, terminal = int(fields[3]), int(fields[4])
        assert session == server
        assert terminal == 0
        for number in range(3):
            assert os.readlink(str(process / "fd" / str(number))) == "/dev/null"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&- 2>&-"])
def test_a_starter_without_stdio(engine: str, sides: Sides, closed: str) -> None:
    """It may have been started with its standard descriptors closed, as some supervisors do."""
    command = ["sh", "-c", f'exec "$@" {closed}', "sh", *mirror_command(sides, engine)]
    (sides.backing / "file").write_text("below")
    with in_background(command, sides) as outcome:
        assert outcome == Outcome(0, "", "")
        assert (sides.mount / "file").read_text() == "below"


def test_the_server_takes_relative_paths_along(engine: str, sides: Sides) -> None:
    """A relative root and mount point are those of the starter, although the server goes to /."""
    # The name of the source has no meaning; it lets the server be found.
    options = ("root=backing", f"fsname={sides.mount}")
    command = command_line("mount", engine=engine, options=options)
    (sides.backing / "file").write_text("below")
    with in_background(command, sides) as outcome:
        assert outcome == Outcome(0, "", "")
        assert (sides.mount / "file").read_text() == "below"


@pytest.mark.parametrize("ending", ["SIGTERM", "umount"])
def test_the_server_ends_with_its_mount(engine: str, sides: Sides, ending: str) -> None:
    """After SIGTERM or umount, neither the mount nor the process is there."""
    with in_background(mirror_command(sides, engine), sides):
        (server,) = processes_with(sides.mount)
        if ending == "umount":
            output_of("umount", sides.mount)
        else:
            os.kill(server, signal.SIGTERM)
        wait_until(lambda: not processes_with(sides.mount), "the end of the server")
        assert not is_mounted(sides.mount)


# By force


class Writer(threading.Thread):
    """Writes numbered blocks to a file until that fails; `written` says how many were acknowledged.

    It ends after 40 MB, too: with kernel I/O the writing goes on without the mirror's process.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self.path = path
        self.written = 0
        self.error = 0

    def run(self) -> None:
        descriptor = os.open(str(self.path), os.O_WRONLY | os.O_CREAT)
        try:
            while self.written < 10000:
                os.write(descriptor, block(self.written))
                self.written += 1
        except OSError as error:
            self.error = error.errno
        with contextlib.suppress(OSError):
            os.close(descriptor)


def block(number: int) -> bytes:
    """Return 4 KiB that say which block they are."""
    return struct.pack("<Q", number) * 512


@pytest.mark.parametrize("remedy", [["fusermount", "-u"], ["umount", "-l"]], ids=" ".join)
def test_kill_in_mid_write_loses_nothing_that_was_written(
    engine: str, sides: Sides, remedy: List[str]
) -> None:
    """Every acknowledged write is in the backing file.

    The next start reports the dead mount with exit code 10 and one line that says how to clear it; after
    that it mounts again.
    """
    options = ["no_kernel_io"] if engine == "kernel" else []
    with passthrough(sides.backing, sides.mount, *options, engine=engine) as server:
        writer = Writer(sides.mount / "file")
        writer.start()
        wait_until(lambda: writer.written > 200 or writer.error, "some writes")
        assert server.stop(signal.SIGKILL) == -signal.SIGKILL
        writer.join(20)
        assert writer.error in (errno.ENOTCONN, errno.ECONNABORTED, errno.EIO)
        assert is_mounted(sides.mount)

        with (sides.backing / "file").open("rb") as file:
            for number in range(writer.written):
                assert file.read(4096) == block(number)
            # The one that was under way is there or is not.
            assert len(file.read()) in (0, 4096)

        for switches in [], ["-f"]:
            outcome = run(
                mirror_command(sides, engine, *switches), environment=server_environment()
            )
            assert outcome.code == 10
            assert outcome.errors.count("\n") == 1
            assert str(sides.mount) in outcome.errors
            assert " ".join(remedy) in outcome.errors

        output_of(*remedy, sides.mount)
        assert not is_mounted(sides.mount)
    with passthrough(sides.backing, sides.mount, engine=engine):
        assert (sides.mount / "file").read_bytes()[:4096] == block(0)


def test_with_kernel_io_an_open_file_outlives_the_process(sides: Sides) -> None:
    """The kernel reads and writes the backing file itself, so a kill does not stop a writer."""
    with passthrough(sides.backing, sides.mount, engine="kernel") as server:
        descriptor = os.open(str(sides.mount / "file"), os.O_WRONLY | os.O_CREAT)
        os.write(descriptor, b"before ")
        assert server.stop(signal.SIGKILL) == -signal.SIGKILL
        os.write(descriptor, b"and after")
        with contextlib.suppress(OSError):  # nobody is left to ask whether closing went well
            os.close(descriptor)
        assert (sides.backing / "file").read_bytes() == b"before and after"


# The start


@pytest.mark.parametrize("switches", [["-f"], []], ids=["foreground", "background"])
@pytest.mark.parametrize(
    ("failure", "message"),
    [
        ("OSError", "[Errno 28] no room for the index"),
        ("RuntimeError", "RuntimeError: the index is broken"),
        ("SystemExit", "SystemExit: the index is gone"),
        ("negative", "[Errno 13] Permission denied"),
    ],
)
def test_a_failing_fsinit_is_the_starters_failure(
    engine: str, sides: Sides, switches: List[str], failure: str, message: str
) -> None:
    """Exit code 11, the error as the last line on stderr, nothing mounted, nothing running."""
    command = command_line(
        sides.mount,
        *switches,
        engine=engine,
        options=[f"root={sides.backing}", f"failure={failure}"],
        program=[PROGRAMS / "failing_start.py"],
    )
    with in_background(command, sides) as outcome:
        assert outcome.code == 11
        assert outcome.errors.splitlines()[-1].endswith(
            f"the filesystem failed to start: {message}"
        )
        assert mounts_below(sides.mount) == []
        assert processes_with(sides.mount) == set()


@pytest.mark.parametrize(
    ("switches", "patience", "most"),
    [([], 15.0, b"2"), (["-s"], 0.5, b"1")],
    ids=["several at once", "-s"],
)
def test_requests_at_once(
    engine: str, sides: Sides, switches: List[str], patience: float, most: bytes
) -> None:
    """Two reads of two programs are served at the same time; with -s, one after the other."""
    for name in "one", "two":
        (sides.backing / name).write_bytes(b"?")
    readers = []
    try:
        with passthrough(
            sides.backing,
            sides.mount,
            f"patience={patience}",
            engine=engine,
            program=[PROGRAMS / "meeting.py"],
            switches=switches,
        ):
            for name in "one", "two":
                command = ["cat", str(sides.mount / name)]
                readers.append(subprocess.Popen(command, stdout=subprocess.PIPE))
            answers = [reader.communicate(timeout=20)[0] for reader in readers]
    finally:
        for reader in readers:
            reader.kill()
            reader.wait()
    assert answers == [most, most]
