"""fusepy_legacy.identity: what is created belongs to the caller at birth, in one thread."""

import errno
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import List, Tuple
from unittest import mock

import pytest

from fusepy_legacy import syscalls
from fusepy_legacy.identity import ActingAs, Caller, Registering
from tests.children import in_child
from tests.errnos import raises_errno

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")

CALLER = Caller(uid=1234, gid=2345, pid=0)
GROUP = 3456  # of which a caller may be a supplementary member


def credentials() -> List[str]:
    """Return the calling thread's ids, groups and capabilities, as /proc says them."""
    with open("/proc/thread-self/status") as status:
        return [line for line in status if line.startswith(("Uid", "Gid", "Groups", "Cap"))]


def owner(path: Path) -> Tuple[int, int]:
    status = path.lstat()
    return status.st_uid, status.st_gid


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """A directory that only root may use."""
    directory = tmp_path / "closed"
    directory.mkdir(mode=0o700)
    return directory


@as_root
@pytest.mark.parametrize(
    ("uid", "gid"), [(1234, 2345), (1234, 0), (0, 2345), (4294967294, 4294967294)]
)
def test_what_is_created_belongs_to_the_caller(closed: Path, uid: int, gid: int) -> None:
    """Files, directories, nodes and symlinks have the caller's ids; a closed directory is no obstacle."""

    def create() -> None:
        with ActingAs(Caller(uid, gid, 0)):
            (closed / "file").touch()
            (closed / "directory").mkdir()
            (closed / "symlink").symlink_to("file")
            os.mkfifo(str(closed / "fifo"))

    in_child(create)
    assert {owner(path) for path in closed.iterdir()} == {(uid, gid)}
    assert len(list(closed.iterdir())) == 4


@as_root
def test_a_link_to_somebody_elses_file_changes_no_owner(closed: Path) -> None:
    """An existing file that is opened with O_CREAT, written and renamed stays its owner's."""
    (closed / "old").touch()

    def use() -> None:
        with ActingAs(CALLER):
            os.close(os.open(str(closed / "old"), os.O_CREAT | os.O_WRONLY))
            (closed / "old").rename(closed / "new")

    in_child(use)
    assert owner(closed / "new") == (0, 0)


@as_root
def test_rights_of_root_that_no_caller_has_are_dropped(closed: Path) -> None:
    """Inside, chown and chmod of another's file fail with EPERM."""
    (closed / "file").touch()

    def try_them() -> None:
        with ActingAs(CALLER):
            with raises_errno(errno.EPERM):
                os.chown(str(closed / "file"), 1, 1)
            with raises_errno(errno.EPERM):
                (closed / "file").chmod(0o777)

    in_child(try_them)


@as_root
@pytest.mark.parametrize("mode", [0, stat.S_ISGID | 0o755])
def test_afterwards_the_thread_is_root_again(mode: int) -> None:
    """Ids, groups and capabilities are what they were, after the block and after an exception in it."""

    def act() -> None:
        os.setgroups([7, 8, 9])
        before = credentials()
        with ActingAs(CALLER, mode):
            assert credentials() != before
        assert credentials() == before
        with pytest.raises(KeyError), ActingAs(CALLER, mode):
            raise KeyError
        assert credentials() == before

    in_child(act)


@as_root
@pytest.mark.parametrize("refused", ["setgroups", "setfsgid", "setfsuid", "raise_capability"])
def test_when_a_step_is_refused_none_has_been_taken(refused: str) -> None:
    """Entering raises what the step raised, and the thread is what it was."""

    def act() -> None:
        os.setgroups([7, 8, 9])
        before = credentials()
        step = getattr(syscalls, refused)
        answers = iter([OSError(errno.EPERM, "refused")])

        def refuse_once(*arguments: object) -> None:
            for answer in answers:
                raise answer
            step(*arguments)

        acting = ActingAs(CALLER, stat.S_ISGID)
        with mock.patch.object(syscalls, refused, refuse_once):
            with raises_errno(errno.EPERM), acting:
                raise AssertionError("the block has run")
        assert credentials() == before

    in_child(act)


@as_root
def test_an_id_that_cannot_be_is_an_error() -> None:
    """4294967295 is nobody's id; the system ignores it without a word, ActingAs does not."""

    def act() -> None:
        before = credentials()
        for caller in (Caller(0xFFFFFFFF, 1, 0), Caller(1, 0xFFFFFFFF, 0)):
            with raises_errno(errno.EPERM), ActingAs(caller):
                raise AssertionError("the block has run")
            assert credentials() == before

    in_child(act)


@as_root
def test_other_threads_stay_root(closed: Path) -> None:
    """While one thread acts as the caller, another one's identity, groups and files are root's."""

    def act() -> None:
        with ThreadPoolExecutor(max_workers=1) as other:
            before = other.submit(credentials).result()
            with ActingAs(CALLER, stat.S_ISGID):
                assert other.submit(credentials).result() == before
                other.submit((closed / "by the other").touch).result()
                (closed / "by this one").touch()
            assert other.submit(credentials).result() == before

    in_child(act)
    assert owner(closed / "by the other") == (0, 0)
    assert owner(closed / "by this one") == CALLER[:2]


