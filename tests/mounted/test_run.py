"""Programs that are written for fuse-python run unchanged on this engine, as they do on the stock engine."""

import errno
import fcntl
import os
import select
import shutil
import stat
import struct
import subprocess
import sys
from pathlib import Path
from typing import Dict, List

import fuse
import pytest

from tests.errnos import raises_errno
from tests.mounted.commands import REPOSITORY, Outcome, run, server_environment, wait_until
from tests.mounted.mounting import Sides, is_mounted, mount_types
from tests.mounted.old_style import old_style, old_style_command
from tests.mounted.test_life import in_background

kernel_only = pytest.mark.parametrize("engine", ["kernel"], indirect=True)


def fails_on_stock(reason: str) -> pytest.MarkDecorator:
    """Mark a test that the stock engine fails, for this reason."""
    stock = pytest.param("stock", marks=pytest.mark.xfail(strict=True, reason=reason))
    return pytest.mark.parametrize("engine", ["kernel", stock], indirect=True)


# By paths alone


def test_a_path_only_filesystem(engine: str, tmp_path: Path) -> None:
    """Files, directories and symlinks are made, written, read, listed, renamed and removed."""
    with old_style(engine, "memory.py", tmp_path) as server:
        file = tmp_path / "file"
        file.write_bytes(b"0123456789")
        assert file.read_bytes() == b"0123456789"
        with file.open("r+b", buffering=0) as opened:
            opened.seek(8)
            opened.write(b"abcd")
            opened.truncate(11)
        assert file.read_bytes() == b"01234567abc"
        (tmp_path / "directory").mkdir()
        (tmp_path / "directory" / "below").write_text("below")
        os.rename(str(tmp_path / "directory"), str(tmp_path / "moved"))
        assert (tmp_path / "moved" / "below").read_text() == "below"
        (tmp_path / "link").symlink_to("moved/below")
        assert (tmp_path / "link").read_text() == "below"
        file.chmod(0o640)
        assert stat.S_IMODE(file.stat().st_mode) == 0o640
        assert sorted(os.listdir(str(tmp_path))) == ["file", "link", "moved"]
        (tmp_path / "moved" / "below").unlink()
        (tmp_path / "moved").rmdir()
        assert sorted(os.listdir(str(tmp_path))) == ["file", "link"]
        assert "Traceback" not in server.errors


def test_large_data(engine: str, tmp_path: Path) -> None:
    """What is larger than any one request comes back as it was written."""
    data = os.urandom(300000) * 2
    with old_style(engine, "memory.py", tmp_path):
        (tmp_path / "large").write_bytes(data)
        assert (tmp_path / "large").stat().st_size == len(data)
        assert (tmp_path / "large").read_bytes() == data


def test_negative_numbers_are_errors(engine: str, tmp_path: Path) -> None:
    """A handler that returns a negative errno makes the system call fail with it."""
    with old_style(engine, "memory.py", tmp_path):
        with raises_errno(errno.ENOENT):
            os.stat(str(tmp_path / "missing"))
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "file").touch()
        with raises_errno(errno.ENOTEMPTY):
            (tmp_path / "full").rmdir()


def test_a_missing_handler(engine: str, tmp_path: Path) -> None:
    """What the program has no method for fails with ENOSYS, or with what the kernel makes of that."""
    with old_style(engine, "memory.py", tmp_path):
        (tmp_path / "file").touch()
        with raises_errno(errno.ENOSYS, errno.EPERM):  # as the kernel's age has it
            os.link(str(tmp_path / "file"), str(tmp_path / "other"))
        with raises_errno(errno.EOPNOTSUPP):
            os.setxattr(str(tmp_path / "file"), "user.name", b"value")


