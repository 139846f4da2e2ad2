"""Restore brings back all that belongs to each file, goes on after an interruption, overwrites nothing."""

import errno
import fcntl
import os
import socket
import stat
import struct
import tempfile
from pathlib import Path
from typing import Callable, Dict, List, Tuple, Union

import pytest

from fusepy_legacy import syscalls
from fusepy_legacy.commands.vault import main
from fusepy_legacy.crypt.content import BLOCK_SIZE
from fusepy_legacy.crypt.metadata import encrypt_target
from fusepy_legacy.vault import restore as restore_module
from tests.mounted.commands import output_of
from tests.mounted.mounting import unmount
from tests.vault_trees import Link, Made, Outcome, Tree, contents, make, runner

Run = Callable[..., Outcome]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may change owners")

TREE: Tree = {b"a": b"first", b"d": {b"c": b"below", b"e": {b"f": b"deep"}}, b"l": Link(b"a")}


@pytest.fixture
def run(capfdbinary: pytest.CaptureFixture[bytes]) -> Run:
    """Run a command in this process."""
    return runner(capfdbinary.readouterr)


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """Where to restore to; it does not exist."""
    return tmp_path / "plain"


def restore(run: Run, made: Made, *words: object) -> Outcome:
    return run("restore", "--passfile", made.passfile, *words)


def test_chosen_paths_go_below_the_destination(tmp_path: Path, run: Run, plain: Path) -> None:
    """Each under its own name, as cp -r does it."""
    made = make(tmp_path, TREE)
    outcome = restore(run, made, made.at("d/e"), made.at("d/c"), made.at("l"), plain)
    assert (outcome.code, outcome.errors) == (0, [])
    assert contents(plain) == {b"e": {b"f": b"deep"}, b"c": b"below", b"l": Link(b"a")}


def test_two_sources_of_one_name_are_refused(tmp_path: Path, run: Run, plain: Path) -> None:
    """One could hide the other."""
    made = make(tmp_path, {b"a": {b"x": b"1"}, b"b": {b"x": b"2"}})
    outcome = restore(run, made, made.at("a/x"), made.at("b/x"), plain)
    assert (outcome.code, len(outcome.errors)) == (1, 1)
    assert not plain.exists()


def test_nothing_is_restored_into_the_encrypted_tree(tmp_path: Path, run: Run) -> None:
    """Plain files would lie among the encrypted ones."""
    made = make(tmp_path, TREE)
    before = sorted(os.listdir(str(made.root)))
    assert restore(run, made, made.root, made.root / "plain").code == 6
    assert sorted(os.listdir(str(made.root))) == before


def test_nothing_is_restored_over_the_encrypted_tree(tmp_path: Path, run: Run) -> None:
    """Where the destination is above it, and a directory of the tree has its name and its files'."""
    tree: Tree = {b"encrypted": {b"gocryptfs.conf": b"x", b"d": {b"e": b"y"}}, b"a": b"first"}
    made = make(tmp_path, tree)
    before = contents(made.root)
    outcome = restore(run, made, "--force", made.root, tmp_path)
    assert outcome.code == 11
    assert outcome.errors == [
        f"encrypted{path}: not restored: its place is in the encrypted tree"
        for path in ("", "/d", "/d/e", "/gocryptfs.conf")
    ]
    assert contents(made.root) == before
    assert (tmp_path / "a").read_bytes() == b"first"


@needs_root
@pytest.mark.parametrize("below", [b"", b"d"])
def test_nothing_is_restored_into_a_bind_mount_of_the_tree(
    tmp_path: Path, run: Run, below: bytes
) -> None:
    """Nor of a directory in it; what was restored would be restored again, without end."""
    made = make(tmp_path, TREE)
    bound = tmp_path / "bound"
    bound.mkdir()
    output_of("mount", "--bind", made.stored[below], bound)
    try:
        outcome = restore(run, made, made.root, bound / "out")
        assert outcome.code == 6
        assert len(list(bound.rglob("out/*"))) < 4
    finally:
        unmount(bound)


def test_metadata_is_restored(tmp_path: Path, run: Run, plain: Path) -> None:
    """Modes with their special bits, times to the nanosecond also of symlinks and directories, attributes."""
    made = make(tmp_path, TREE)
    encrypted_name = made.names.encrypt_attribute_name(b"user.x")
    times = {}
    for number, path in enumerate((b"a", b"d/c", b"d/e/f", b"d/e", b"d", b"l", b"")):
        stored = str(made.stored[path])
        if path != b"l":
            os.setxattr(stored, encrypted_name, made.content.encrypt_value(b"value" + path))
            os.chmod(stored, [0o4751, 0o444, 0o600, 0o2755, 0o1700, 0, 0o750][number])
        times[path] = (10**18 + number, -(10**9) - 10 * number)
        os.utime(stored, ns=times[path], follow_symlinks=False)
    os.setxattr(str(made.stored[b"a"]), b"user.other", b"not ours")
    outcome = restore(run, made, made.root, plain)
    assert (outcome.code, outcome.errors) == (0, [])
    for path in times:
        restored, stored = plain / os.fsdecode(path), made.stored[path]
        status, expected = restored.lstat(), stored.lstat()
        assert (status.st_mode, status.st_mtime_ns) == (expected.st_mode, expected.st_mtime_ns), (
            path
        )
        assert status.st_mtime_ns == times[path][1]
        if path != b"l":
            assert os.listxattr(str(restored)) == ["user.x"]
            assert os.getxattr(str(restored), "user.x") == b"value" + path


