"""Who may mount, who may enter, and what the mount options allow."""

import errno
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Callable, Iterator, List, NamedTuple, Sequence, Tuple

import pytest

import fusepy_legacy
from tests.errnos import raises_errno
from tests.mounted.commands import Outcome, Word, output_of, run, server_environment, wait_until
from tests.mounted.mounting import PROGRAMS, Mounted, Sides, is_mounted, passthrough, tmpfs, unmount
from tests.mounted.old_style import old_style, old_style_command

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes users and mounts")

MIRROR = Path(fusepy_legacy.__file__).parent / "commands" / "passthrough.py"


@pytest.fixture(scope="module")
def user() -> Iterator[pwd.struct_passwd]:
    """An ordinary user, freshly made."""
    name = f"fusepy-{os.getpid()}"
    output_of("useradd", "--no-create-home", "--home-dir", "/", "--shell", "/bin/sh", name)
    try:
        yield pwd.getpwnam(name)
    finally:
        output_of("userdel", name)


class Desk(NamedTuple):
    """A user's place: two directories of the user's, and a directory with what /dev and /etc shall have."""

    user: pwd.struct_passwd
    sides: Sides
    machine: Path

    def command(self, program: Path, *arguments: Word) -> List[Word]:
        """Return the command that runs a program as the user, on a machine that is set up for FUSE.

        /dev/fuse is for everyone, as udev makes it, and /etc/fuse.conf is the one of `machine`, for the
        program only; its mounts are seen by all.
        """
        script = f"""
            for file in /dev/fuse /etc/fuse.conf; do
                mount --make-private "$(findmnt --noheadings --output TARGET --target $file)"
                mount --bind {self.machine}/$(basename $file) $file || exit 99
            done
            exec "$@"
        """
        namespace = ["unshare", "--mount", "--propagation", "unchanged", "sh", "-c", script, "sh"]
        identity = [str(self.user.pw_uid), str(self.user.pw_gid)]
        as_user = [sys.executable, PROGRAMS / "as_user.py", *identity]
        return [*namespace, *as_user, program, *arguments]

    def mounted(self, *options: str) -> Mounted:
        """Mount the filesystem in memory as the user."""
        chosen = ["-o", ",".join(options)] if options else []
        command = self.command(PROGRAMS / "memory.py", self.sides.mount, "-f", *chosen)
        return Mounted(command, self.sides.mount)

    def refused(self, *options: str) -> Outcome:
        """Mount the filesystem in memory as the user, which should fail."""
        command = self.command(
            PROGRAMS / "memory.py", self.sides.mount, "-f", "-o", ",".join(options)
        )
        try:
            return run(["timeout", "10", *command], environment=server_environment())
        finally:
            unmount(self.sides.mount)

    def allow_other(self) -> None:
        """Let users have allow_other."""
        (self.machine / "fuse.conf").write_text("user_allow_other\n")


@pytest.fixture
def desk(user: pwd.struct_passwd, public_path: Path) -> Iterator[Desk]:
    """A desk whose user may not use allow_other."""
    if not os.path.exists("/etc/fuse.conf"):
        pytest.skip("needs /etc/fuse.conf, of the package fuse3")
    with tmpfs(public_path, "mode=755,dev"):
        output_of("mount", "--make-shared", public_path)
        desk = Desk(
            user, Sides(public_path / "mount", public_path / "backing"), public_path / "etc"
        )
        desk.machine.mkdir()
        os.mknod(str(desk.machine / "fuse"), stat.S_IFCHR | 0o666, os.makedev(10, 229))
        (desk.machine / "fuse").chmod(0o666)
        (desk.machine / "fuse.conf").write_text("")
        for side in desk.sides:
            side.mkdir()
            os.chown(str(side), user.pw_uid, user.pw_gid)
        yield desk


def start_as(user: int, *command: Word) -> "subprocess.Popen[str]":
    """Start a command as a user without groups."""

    def become() -> None:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)

    return subprocess.Popen(
        [str(word) for word in command],
        preexec_fn=become,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
    )


def as_user(user: int, *command: Word) -> Tuple[int, str]:
    """Run a command as a user to its end; return its exit code and what it prints."""
    process = start_as(user, *command)
    try:
        output, _ = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    return process.returncode, output


STRANGER = 54321