def test_utime_alone(engine: str, tmp_path: Path) -> None:
    """A program that has utime and no utimens gets both times, in whole seconds."""
    with old_style(engine, "memory.py", tmp_path):
        (tmp_path / "file").touch()
        os.utime(str(tmp_path / "file"), (1000000000, 1200000000))
        status = (tmp_path / "file").stat()
        assert (status.st_atime, status.st_mtime) == (1000000000, 1200000000)


def test_a_listing_without_offsets(engine: str, tmp_path: Path) -> None:
    """A directory of several replies' length is listed whole, each entry once."""
    names = [f"a-long-name-so-that-they-need-several-replies-{number:04}" for number in range(1500)]
    with old_style(engine, "memory.py", tmp_path):
        for name in names:
            os.mknod(str(tmp_path / name))
        assert sorted(os.listdir(str(tmp_path))) == names


# Unlinked, and still open


def test_an_open_file_that_is_unlinked_gets_a_hidden_name(engine: str, tmp_path: Path) -> None:
    """It stays readable and writable; the name is gone, and so is the hidden one after the close."""
    file = tmp_path / "file"
    with old_style(engine, "memory.py", tmp_path):
        file.write_bytes(b"before")
        with file.open("r+b", buffering=0) as opened:
            file.unlink()
            assert not file.exists()
            (hidden,) = os.listdir(str(tmp_path))
            assert hidden.startswith(".fuse_hidden")
            assert opened.read() == b"before"
            opened.write(b" and after")
            opened.seek(0)
            assert opened.read() == b"before and after"
            assert os.fstat(opened.fileno()).st_size == 16
            file.write_bytes(b"another")
            opened.seek(0)
            assert opened.read() == b"before and after"
        wait_until(lambda: os.listdir(str(tmp_path)) == ["file"], "the hidden name to go")
        assert file.read_bytes() == b"another"


def test_an_open_file_that_is_replaced_gets_a_hidden_name(engine: str, tmp_path: Path) -> None:
    """rename(2) onto it leaves it readable and writable until the last of its openers closes it."""
    old, new = tmp_path / "old", tmp_path / "new"
    with old_style(engine, "memory.py", tmp_path):
        old.write_bytes(b"old")
        new.write_bytes(b"new")
        with new.open("r+b", buffering=0) as first:
            with new.open("rb", buffering=0) as second:
                os.rename(str(old), str(new))
                assert second.read() == b"new"
            first.write(b"NEW")
            first.seek(0)
            assert first.read() == b"NEW"
            assert new.read_bytes() == b"old"
            assert len(os.listdir(str(tmp_path))) == 2
        wait_until(lambda: os.listdir(str(tmp_path)) == ["new"], "the hidden name to go")


def test_hard_remove_hides_nothing(engine: str, tmp_path: Path) -> None:
    """With -o hard_remove an open file is removed at once, and its reader fails."""
    file = tmp_path / "file"
    with old_style(engine, "memory.py", tmp_path, "hard_remove", "direct_io"):
        file.write_bytes(b"before")
        with file.open("rb", buffering=0) as opened:
            file.unlink()
            assert os.listdir(str(tmp_path)) == []
            with raises_errno(errno.ENOENT, errno.ESTALE):
                opened.read()


# With objects


def test_file_info_decides_what_is_cached(engine: str, tmp_path: Path) -> None:
    """keep_cache saves the second open from reading; direct_io reads past the size, and each time."""
    with old_style(engine, "file_info.py", tmp_path):
        assert [(tmp_path / "plain").read_bytes() for _ in range(3)] == [b"1", b"2", b"3"]
        assert [(tmp_path / "kept").read_bytes() for _ in range(3)] == [b"1", b"1", b"1"]
        assert [(tmp_path / "direct").read_bytes() for _ in range(3)] == [b"1", b"2", b"3"]


def calls(mountpoint: Path) -> List[str]:
    """Return what classes.py has noted."""
    return os.getxattr(str(mountpoint), "user.calls").decode().split("\n")