def test_without_the_right_to_change_owners_no_setuid_bit_is_set(
    tmp_path: Path, run: Run, plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be that of whoever restores; the summary says that owners are not kept."""
    made = make(tmp_path, {b"a": b"first"})
    made.stored[b"a"].chmod(0o6755)

    def refuse(path: str, user: int, group: int) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "chown", refuse)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    outcome = restore(run, made, made.root, plain)
    assert outcome == (0, b"1 files restored (not their owners: only root can)\n", [])
    assert (plain / "a").stat().st_mode & 0o7777 == 0o755


@needs_root
@pytest.mark.parametrize("number", [errno.EPERM, errno.EINVAL])
def test_root_that_may_not_change_owners_restores_the_rest(
    tmp_path: Path, run: Run, plain: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Without CAP_CHOWN, or in a user namespace; another run finds all of it complete."""
    made = make(tmp_path, {b"d": {b"a": b"first"}})
    for path, mode in ((b"d/a", 0o6755), (b"d", 0o2751), (b"", 0o755)):
        os.chown(str(made.stored[path]), 1234, 5678)
        made.stored[path].chmod(mode)

    def refuse(path: Union[str, int], user: int, group: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "chown", refuse)
    for _ in range(2):
        outcome = restore(run, made, made.root, plain)
        assert outcome == (0, b"1 files restored (not their owners: root may not, here)\n", [])
        assert contents(plain) == {b"d": {b"a": b"first"}}
        found = [(plain / name).stat() for name in ("d", "d/a")]
        assert [status.st_mode & 0o7777 for status in found] == [0o751, 0o755]
        assert [status.st_uid for status in found] == [0, 0]


def acl(*entries: Tuple[int, int, int]) -> bytes:
    """An ACL as an attribute's value (linux/posix_acl_xattr.h): tags, permissions, and ids."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


@needs_root
def test_no_acl_is_inherited_from_the_destination(tmp_path: Path, run: Run, plain: Path) -> None:
    """Those of the tree are restored, and nobody may more than there; a user's directory keeps its own."""
    nobody = 0xFFFFFFFF
    default = acl((1, 7, nobody), (2, 7, 65534), (4, 5, nobody), (16, 7, nobody), (32, 5, nobody))
    own = acl((1, 6, nobody), (2, 4, 1234), (4, 0, nobody), (16, 4, nobody), (32, 0, nobody))
    access, inherited = "system.posix_acl_access", "system.posix_acl_default"
    tmp_path.chmod(0o755)
    made = make(tmp_path, {**TREE, b"g": b"with an ACL", b"mine": {b"f": b"x"}})
    try:
        os.setxattr(str(made.stored[b"g"]), access, own)
    except OSError as error:
        pytest.skip(f"no ACLs here: {error.strerror}")
    made.stored[b"a"].chmod(0o640)
    (plain / "mine").mkdir(parents=True)
    for path in (plain, plain / "mine"):
        os.setxattr(str(path), inherited, default)
    outcome = restore(run, made, made.root, plain)
    assert (outcome.code, outcome.errors) == (0, [])
    found = {
        str(path.relative_to(plain)): {name: os.getxattr(str(path), name) for name in names}
        for path in [plain, *plain.rglob("*")]
        for names in [os.listxattr(str(path), follow_symlinks=False)]
        if names
    }
    assert found == {".": {inherited: default}, "mine": {inherited: default}, "g": {access: own}}
    assert (plain / "a").stat().st_mode & 0o777 == 0o640
    assert restore(run, made, "--force", made.root, plain).code == 0
    assert os.listxattr(str(plain / "mine")) == []


@needs_root
def test_owners_and_special_files_are_restored(tmp_path: Path, run: Run, plain: Path) -> None:
    """Of everything; with the setuid bit and capabilities, which a change of owner would remove."""
    made = make(tmp_path, TREE)
    for name, mode in ((b"fifo", stat.S_IFIFO), (b"null", stat.S_IFCHR), (b"disk", stat.S_IFBLK)):
        os.mknod(str(made.add_name(b"", name)), mode | 0o640, os.makedev(1, 3))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
    (tmp_path / "s").rename(made.add_name(b"", b"socket"))
    capability = bytes.fromhex("0100000202000000000000000000000000000000")
    name = made.names.encrypt_attribute_name(b"security.capability")
    os.chmod(str(made.stored[b"a"]), 0o4755)
    os.setxattr(str(made.stored[b"d/c"]), name, made.content.encrypt_value(capability))
    for stored in [*made.stored.values(), *made.root.iterdir()]:
        mode = stored.lstat().st_mode
        os.lchown(str(stored), 1234, 5678)
        if not stored.is_symlink():
            stored.chmod(stat.S_IMODE(mode))
    outcome = restore(run, made, made.root, plain)
    assert (outcome.code, outcome.errors) == (0, [])
    for path in [plain, *plain.rglob("*")]:
        assert (path.lstat().st_uid, path.lstat().st_gid) == (1234, 5678), path
    assert (plain / "a").stat().st_mode == stat.S_IFREG | 0o4755
    assert os.getxattr(str(plain / "d" / "c"), "security.capability") == capability
    kinds = {
        name: stat.S_IFMT((plain / name).stat().st_mode)
        for name in ("fifo", "null", "disk", "socket")
    }
    assert list(kinds.values()) == [stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK]
    assert (plain / "null").stat().st_rdev == os.makedev(1, 3)
    again = restore(run, made, made.root, plain)
    assert (again.code, again.errors) == (0, [])


@needs_root
def test_directories_whose_modes_bar_the_way_are_restored_by_their_owner() -> None:
    """Those below first; another run opens them again, and leaves them as they were."""
    with tempfile.TemporaryDirectory() as name:  # others may not enter pytest's
        directory = Path(name)
        directory.chmod(0o777)
        made = make(directory, {b"d": {b"e": {b"f": b"deep"}}})
        (made.root / "gocryptfs.conf").chmod(0o444)
        for path in (b"d", b"d/e"):
            made.stored[path].chmod(0o605)
        plain = directory / "plain"
        for _ in range(2):
            pid = os.fork()
            if pid == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
                os._exit(
                    main(["restore", "-q", "--passfile", str(made.passfile), made.at(), str(plain)])
                )
            assert os.waitpid(pid, 0)[1] == 0
            assert contents(plain) == {b"d": {b"e": {b"f": b"deep"}}}
            for path in ("d", "d/e"):
                status = (plain / path).stat()
                assert (status.st_mode & 0o7777, status.st_uid) == (0o605, 65534)
            (plain / "d/e/f").unlink()


def test_hard_links_stay_hard_links(tmp_path: Path, run: Run, plain: Path) -> None:
    """Of files and of symlinks, across directories; also when a later one is missing."""
    made = make(tmp_path, TREE)
    for old, directory, new in ((b"a", b"d", b"a2"), (b"a", b"", b"a3"), (b"l", b"d/e", b"l2")):
        link = made.add_name(directory, new)
        os.link(str(made.stored[old]), str(link), follow_symlinks=False)

    def links() -> None:
        outcome = restore(run, made, made.root, plain)
        assert (outcome.code, outcome.errors) == (0, [])
        inodes = {(plain / name).stat().st_ino for name in ("a", "d/a2", "a3")}
        assert len(inodes) == 1
        assert (plain / "a").stat().st_nlink == 3
        assert (plain / "l").lstat().st_ino == (plain / "d/e/l2").lstat().st_ino

    links()
    (plain / "d" / "a2").unlink()
    (plain / "l").unlink()
    links()


def test_zeros_become_holes(tmp_path: Path, run: Run, plain: Path) -> None:
    """A reverse view shows holes as encrypted zeros: they are holes again."""
    data = os.urandom(BLOCK_SIZE)
    whole = bytes(BLOCK_SIZE * 300) + data + bytes(BLOCK_SIZE * 300 + 7)
    made = make(tmp_path, {b"f": whole})
    assert restore(run, made, made.root, plain).code == 0
    assert (plain / "f").read_bytes() == whole
    assert (plain / "f").stat().st_blocks * 512 == BLOCK_SIZE


def test_a_second_run_writes_nothing(tmp_path: Path, run: Run, plain: Path) -> None:
    """What is complete keeps its inode and its change time."""
    made = make(tmp_path, TREE)
    restore(run, made, made.root, plain)
    files = [path for path in plain.rglob("*") if path.is_file() and not path.is_symlink()]
    before = [(path.stat().st_ino, path.stat().st_ctime_ns) for path in files]
    outcome = restore(run, made, made.root, plain)
    assert (outcome.code, outcome.errors) == (0, [])
    assert [(path.stat().st_ino, path.stat().st_ctime_ns) for path in files] == before


@pytest.mark.parametrize("kept", [10**9, 2 * 10**9])
def test_times_are_compared_as_the_destination_keeps_them(
    tmp_path: Path, run: Run, plain: Path, monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    """ext4 with small inodes keeps seconds, FAT every other one: a second run finds all complete."""
    made = make(tmp_path, TREE)
    for path in (b"a", b"d/c"):
        os.utime(str(made.stored[path]), ns=(1, 10**18 + 10**9 + 7))
    utime = os.utime

    def coarse(path: Union[str, int], ns: Tuple[int, int]) -> None:
        utime(path, ns=(ns[0] // kept * kept, ns[1] // kept * kept))

    monkeypatch.setattr(os, "utime", coarse)
    restore(run, made, made.root, plain)
    before = seen(plain)
    outcome = restore(run, made, made.root, plain)
    assert (outcome.code, outcome.errors) == (0, [])
    assert seen(plain) == before
    monkeypatch.undo()
    assert restore(run, made, made.root, plain).code == 11


def test_an_attribute_that_cannot_be_set_costs_no_time(
    tmp_path: Path, run: Run, plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is named; the file is complete but for that, and no later run takes it for another."""
    made = make(tmp_path, TREE)
    name = made.names.encrypt_attribute_name(b"user.x")
    os.setxattr(str(made.stored[b"a"]), name, made.content.encrypt_value(b"value"))

    def refuse(path: str, attribute: bytes, value: bytes) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "setxattr", refuse)
    outcome = restore(run, made, made.root, plain)
    assert (outcome.code, len(outcome.errors)) == (11, 1)
    assert (plain / "a").stat().st_mtime_ns == made.stored[b"a"].stat().st_mtime_ns
    outcome = restore(run, made, made.root, plain)
    assert (outcome.code, outcome.errors) == (0, [])


def test_what_exists_is_not_overwritten_unless_forced(
    tmp_path: Path, run: Run, plain: Path
) -> None:
    """A file, a symlink, a file in a directory's place; everything else is restored."""
    made = make(tmp_path, TREE)
    plain.mkdir()
    (plain / "a").write_text("mine")
    (plain / "d").write_text("no directory")
    (plain / "l").symlink_to("elsewhere")
    (plain / "other").write_text("other")
    outcome = restore(run, made, made.root, plain)
    assert outcome.code == 11
    assert {line.split(":")[0] for line in outcome.errors} == {"a", "d", "d/c", "d/e", "d/e/f", "l"}
    expected: Tree = {
        b"a": b"mine",
        b"d": b"no directory",
        b"l": Link(b"elsewhere"),
        b"other": b"other",
    }
    assert contents(plain) == expected
    outcome = restore(run, made, "--force", made.root, plain)
    assert (outcome.code, outcome.errors) == (0, [])
    assert contents(plain) == {**TREE, b"other": b"other"}


def test_a_file_of_the_right_time_and_another_size_is_another(
    tmp_path: Path, run: Run, plain: Path
) -> None:
    """Only both together make it the one that a run before has restored."""
    made = make(tmp_path, {b"a": b"first"})
    plain.mkdir()
    (plain / "a").write_text("longer")
    times = made.stored[b"a"].stat()
    os.utime(str(plain / "a"), ns=(times.st_atime_ns, times.st_mtime_ns))
    assert restore(run, made, made.root, plain).code == 11
    assert (plain / "a").read_text() == "longer"


def test_a_file_that_appears_meanwhile_is_not_overwritten(
    tmp_path: Path, run: Run, plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is looked for once more by the call that gives the complete file its name."""
    made = make(tmp_path, {b"a": b"first"})
    utime = os.utime

    def appear(path: str, ns: "tuple[int, int]") -> None:
        if not (plain / "a").exists():
            (plain / "a").write_text("mine")
        utime(path, ns=ns)

    monkeypatch.setattr(os, "utime", appear)
    outcome = restore(run, made, made.root, plain)
    assert (outcome.code, len(outcome.errors)) == (11, 1)
    assert contents(plain) == {b"a": b"mine"}


def test_a_symlink_in_the_destination_leads_nowhere(tmp_path: Path, run: Run, plain: Path) -> None:
    """Neither in a directory's place nor in a file's, nor in that of the unfinished file."""
    made = make(tmp_path, TREE)
    outside = tmp_path / "outside"
    (outside / "e").mkdir(parents=True)
    (outside / "a").write_text("outside")
    plain.mkdir()
    (plain / "d").symlink_to(outside)
    (plain / "a").symlink_to(outside / "a")
    for options in ([], ["--force"]):
        outcome = restore(run, made, *options, made.root, plain)
        assert contents(outside) == {b"a": b"outside", b"e": {}}
        assert outside.stat().st_mode & 0o777 == 0o755
    assert outcome.code == 0
    assert contents(plain) == TREE


def test_a_directory_swapped_for_a_symlink_leads_nowhere(
    tmp_path: Path, run: Run, plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of a restore, by someone else."""
    made = make(tmp_path, TREE)
    outside = tmp_path / "outside"
    outside.mkdir()
    mkdir = os.mkdir

    def swap(path: str, mode: int = 0o777, **words: int) -> None:
        mkdir(path, mode, **words)
        if path == "d":
            (plain / "d").rename(plain / "moved")
            (plain / "d").symlink_to(outside)

    monkeypatch.setattr(os, "mkdir", swap)
    outcome = restore(run, made, made.root, plain)
    assert outcome.code == 11
    assert contents(outside) == {}
    assert (plain / "a").read_bytes() == b"first"


class Interrupted(BaseException):
    """What ends a restore in the middle."""


@pytest.mark.parametrize("blocks", [100, 2000])
def test_an_interrupted_restore_goes_on(
    tmp_path: Path, run: Run, plain: Path, monkeypatch: pytest.MonkeyPatch, blocks: int
) -> None:
    """A large file from its last checkpoint; no unfinished file is left in the end."""
    whole = os.urandom(blocks * BLOCK_SIZE + 1)
    made = make(tmp_path, {b"a": b"first", b"f": whole, b"z": b"last"})
    monkeypatch.setattr(restore_module, "CHECKPOINT", 2 << 20)
    write, written = os.pwrite, []  # type: ignore[var-annotated]

    def pwrite(descriptor: int, data: memoryview, offset: int) -> int:
        if sum(written) + len(data) > len(whole) * 2 // 3:
            raise Interrupted
        written.append(write(descriptor, data[:100_001], offset))
        return written[-1]

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", pwrite)
        with pytest.raises(Interrupted):
            restore(run, made, made.root, plain)
    parts = [path for path in plain.iterdir() if path.name.endswith(".part")]
    assert len(parts) == (1 if blocks == 2000 else 0)
    assert sorted(set(plain.iterdir()) - set(parts)) == [plain / "a"]
    size = max([path.stat().st_size for path in parts], default=0)
    positions: List[int] = []
    monkeypatch.setattr(
        os, "pwrite", lambda fd, data, at: positions.append(at) or write(fd, data, at)
    )
    outcome = restore(run, made, made.root, plain)
    assert (outcome.code, outcome.errors) == (0, [])
    assert contents(plain) == {b"a": b"first", b"f": whole, b"z": b"last"}
    if blocks == 2000:
        assert (1 << 20) < min(at for at in positions if at) <= size - (2 << 20)
    else:
        assert 0 in positions


CALLS = ["mkdir", "pwrite", "ftruncate", "chown", "chmod", "utime", "link", "symlink", "unlink"]


def killed(made: Made, plain: Path, count: int) -> bool:
    """Restore in a child that ends at its call number `count`, as if killed; tell whether it came there."""
    pid = os.fork()
    if pid == 0:
        left = [count]

        def counted(function: Callable[..., object]) -> Callable[..., object]:
            def call(*arguments: object, **words: object) -> object:
                left[0] -= 1
                if not left[0]:
                    os._exit(99)
                return function(*arguments, **words)

            return call

        for name in CALLS:
            setattr(os, name, counted(getattr(os, name)))
        syscalls.renameat2 = counted(syscalls.renameat2)  # type: ignore[assignment]
        restore_module.CHECKPOINT = BLOCK_SIZE
        os._exit(main(["restore", "-q", "--passfile", str(made.passfile), made.at(), str(plain)]))
    _, status = os.waitpid(pid, 0)
    assert os.WEXITSTATUS(status) in (0, 99)
    return os.WEXITSTATUS(status) == 99


def seen(plain: Path) -> Dict[str, Tuple[int, ...]]:
    """What a restore makes of each object: mode, size, time, and how many names it has."""
    found = {}
    for path in [plain, *plain.rglob("*")]:
        status = path.lstat()
        size = 0 if path.is_dir() else status.st_size
        found[str(path.relative_to(plain))] = (
            status.st_mode,
            size,
            status.st_mtime_ns,
            0 if path.is_dir() else status.st_nlink,
        )
    return found


@pytest.mark.parametrize("inherited", [0, stat.S_ISGID], ids=["", "setgid"])
def test_killed_anywhere_a_restore_goes_on(
    tmp_path: Path, run: Run, plain: Path, inherited: int
) -> None:
    """With the right metadata of all directories, all hard links, and no unfinished file left."""
    big = os.urandom(3 * BLOCK_SIZE)
    tree: Tree = {b"a": b"first", b"d": {b"big": big, b"e": {b"f": b"deep"}}, b"l": Link(b"a")}
    made = make(tmp_path, tree)
    for old, directory, new in ((b"a", b"d/e", b"a2"), (b"d/big", b"", b"z"), (b"a", b"", b"a3")):
        os.link(str(made.stored[old]), str(made.add_name(directory, new)))
    for number, path in enumerate((b"d/e", b"d", b"")):
        made.stored[path].chmod((0o555, 0o2751, 0o750)[number])
        os.utime(str(made.stored[path]), ns=(1, 10**18 + number))
    tmp_path.chmod(0o755 | inherited)
    assert restore(run, made, made.root, plain).code == 0
    expected, expected_contents = seen(plain), contents(plain)
    count = 0
    while True:
        count += 1
        other = tmp_path / f"plain-{count}"
        came = killed(made, other, count)
        outcome = restore(run, made, made.root, other)
        assert (outcome.code, outcome.errors) == (0, []), count
        assert seen(other) == expected, count
        assert contents(other) == expected_contents, count
        if not came:
            break
    assert count > 30


def test_unfinished_files_that_nobody_needs_are_removed(
    tmp_path: Path, run: Run, plain: Path
) -> None:
    """Of files that have changed or are gone meanwhile; a restored file that is only called so stays."""
    name = b".fusepy-vault.0123456789abcdef.part"
    made = make(tmp_path, {b"d": {b"big": os.urandom(9000), name: b"restored"}})
    (plain / "d").mkdir(parents=True)
    for path in (
        plain / "d" / f".fusepy-vault.{1:016}.part",
        plain / f".fusepy-vault.{2:016}.part",
    ):
        path.write_bytes(b"half")
    (plain / "d" / ".fusepy-vault.part").write_bytes(b"mine")
    outcome = restore(run, made, made.root, plain)
    assert (outcome.code, outcome.errors) == (0, [])
    assert sorted(os.listdir(str(plain / "d"))) == [os.fsdecode(name), ".fusepy-vault.part", "big"]
    assert os.listdir(str(plain)) == ["d"]


def test_an_unfinished_file_that_the_next_run_needs_stays(
    tmp_path: Path, run: Run, plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the disk is full, nothing that was written has to be written again."""
    made = make(tmp_path, {b"big": os.urandom(9000)})
    monkeypatch.setattr(restore_module, "CHECKPOINT", BLOCK_SIZE)

    def full(descriptor: int, data: memoryview, offset: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", full)
            assert restore(run, made, made.root, plain).code == 11
        [part] = os.listdir(str(plain))
        assert part.endswith(".part")
    assert restore(run, made, made.root, plain).code == 0
    assert os.listdir(str(plain)) == ["big"]


def test_an_unfinished_file_with_another_name_is_not_written_to(
    tmp_path: Path, run: Run, plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who may write to the destination may have linked a file of ours from elsewhere there."""
    content = os.urandom(9000)
    made = make(tmp_path, {b"big": content})
    monkeypatch.setattr(restore_module, "CHECKPOINT", BLOCK_SIZE)

    def full(descriptor: int, data: memoryview, offset: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        assert restore(run, made, made.root, plain).code == 11
    [part] = plain.iterdir()
    elsewhere = tmp_path / "elsewhere"
    os.link(str(part), str(elsewhere))
    assert restore(run, made, made.root, plain).code == 0
    assert elsewhere.read_bytes() == b""
    assert (plain / "big").read_bytes() == content


def test_one_restore_at_a_time_writes_to_a_destination(
    tmp_path: Path, run: Run, plain: Path
) -> None:
    """The second one is refused, in one line, before it touches anything."""
    made = make(tmp_path, TREE)
    plain.mkdir()
    descriptor = os.open(str(plain), os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        outcome = restore(run, made, made.root, plain)
    finally:
        os.close(descriptor)
    assert (outcome.code, len(outcome.errors)) == (11, 1)
    assert "another restore" in outcome.errors[0]
    assert os.listdir(str(plain)) == []


def test_a_directory_of_the_user_keeps_its_metadata_unless_forced(
    tmp_path: Path, run: Run, plain: Path
) -> None:
    """What is missing in it is restored; the destination itself is the user's without a word."""
    made = make(tmp_path, TREE)
    made.stored[b"d"].chmod(0o751)
    (plain / "d").mkdir(parents=True)
    (plain / "d").chmod(0o700)
    plain.chmod(0o711)
    outcome = restore(run, made, made.root, plain)
    assert (outcome.code, len(outcome.errors)) == (11, 1)
    assert outcome.errors[0].startswith("d: the directory was there")
    assert contents(plain) == TREE
    assert ((plain / "d").stat().st_mode & 0o7777, plain.stat().st_mode & 0o7777) == (0o700, 0o711)
    assert restore(run, made, "--force", made.root, plain).code == 0
    assert (plain / "d").stat().st_mode & 0o7777 == 0o751
    assert plain.stat().st_mode == made.root.stat().st_mode


def test_a_destination_made_for_chosen_paths_is_the_users_alone(
    tmp_path: Path, run: Run, plain: Path
) -> None:
    """It is no directory of the tree, whose mode would say who may read it."""
    made = make(tmp_path, TREE)
    assert restore(run, made, made.at("a"), plain).code == 0
    assert plain.stat().st_mode & 0o7777 == 0o700


def test_a_hard_link_whose_other_name_was_restored_before(
    tmp_path: Path, run: Run, plain: Path
) -> None:
    """It is one file again, whichever of the names is missing; another file of that name is not touched."""
    made = make(tmp_path, {b"a": b"content", b"b": b"other"})
    for name in (b"c", b"e"):
        os.link(str(made.stored[b"a"]), str(made.add_name(b"", name)))
    names = {"a", "c", "e"}
    restore(run, made, made.root, plain)
    for missing in ({"a"}, {"c"}, {"e"}, {"a", "c"}, {"a", "e"}):
        for name in missing:
            (plain / name).unlink()
        outcome = restore(run, made, made.root, plain)
        assert (outcome.code, outcome.errors) == (0, []), missing
        assert len({(plain / name).stat().st_ino for name in names}) == 1
        assert (plain / "a").stat().st_nlink == 3
        assert (plain / "a").read_bytes() == b"content"
    times = (plain / "a").stat()
    for name in ("a", "c"):
        (plain / name).unlink()
    (plain / "e").write_bytes(b"CONTENT")
    os.utime(str(plain / "e"), ns=(times.st_atime_ns, times.st_mtime_ns))
    outcome = restore(run, made, made.root, plain)
    assert (outcome.code, len(outcome.errors)) == (11, 1)
    assert (plain / "e").read_bytes() == b"CONTENT"


def test_a_symlink_in_the_place_of_an_unfinished_file_leads_nowhere(
    tmp_path: Path, run: Run, plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Someone who knows how unfinished files are called gains nothing."""
    whole = os.urandom(100 * BLOCK_SIZE)
    made = make(tmp_path, {b"f": whole})
    monkeypatch.setattr(restore_module, "CHECKPOINT", BLOCK_SIZE)
    write = os.pwrite

    def interrupt(descriptor: int, data: memoryview, offset: int) -> int:
        raise Interrupted

    monkeypatch.setattr(os, "pwrite", interrupt)
    with pytest.raises(Interrupted):
        restore(run, made, made.root, plain)
    monkeypatch.setattr(os, "pwrite", write)
    [part] = plain.iterdir()
    outside = tmp_path / "outside"
    outside.write_text("outside")
    outside.chmod(0o600)
    part.unlink()
    part.symlink_to(outside)
    assert restore(run, made, made.root, plain).code == 0
    assert outside.read_text() == "outside"
    assert contents(plain) == {b"f": whole}


def test_durable_is_all_that_a_resumed_file_relies_on(
    tmp_path: Path, run: Run, plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At no time is more than a checkpoint written and not synced."""
    made = make(tmp_path, {b"f": os.urandom(3000 * BLOCK_SIZE)})
    checkpoint = 2 << 20
    monkeypatch.setattr(restore_module, "CHECKPOINT", checkpoint)
    write, sync = os.pwrite, os.fdatasync
    end, durable = [0], [0]

    def pwrite(descriptor: int, data: memoryview, offset: int) -> int:
        end[0] = offset + len(data)
        assert end[0] - durable[0] <= checkpoint
        return write(descriptor, data, offset)

    def fdatasync(descriptor: int) -> None:
        sync(descriptor)
        durable[0] = end[0]

    monkeypatch.setattr(os, "pwrite", pwrite)
    monkeypatch.setattr(os, "fdatasync", fdatasync)
    assert restore(run, made, made.root, plain).code == 0
    assert end[0] == 3000 * BLOCK_SIZE


def test_a_damaged_tree_restores_everything_else(tmp_path: Path, run: Run, plain: Path) -> None:
    """Bad blocks are zeros, a bad header costs the file, a bad target the symlink; each is named."""
    data = os.urandom(10 * BLOCK_SIZE)
    tree: Tree = {**TREE, b"blocks": data, b"header": b"x", b"link": Link(b"target")}
    made = make(tmp_path, tree)
    made.damage(b"blocks", 2, 5)
    made.stored[b"header"].write_bytes(b"\0\1" + made.stored[b"header"].read_bytes()[2:])
    made.stored[b"link"].unlink()
    target = encrypt_target(made.content, made.names, b"target")
    made.stored[b"link"].symlink_to(target[:-4].decode())
    name = made.names.encrypt_attribute_name(b"user.x")
    os.setxattr(str(made.stored[b"a"]), name, b"damaged" * 9)
    outcome = restore(run, made, made.root, plain)
    assert outcome.code == 26
    named = {
        path: f"{path} ({made.encrypted(path.encode())}): "
        for path in ("blocks", "header", "link", "a")
    }
    assert outcome.errors[0].startswith(named["a"] + "the attribute user.gocryptfs.")
    assert outcome.errors[1:3] == [
        named["blocks"] + f"block {block}: does not authenticate; now zeros" for block in (2, 5)
    ]
    assert outcome.errors[3] == named["header"] + "the header says version 1, not 2"
    assert outcome.errors[4].startswith(named["link"])
    assert len(outcome.errors) == 5
    expected = bytearray(data)
    for block in (2, 5):
        expected[block * BLOCK_SIZE : (block + 1) * BLOCK_SIZE] = bytes(BLOCK_SIZE)
    assert contents(plain) == {**TREE, b"blocks": bytes(expected)}


def test_a_damaged_file_is_never_taken_for_complete(
    tmp_path: Path, run: Run, plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither when the restore is run again, nor when it was interrupted after the damage."""
    made = make(tmp_path, {b"f": os.urandom(2000 * BLOCK_SIZE)})
    made.damage(b"f", 3)
    monkeypatch.setattr(restore_module, "CHECKPOINT", 2 << 20)
    write = os.pwrite

    def pwrite(descriptor: int, data: memoryview, offset: int) -> int:
        if offset > 1500 * BLOCK_SIZE:
            raise Interrupted
        return write(descriptor, data, offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", pwrite)
        with pytest.raises(Interrupted):
            restore(run, made, made.root, plain)
    assert restore(run, made, made.root, plain).code == 26
    assert (plain / "f").stat().st_size == 2000 * BLOCK_SIZE
    assert restore(run, made, made.root, plain).code == 11
    assert restore(run, made, "--force", made.root, plain).code == 26
    assert os.listdir(str(plain)) == ["f"]


def test_forced_what_looks_complete_is_repaired(tmp_path: Path, run: Run, plain: Path) -> None:
    """Content, mode and attributes of a file whose size and time are right; hard links stay."""
    made = make(tmp_path, {b"a": b"first", b"c": b"x" * 5000})
    os.link(str(made.stored[b"a"]), str(made.add_name(b"", b"b")))
    name = made.names.encrypt_attribute_name(b"user.x")
    os.setxattr(str(made.stored[b"a"]), name, made.content.encrypt_value(b"value"))
    assert restore(run, made, made.root, plain).code == 0
    expected = seen(plain)
    status = (plain / "a").stat()
    (plain / "a").write_text("decay")
    (plain / "a").chmod(0o777)
    os.removexattr(str(plain / "a"), "user.x")
    os.utime(str(plain / "a"), ns=(status.st_atime_ns, status.st_mtime_ns))
    outcome = restore(run, made, "--force", made.root, plain)
    assert (outcome.code, outcome.errors) == (0, [])
    assert contents(plain) == {b"a": b"first", b"b": b"first", b"c": b"x" * 5000}
    assert seen(plain) == expected
    assert os.getxattr(str(plain / "b"), "user.x") == b"value"


def test_what_is_damaged_by_now_replaces_no_complete_file(
    tmp_path: Path, run: Run, plain: Path
) -> None:
    """Not with --force either: of the two, the copy that is there is the better one."""
    made = make(tmp_path, {b"a": b"x" * 9000})
    assert restore(run, made, made.root, plain).code == 0
    made.damage(b"a", 1)
    outcome = restore(run, made, "--force", made.root, plain)
    assert (outcome.code, len(outcome.errors)) == (26, 2)
    assert contents(plain) == {b"a": b"x" * 9000}


def test_a_link_to_a_damaged_file_is_named_too(tmp_path: Path, run: Run, plain: Path) -> None:
    """Under each of its names something is lost."""
    made = make(tmp_path, {b"a": b"x" * 9000})
    link = made.add_name(b"", b"b")
    os.link(str(made.stored[b"a"]), str(link))
    made.damage(b"a", 1)
    outcome = restore(run, made, made.root, plain)
    assert outcome.code == 26
    assert [line.split(" ")[0] for line in outcome.errors] == ["a", "b"]
    assert (plain / "a").stat().st_ino == (plain / "b").stat().st_ino


def test_a_tree_deeper_than_any_path_may_be_is_restored(
    tmp_path: Path, run: Run, plain: Path
) -> None:
    """No path is handed to the kernel whole, and no level costs a descriptor or a recursion."""
    made = make(tmp_path, {})
    directory, iv = made.root, made.ivs[b""]
    descriptor = os.open(str(directory), os.O_RDONLY)
    depth = 400
    for _ in range(depth):
        name = made.names.encrypt_name(b"directory", iv)
        os.mkdir(name, dir_fd=descriptor)
        below = os.open(name, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor, iv = below, os.urandom(16)
        with open(
            os.open("gocryptfs.diriv", os.O_WRONLY | os.O_CREAT, dir_fd=descriptor), "wb"
        ) as file:
            file.write(iv)
    os.close(descriptor)
    outcome = restore(run, made, made.root, plain)
    assert (outcome.code, outcome.errors) == (0, [])
    descriptor = os.open(str(plain), os.O_RDONLY)
    for _ in range(depth):
        below = os.open("directory", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    assert os.listdir(descriptor) == []
    os.close(descriptor)