def mount_line(mountpoint: Path) -> List[str]:
    """Return the fields of the mount table for a mount point, escaped as they are there."""
    with open("/proc/self/mounts", encoding="utf-8") as table:
        lines = [line.split(" ") for line in table]
    (found,) = [line for line in lines if line[1] == str(mountpoint)]
    return found


# Ordinary users


def test_an_ordinary_user_mounts(desk: Desk) -> None:
    """The user reads and writes; nobody else gets in, and root neither."""
    with desk.mounted() as server:
        file = desk.sides.mount / "file"
        uid = desk.user.pw_uid
        assert as_user(uid, "sh", "-c", 'echo data > "$1" && cat "$1"', "sh", file) == (0, "data\n")
        assert as_user(uid, "ls", desk.sides.mount) == (0, "file\n")
        for attempt in (lambda: os.listdir(str(desk.sides.mount)), file.stat, file.read_bytes):
            with raises_errno(errno.EACCES):
                attempt()
        assert as_user(STRANGER, "cat", file)[0] != 0
        options = mount_line(desk.sides.mount)[3].split(",")
        assert f"user_id={uid}" in options
        assert {"nosuid", "nodev"} <= set(options)
        assert (
            Path(f"/proc/{server.pid}/status").read_text().count(f"Uid:\t{uid}\t{uid}\t{uid}") == 1
        )
    assert server.returncode == 0
    assert server.errors == ""


def test_an_ordinary_users_mirror(desk: Desk) -> None:
    """The mirror works for a user, who owns what is made through it."""
    with Mounted(
        desk.command(MIRROR, desk.sides.mount, "-f", "-o", f"root={desk.sides.backing}"),
        desk.sides.mount,
    ) as server:
        file = desk.sides.mount / "file"
        uid = desk.user.pw_uid
        script = 'echo data > "$1" && mkdir "$1.d" && mv "$1" "$1.d/file" && cat "$1.d/file"'
        assert as_user(uid, "sh", "-c", script, "sh", file) == (0, "data\n")
        assert (desk.sides.backing / "file.d" / "file").read_text() == "data\n"
        assert (desk.sides.backing / "file.d" / "file").stat().st_uid == uid
    assert server.returncode == 0
    assert server.errors == ""


@pytest.mark.parametrize("option", ["allow_other", "allow_root"])
def test_who_may_let_others_in(desk: Desk, option: str) -> None:
    """Without user_allow_other in /etc/fuse.conf it is refused in one line that names that."""
    outcome = desk.refused(option)
    assert outcome.code not in (0, 99, 124), outcome
    assert outcome.output == ""
    assert outcome.errors.count("\n") == 1
    assert "user_allow_other" in outcome.errors


def test_allow_other_of_a_user(desk: Desk) -> None:
    """With user_allow_other it lets root and everyone else in."""
    desk.allow_other()
    with desk.mounted("allow_other"):
        (desk.sides.mount / "file").write_text("data")
        assert as_user(desk.user.pw_uid, "cat", desk.sides.mount / "file") == (0, "data")
        assert as_user(STRANGER, "cat", desk.sides.mount / "file") == (0, "data")


def test_allow_root_of_a_user(desk: Desk) -> None:
    """It lets root in beside the user, and nobody else."""
    desk.allow_other()
    with desk.mounted("allow_root"):
        (desk.sides.mount / "file").write_text("data")
        assert as_user(desk.user.pw_uid, "cat", desk.sides.mount / "file") == (0, "data")
        code, message = as_user(STRANGER, "ls", desk.sides.mount)
        assert code != 0
        assert os.strerror(errno.EACCES) in message


def test_a_user_unmounts_with_fusermount(desk: Desk) -> None:
    """fusermount3 -u by the user ends the server with 0; by another user it is refused."""
    helper = shutil.which("fusermount3") or shutil.which("fusermount")
    with desk.mounted() as server:
        assert as_user(STRANGER, str(helper), "-u", desk.sides.mount)[0] != 0
        assert is_mounted(desk.sides.mount)
        assert as_user(desk.user.pw_uid, str(helper), "-u", desk.sides.mount) == (0, "")
        assert server.wait() == 0
        assert not is_mounted(desk.sides.mount)
    assert server.errors == ""


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_a_users_server_ends_on_sigterm(desk: Desk, busy: bool) -> None:
    """It unmounts through the helper and ends with 0, also while someone uses the mount."""
    with desk.mounted() as server:
        guest = start_as(desk.user.pw_uid, "sh", "-c", WORK_THERE, "sh", desk.sides.mount)
        try:
            if busy:
                working = Path(f"/proc/{guest.pid}/cwd")
                wait_until(lambda: os.readlink(str(working)) == str(desk.sides.mount), "the guest")
            else:
                guest.kill()
                guest.wait()
            assert server.stop(signal.SIGTERM) == 0
            assert not is_mounted(desk.sides.mount)
        finally:
            guest.kill()
            guest.communicate()
    assert server.errors == ""