def test_a_file_class(engine: str, tmp_path: Path) -> None:
    """Each open makes an object, whose methods are called until release, the last, once per object."""
    file = tmp_path / "file"
    with old_style(engine, "classes.py", tmp_path) as server:
        with file.open("wb", buffering=0) as opened:
            opened.write(b"0123456789")
            opened.truncate(4)
            assert os.fstat(opened.fileno()).st_size == 4
            os.fsync(opened.fileno())
            os.fdatasync(opened.fileno())
        # The kernel does not wait for a release: the next open may come before it.
        wait_until(lambda: "release /file" in calls(tmp_path), "the first release")
        assert file.read_bytes() == b"0123"
        wait_until(lambda: calls(tmp_path).count("release /file") == 2, "two releases")
        assert [call for call in calls(tmp_path) if "lock" not in call] == [
            "create /file",
            "write /file",
            "ftruncate /file",
            "fsync /file",
            "fdatasync /file",
            "flush /file",
            "release /file",
            "open /file",
            "read /file",
            "flush /file",
            "release /file",
        ]
        assert "Traceback" not in server.errors


def test_locks_of_a_file_class(engine: str, tmp_path: Path) -> None:
    """lock is called with fcntl's commands, and what it returns for F_GETLK arrives."""
    file = tmp_path / "file"
    with old_style(engine, "classes.py", tmp_path) as server:
        with file.open("wb") as opened:
            fcntl.lockf(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            asked = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            found = fcntl.fcntl(opened, fcntl.F_GETLK, asked)
            kind, _, start, length, pid = struct.unpack("hhqqi4x", found)
            assert (kind, start, length, pid) == (fcntl.F_WRLCK, 7, 3, 1)
            fcntl.lockf(opened, fcntl.LOCK_UN)
        locks = [call for call in calls(tmp_path) if "lock" in call]
        assert locks[0] == "write-lock /file"
        assert locks.count("write-lock /file") == 2
        assert "no-lock /file" in locks
        assert "Traceback" not in server.errors


def test_a_directory_class_with_offsets(engine: str, tmp_path: Path) -> None:
    """Listings that come back to an offset are whole, and each object is released once."""
    names = [f"a-long-name-so-that-they-need-several-replies-{number:04}" for number in range(1500)]
    with old_style(engine, "classes.py", tmp_path) as server:
        for name in names:
            (tmp_path / name).mkdir()
        for _ in range(3):
            assert sorted(os.listdir(str(tmp_path))) == names
        wait_until(lambda: calls(tmp_path).count("releasedir /") == 3, "three releases")
        assert calls(tmp_path).count("opendir /") == 3
        assert "Traceback" not in server.errors


def test_the_api_of_2005(engine: str, tmp_path: Path) -> None:
    """fuse.fuse_python_api = (0, 1): attributes as a tuple, getdir, statfs as a tuple."""
    with old_style(engine, "first_api.py", tmp_path, switches=()) as server:
        assert os.listdir(str(tmp_path)) == ["text"]
        assert (tmp_path / "text").read_bytes() == b"from the last century\n"
        status = (tmp_path / "text").stat()
        assert (status.st_atime, status.st_mtime, status.st_ctime) == (7, 8, 9)
        assert os.statvfs(str(tmp_path)).f_blocks == 100
        assert os.statvfs(str(tmp_path)).f_namemax == 200
        with raises_errno(errno.ENOENT):
            (tmp_path / "missing").stat()
        assert "Traceback" not in server.errors


# Beyond files


def test_text_attributes(engine: str, tmp_path: Path) -> None:
    """Handlers that answer size 0 with a number and other sizes with text: set, get, list and remove work."""
    file = tmp_path / "file"
    value = "ein längerer Text: \u65e5\u672c".encode()
    with old_style(engine, "attributes_text.py", tmp_path) as server:
        file.touch()
        os.setxattr(str(file), "user.text", value)
        os.setxattr(str(file), "user.other", b"")
        assert os.getxattr(str(file), "user.text") == value
        assert os.getxattr(str(file), "user.other") == b""
        assert sorted(os.listxattr(str(file))) == ["user.other", "user.text"]
        with raises_errno(errno.ENODATA):
            os.getxattr(str(file), "user.missing")
        os.removexattr(str(file), "user.text")
        assert os.listxattr(str(file)) == ["user.other"]
        os.removexattr(str(file), "user.other")
        assert os.listxattr(str(file)) == []
        assert "Traceback" not in server.errors


def test_ioctl(engine: str, tmp_path: Path) -> None:
    """Data goes in and out as the command's number says; the handler's errors arrive."""
    file = tmp_path / "file"
    with old_style(engine, "controls.py", tmp_path) as server:
        file.write_bytes(b"0123456789")
        with file.open("rb") as opened:
            size = bytearray(8)
            fcntl.ioctl(opened, 0x80084500, size)
            assert struct.unpack("=Q", bytes(size)) == (10,)
            fcntl.ioctl(opened, 0x40084501, struct.pack("=Q", 4))
            fcntl.ioctl(opened, 0x80084500, size)
            assert struct.unpack("=Q", bytes(size)) == (4,)
            assert fcntl.ioctl(opened, 0x4502) == 0
            with raises_errno(errno.ENOTTY):
                fcntl.ioctl(opened, 0x4503)
        assert "Traceback" not in server.errors


def test_poll_with_notification(engine: str, tmp_path: Path) -> None:
    """Who waits for a file is woken by NotifyPoll, and not before."""
    with old_style(engine, "doorbell.py", tmp_path) as server:
        with (tmp_path / "bell").open("rb") as bell, select.epoll() as waiting:
            waiting.register(bell, select.EPOLLIN)
            assert waiting.poll(0) == []
            (tmp_path / "button").write_bytes(b"!")
            assert waiting.poll(20) == [(bell.fileno(), select.EPOLLIN)]
        assert "Traceback" not in server.errors


@fails_on_stock("libfuse 2.9's fuse_invalidate does nothing and answers EINVAL")
def test_invalidate(engine: str, tmp_path: Path) -> None:
    """What is cached stays until Invalidate is called; a path that is not known is ENOENT."""
    file = tmp_path / "file"
    with old_style(engine, "stale.py", tmp_path) as server:
        assert file.read_bytes() == b"0"
        (tmp_path / "quietly").write_bytes(b"1")
        assert file.read_bytes() == b"0"
        (tmp_path / "loudly").write_bytes(b"2")
        assert file.read_bytes() == b"2"
        with raises_errno(errno.ENOENT), (tmp_path / "missing").open("wb", buffering=0) as missing:
            missing.write(b"3")
        assert "Traceback" not in server.errors


def test_the_callers_context(engine: str, public_path: Path) -> None:
    """GetContext returns the uid, the gid and the pid of the process that makes the request."""
    code = "import os, sys; print(os.getpid(), end=' '); print(open(sys.argv[1]).read())"
    with old_style(engine, "whoami.py", public_path, "allow_other"):
        for user, group in (0, 0), (12345, 54321):

            def become(user: int = user, group: int = group) -> None:
                os.setgroups([])
                os.setresgid(group, group, group)
                os.setresuid(user, user, user)

            # An interpreter need not be there for every user; sh is.
            command = ["sh", "-c", 'echo $$; exec cat "$1"', "sh", str(public_path / "whoami")]
            answer = subprocess.check_output(command, preexec_fn=become, timeout=20).decode()
            pid, context = answer.split("\n")
            assert context == f"{user} {group} {pid}"
        own = [sys.executable, "-c", code, str(public_path / "whoami")]
        pid, *context = subprocess.check_output(own, timeout=20).decode().split()
        assert context == ["0", "0", pid]


@pytest.mark.parametrize("switches", [["-f"], []], ids=["foreground", "background"])
def test_fsinit_may_change_the_directory(engine: str, sides: Sides, switches: List[str]) -> None:
    """The working directory that fsinit chooses is the handlers', in the background too."""
    (sides.backing / "file").write_text("here")
    options = ["-o", f"where={sides.backing}"]
    command = old_style_command(engine, "here.py", sides.mount, *switches, *options)
    if switches:
        with old_style(engine, "here.py", sides.mount, f"where={sides.backing}"):
            assert (sides.mount / "file").read_text() == "here"
    else:
        with in_background(command, sides) as outcome:
            assert outcome == Outcome(0, "", "")
            assert (sides.mount / "file").read_text() == "here"


# How it is shown and said


def test_the_name_in_the_mount_table(engine: str, tmp_path: Path) -> None:
    """Without -o fsname and subtype, the type is the program's name, as libfuse has it."""
    with old_style(engine, "memory.py", tmp_path):
        assert mount_types()[str(tmp_path)] == "fuse.memory.py"


def test_debug_shows_each_request(engine: str, tmp_path: Path) -> None:
    """-d stays in the foreground and logs the requests on stderr."""
    with old_style(engine, "memory.py", tmp_path, switches=["-d"]) as server:
        (tmp_path / "directory").mkdir()
        wait_until(lambda: "MKDIR" in server.errors, "the request in the log", 3)


def test_a_mount_point_with_entries(engine: str, tmp_path: Path) -> None:
    """It is refused, as libfuse 2 does; -o nonempty mounts over it."""
    (tmp_path / "entry").touch()
    outcome = run(
        ["timeout", "5", *old_style_command(engine, "memory.py", tmp_path, "-f")],
        environment=server_environment(),
    )
    assert not is_mounted(tmp_path)
    assert outcome.code not in (0, 124), outcome
    assert "empty" in outcome.errors
    with old_style(engine, "memory.py", tmp_path, "nonempty"):
        assert os.listdir(str(tmp_path)) == []
    assert os.listdir(str(tmp_path)) == ["entry"]


@fails_on_stock("the C module prints the exception and answers EINVAL")
def test_an_unexpected_exception(engine: str, tmp_path: Path) -> None:
    """A ValueError of a handler is EIO to the program and a traceback in the log; the rest goes on."""
    with old_style(engine, "broken.py", tmp_path) as server:
        with raises_errno(errno.EIO):
            (tmp_path / "broken").read_bytes()
        (tmp_path / "file").write_bytes(b"fine")
        assert (tmp_path / "file").read_bytes() == b"fine"
        wait_until(lambda: "ValueError: this file is broken" in server.errors, "the log", 3)
        assert "Traceback" in server.errors
        assert "in read\n" in server.errors


@kernel_only
@pytest.mark.parametrize("switches", [["-f"], []], ids=["foreground", "background"])
def test_a_failing_fsinit(engine: str, sides: Sides, switches: List[str]) -> None:
    """The starter fails, says why, and nothing is mounted or running."""
    command = old_style_command(
        engine,
        "broken.py",
        sides.mount,
        *switches,
        "-o",
        "unfinished",
        "-o",
        f"fsname={sides.mount}",
    )
    with in_background(["timeout", "10", *command], sides) as outcome:
        assert outcome.code not in (0, 124), outcome
        assert "no room for the index" in outcome.errors.splitlines()[-1]
        assert not is_mounted(sides.mount)


@kernel_only
@pytest.mark.parametrize("where", ["nowhere", "no argument"])
def test_a_missing_mount_point(engine: str, tmp_path: Path, where: str) -> None:
    """One line on stderr with what is missing, and a non-zero exit code."""
    arguments = [tmp_path / "nowhere"] if where == "nowhere" else []
    command = old_style_command(engine, "memory.py", *arguments, "-f")
    outcome = run(command, environment=server_environment(), seconds=20)
    assert outcome.code not in (0, -1)
    assert outcome.output == ""
    assert outcome.errors.count("\n") == 1
    assert ("nowhere" if arguments else "no mount point") in outcome.errors


def test_help(engine: str) -> None:
    """-h prints the program's options and the engine's, mounts nothing, and is no error."""
    command = old_style_command(engine, "here.py", "-h")
    outcome = run(command, environment=server_environment(), seconds=20)
    assert outcome.code == 0
    text = outcome.output + outcome.errors
    assert "A test of fuse-python's API." in text
    assert "-o where=" in text
    assert "-o allow_other" in text
    assert "Traceback" not in text


def test_an_unknown_option(engine: str, tmp_path: Path) -> None:
    """It is refused by its name, with a non-zero exit code, and nothing is mounted."""
    command = old_style_command(engine, "memory.py", tmp_path, "-f", "-o", "nonsense")
    outcome = run(["timeout", "5", *command], environment=server_environment(), seconds=20)
    assert outcome.code not in (0, 124)
    assert "nonsense" in outcome.errors


def test_the_options_that_fuse_python_finds(engine: str) -> None:
    """Fuse.fuseoptref, which reads the engine's help, finds its options."""
    command = old_style_command(engine, "recognized.py")
    outcome = run(command, environment=server_environment(), seconds=20)
    assert outcome.code == 0
    found = outcome.output.split()
    assert {"allow_other", "nonempty", "max_read", "attr_timeout"} <= set(found), found


# fusepy-run itself


def fusepy_run(*arguments: str) -> Outcome:
    """Run fusepy-run as it is installed."""
    script = "import sys; from fusepy_legacy.commands.run import main; sys.exit(main())"
    return run([sys.executable, "-c", script, *arguments], environment=server_environment())


def test_the_programs_arguments_and_exit_code(engine: str) -> None:
    """The program sees its own arguments, and its exit code is the command's."""
    command = old_style_command(engine, "ending.py", "-x", "one two")
    outcome = run(command, environment=server_environment())
    assert outcome == Outcome(3, "['-x', 'one two']\n", "")


def test_no_program() -> None:
    """Without a program it says how it is used and fails; -h says it and does not."""
    outcome = fusepy_run()
    assert outcome.code != 0
    assert outcome.output == ""
    assert "PROGRAM.py" in outcome.errors
    outcome = fusepy_run("-h")
    assert outcome.code == 0
    assert "PROGRAM.py" in outcome.output


def test_a_missing_program(tmp_path: Path) -> None:
    """A program that is not there is one line and a failure."""
    outcome = fusepy_run(str(tmp_path / "missing.py"))
    assert outcome.code != 0
    assert outcome.errors == f"fusepy-run: no such program: {tmp_path / 'missing.py'}\n"


@fails_on_stock("it is the C module that is missing")
def test_without_the_c_module(engine: str, tmp_path: Path) -> None:
    """Where fuse-python's C module cannot be loaded, as without libfuse 2, the program runs all the same."""
    environment = without_c_module(tmp_path / "python")
    mountpoint = tmp_path / "mount"
    mountpoint.mkdir()
    with old_style(engine, "memory.py", mountpoint, environment=environment) as server:
        (mountpoint / "file").write_bytes(b"data")
        assert (mountpoint / "file").read_bytes() == b"data"
        assert "libfuse" not in Path(f"/proc/{server.pid}/maps").read_text()
        assert server.stop() == 0
    assert server.errors == ""


def without_c_module(directory: Path) -> Dict[str, str]:
    """Copy fuse-python without its C module, and return an environment in which the copy is imported."""
    source = Path(fuse.__file__).parent
    shutil.copytree(
        str(source / "fuseparts"),
        str(directory / "fuseparts"),
        ignore=shutil.ignore_patterns("_fuse*", "__pycache__"),
    )
    shutil.copy(str(source / "fuse.py"), str(directory))
    return {"PYTHONPATH": f"{directory}:{REPOSITORY}"}