@as_root
@pytest.mark.parametrize("is_member", [True, False])
def test_setgid_stays_for_members_of_the_directorys_group(closed: Path, is_member: bool) -> None:
    """In a setgid directory a new setgid executable keeps the bit if its creator is in the group.

    As for a local process: inode_init_owner in the kernel's fs/inode.c.
    """
    os.chown(str(closed), 0, GROUP)
    closed.chmod(0o2777)
    caller = CALLER._replace(groups=lambda: [GROUP if is_member else GROUP + 1])

    def create() -> None:
        os.umask(0)
        with ActingAs(caller, 0o2770):
            os.close(os.open(str(closed / "file"), os.O_CREAT | os.O_WRONLY, 0o2770))

    in_child(create)
    assert owner(closed / "file") == (CALLER.uid, GROUP)
    assert (closed / "file").stat().st_mode & 0o7777 == (0o2770 if is_member else 0o770)


@as_root
def test_groups_are_asked_for_with_setgid_modes_only() -> None:
    """The caller's groups are taken on with S_ISGID in the mode; without, nobody has to look them up."""
    asked: List[None] = []

    def named() -> List[int]:
        asked.append(None)
        return [GROUP, GROUP + 1]

    def groups() -> List[str]:
        with open("/proc/thread-self/status") as status:
            (line,) = [line for line in status if line.startswith("Groups:")]
        return line.split()[1:]

    def act() -> None:
        syscalls.setgroups([7])
        caller = CALLER._replace(groups=named)
        with ActingAs(caller, 0o755):
            assert groups() == ["7"]
            assert asked == []
        with ActingAs(caller, 0o2755):
            assert groups() == [str(GROUP), str(GROUP + 1)]
        with ActingAs(CALLER, 0o2755):
            assert groups() == []
        assert groups() == ["7"]

    in_child(act)


@as_root
def test_roots_own_requests_change_nothing() -> None:
    """For uid 0 and gid 0 there is nothing to take on."""

    def act() -> None:
        before = credentials()
        with ActingAs(Caller(0, 0, 0), 0o2755):
            assert credentials() == before

    in_child(act)


@as_root
def test_a_daemon_that_is_not_root_stays_itself(tmp_path: Path) -> None:
    """Another user's daemon acts as nobody else, and that is no error."""
    directory = tmp_path / "open"
    directory.mkdir()

    def act() -> None:
        descriptor = os.open(str(directory), os.O_RDONLY)
        os.fchown(descriptor, 1, 1)
        os.setgid(1)
        os.setuid(1)
        before = credentials()
        with ActingAs(CALLER, 0o2755):
            assert credentials() == before
            os.mkdir("made", dir_fd=descriptor)

    in_child(act)
    assert owner(directory / "made") == (1, 1)


@pytest.mark.parametrize(
    "caller",
    [
        pytest.param(CALLER._replace(umask=0o27), marks=as_root, id="another user"),
        pytest.param(Caller(os.geteuid(), os.getegid(), 0, umask=0o27), id="the same user"),
    ],
)
def test_the_callers_umask_counts_in_one_thread(closed: Path, caller: Caller) -> None:
    """It is applied inside the block, to this thread's files only, and is 0 afterwards."""

    def act() -> None:
        os.umask(0)
        with ThreadPoolExecutor(max_workers=1) as other:
            other.submit(os.getpid).result()  # the thread is there before this one acts
            with ActingAs(caller):
                (closed / "inside").mkdir()
                other.submit((closed / "by the other").mkdir).result()
            with pytest.raises(KeyError), ActingAs(caller):
                raise KeyError
            (closed / "afterwards").mkdir()

    in_child(act)
    assert (closed / "inside").stat().st_mode & 0o777 == 0o750
    assert (closed / "by the other").stat().st_mode & 0o777 == 0o777
    assert (closed / "afterwards").stat().st_mode & 0o777 == 0o777


@as_root
def test_a_umask_does_not_stay_when_entering_fails(closed: Path) -> None:
    """A caller who cannot be taken on leaves no umask behind."""

    def act() -> None:
        os.umask(0)
        with raises_errno(errno.EPERM), ActingAs(Caller(0xFFFFFFFF, 1, 0, umask=0o77)):
            raise AssertionError("the block has run")
        (closed / "directory").mkdir()

    in_child(act)
    assert (closed / "directory").stat().st_mode & 0o777 == 0o777


@as_root
def test_what_is_registered_for_kernel_io_has_no_right_to_keep_set_id_bits() -> None:
    """CAP_FSETID is gone inside the block, in this thread, and back afterwards, also after an error."""

    def act() -> None:
        before = syscalls.get_capabilities()
        bit = 1 << syscalls.CAP_FSETID
        assert before.effective & bit
        registering = Registering()
        with registering:
            assert syscalls.get_capabilities() == before._replace(effective=before.effective ^ bit)
        with pytest.raises(KeyError), registering:
            raise KeyError
        assert syscalls.get_capabilities() == before

    in_child(act)