WORK_THERE = 'cd "$1" && exec sleep 60'


# The end of a server


def test_auto_unmount_of_a_user(desk: Desk) -> None:
    """With -o auto_unmount the mount goes away also when the server is killed."""
    desk.allow_other()
    # Without allow_other, fusermount3 before libfuse 3.16 cannot look at a dead mount, and leaves it.
    with desk.mounted("auto_unmount", "allow_other") as server:
        assert as_user(desk.user.pw_uid, "ls", desk.sides.mount) == (0, "")
        assert server.stop(signal.SIGKILL) == -signal.SIGKILL
        wait_until(lambda: not is_mounted(desk.sides.mount), "the unmount", 5)


def test_auto_unmount_of_root(tmp_path: Path) -> None:
    """The same for root; and when the server ends by itself, all is quiet."""
    with old_style("kernel", "memory.py", tmp_path, "auto_unmount") as server:
        (tmp_path / "file").write_text("data")
        assert server.stop(signal.SIGKILL) == -signal.SIGKILL
        wait_until(lambda: not is_mounted(tmp_path), "the unmount", 5)
    with old_style("kernel", "memory.py", tmp_path, "auto_unmount") as server:
        assert server.stop(signal.SIGTERM) == 0
        assert not is_mounted(tmp_path)
    assert server.errors == ""


# root and the others


def test_only_root_enters_roots_mount(public_path: Path) -> None:
    """Without allow_other nobody else gets in."""
    with old_style("kernel", "memory.py", public_path):
        (public_path / "file").write_text("data")
        code, message = as_user(STRANGER, "cat", public_path / "file")
        assert code != 0
        assert os.strerror(errno.EACCES) in message


def test_allow_root_of_root(public_path: Path) -> None:
    """It is what root has anyway: nobody else gets in."""
    with old_style("kernel", "memory.py", public_path, "allow_root"):
        (public_path / "file").write_text("data")
        assert (public_path / "file").read_text() == "data"
        assert as_user(STRANGER, "cat", public_path / "file")[0] != 0
        assert as_user(STRANGER, "ls", public_path)[0] != 0


def test_default_permissions(public_path: Path) -> None:
    """With allow_other alone the program decides; with default_permissions the kernel does, by the mode."""
    for options, expected in ((("allow_other",), 0), (("allow_other", "default_permissions"), 1)):
        with old_style("kernel", "memory.py", public_path, *options):
            (public_path / "file").write_text("data")
            (public_path / "file").chmod(0o600)
            assert as_user(STRANGER, "cat", public_path / "file")[0] == expected


# The flags of mount(2)


def test_read_only(sides: Sides) -> None:
    """-o ro is in the mount table, and writing fails with EROFS."""
    (sides.backing / "file").write_text("data")
    with passthrough(sides.backing, sides.mount, "ro"):
        assert "ro" in mount_line(sides.mount)[3].split(",")
        assert (sides.mount / "file").read_text() == "data"
        attempts: Sequence[Callable[[], object]] = (
            lambda: (sides.mount / "file").write_text("more"),
            lambda: (sides.mount / "new").mkdir(),
            lambda: (sides.mount / "file").unlink(),
        )
        for attempt in attempts:
            with raises_errno(errno.EROFS):
                attempt()


@pytest.mark.parametrize("option", ["nosuid", "suid", ""])
def test_set_user_id_bits(public_path: Path, option: str) -> None:
    """They count only with -o suid, which is not the default."""
    sides = Sides(public_path / "mount", public_path / "backing")
    for side in sides:
        side.mkdir()
    shutil.copy(str(shutil.which("id")), str(sides.backing / "id"))
    (sides.backing / "id").chmod(0o4755)
    with passthrough(sides.backing, sides.mount, *([option] if option else [])):
        honoured = option == "suid"
        assert ("nosuid" in mount_line(sides.mount)[3].split(",")) is not honoured
        expected = "0\n" if honoured else f"{STRANGER}\n"
        assert as_user(STRANGER, sides.mount / "id", "-u") == (0, expected)


@pytest.mark.parametrize("option", ["nodev", "dev", ""])
def test_device_nodes(sides: Sides, option: str) -> None:
    """They work only with -o dev, which is not the default."""
    os.mknod(str(sides.backing / "null"), stat.S_IFCHR | 0o666, os.makedev(1, 3))
    with passthrough(sides.backing, sides.mount, *([option] if option else [])):
        honoured = option == "dev"
        assert ("nodev" in mount_line(sides.mount)[3].split(",")) is not honoured
        if honoured:
            assert (sides.mount / "null").read_bytes() == b""
        else:
            with raises_errno(errno.EACCES):
                (sides.mount / "null").read_bytes()


@pytest.mark.parametrize("option", ["noexec", ""])
def test_programs(sides: Sides, option: str) -> None:
    """They run, except with -o noexec."""
    shutil.copy(str(shutil.which("true")), str(sides.backing / "program"))
    with passthrough(sides.backing, sides.mount, *([option] if option else [])):
        assert ("noexec" in mount_line(sides.mount)[3].split(",")) is bool(option)
        if option:
            with raises_errno(errno.EACCES):
                subprocess.call([str(sides.mount / "program")])
        else:
            assert subprocess.call([str(sides.mount / "program")]) == 0


def test_several_flags(sides: Sides) -> None:
    """sync, dirsync and noatime are in the mount table too."""
    with passthrough(sides.backing, sides.mount, "sync", "dirsync", "noatime"):
        assert {"sync", "dirsync", "noatime"} <= set(mount_line(sides.mount)[3].split(","))


def test_read_only_holds(sides: Sides) -> None:
    """Also beside rw, which wrappers and old lines of fstab bring along."""
    with passthrough(sides.backing, sides.mount, "rw", "ro", "exec", "noexec"):
        assert {"ro", "noexec"} <= set(mount_line(sides.mount)[3].split(","))


def test_a_user_gets_no_unsafe_flags(desk: Desk) -> None:
    """Asking for suid and dev as a user leaves the mount without them, or is refused; never granted."""
    command = desk.command(PROGRAMS / "memory.py", desk.sides.mount, "-f", "-o", "suid,dev")
    try:
        server = Mounted(command, desk.sides.mount)
        with server:
            options = mount_line(desk.sides.mount)[3].split(",")
            assert {"nosuid", "nodev"} <= set(options)
    except AssertionError:
        assert server.returncode not in (None, 0)


# How the mount is called


def test_the_source_and_the_type(sides: Sides) -> None:
    """fsname and subtype are shown in the mount table; the mirror's own are sensible."""
    with passthrough(sides.backing, sides.mount):
        assert mount_line(sides.mount)[2] == "fuse.fusepy-passthrough"
    with passthrough(sides.backing, sides.mount, "fsname=source", "subtype=kind"):
        assert [mount_line(sides.mount)[field] for field in (0, 2)] == ["source", "fuse.kind"]


NAMES = r"-ofsname=a\, b\\c#,subtype=x\, y"


@pytest.mark.parametrize("who", ["root", "root with auto_unmount", "user"])
def test_commas_and_spaces(desk: Desk, who: str) -> None:
    """A backslash lets a comma into fsname and subtype; spaces need none; the table escapes them."""
    arguments: List[Word] = [desk.sides.mount, "-f", NAMES]
    if who == "user":
        command = desk.command(PROGRAMS / "arguments.py", *arguments)
    else:
        arguments += ["-oauto_unmount"] if who == "root with auto_unmount" else []
        command = old_style_command("kernel", "arguments.py", *arguments)
    with Mounted(command, desk.sides.mount) as server:
        line = mount_line(desk.sides.mount)
        assert line[0] == r"a,\040b\134c#".replace("#", r"\043")
        assert line[2] == r"fuse.x,\040y"
        assert server.stop(signal.SIGTERM) == 0
