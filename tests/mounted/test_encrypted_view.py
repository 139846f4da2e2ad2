"""The encrypted view of a plain directory: equal to gocryptfs's, and restored by gocryptfs."""

import errno
import os
import shutil
import signal
import stat
import subprocess
import threading
from pathlib import Path
from typing import Dict, FrozenSet, List, Set, Tuple

import pytest

from fusepy_legacy.crypt.config import DIRIV, FORWARD_PLAINTEXT_NAMES, REVERSE
from tests.errnos import raises_errno
from tests.mounted.commands import Word, output_of, run, wait_until
from tests.mounted.encrypted_views import PASSWORD, Source, contents, make_source, settle
from tests.mounted.gocryptfs import Sides, assert_equal, fill, mounted
from tests.mounted.mounting import Mounted, mounts_below
from tests.mounted.trees import all_below
from tests.vault_trees import COMMAND as VAULT

needs_gocryptfs = pytest.mark.skipif(
    shutil.which("gocryptfs") is None, reason="gocryptfs is missing"
)

FLAGS: Dict[str, Tuple[FrozenSet[str], int]] = {
    "default": (REVERSE, 255),
    "longnamemax": (REVERSE, 62),
    "deterministic": (REVERSE - {DIRIV}, 255),
    "plaintextnames": (FORWARD_PLAINTEXT_NAMES | {"AESSIV"}, 255),
}
each_config = pytest.mark.parametrize("name", sorted(FLAGS))


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """An empty plain directory with a config."""
    return make_source(tmp_path)


def sides_of(source: Source) -> Sides:
    """Return places for gocryptfs: it shows either `encrypted`, or the source there."""
    sides = Sides(
        *(source.root.parent / name for name in ("copy", "decrypted", "_")), source.passfile
    )
    sides.encrypted.mkdir()
    sides.view.mkdir()
    return sides


def facts(root: Path) -> Dict[str, Tuple[object, ...]]:
    """Return what the two views must agree on of each object, by its path."""
    found = {}
    for directory, directories, names in os.walk(os.fsencode(str(root))):
        for name in [b".", *directories, *names]:
            path = os.path.join(directory, name)
            status = os.lstat(path)
            kind = stat.S_IFMT(status.st_mode)
            data: object = b""
            if kind == stat.S_IFREG:
                with open(path, "rb") as file:
                    data = file.read()
            elif kind == stat.S_IFLNK:
                data = os.readlink(path)
            found[os.fsdecode(os.path.relpath(path, os.fsencode(str(root))))] = (
                status.st_mode,
                status.st_uid,
                status.st_gid,
                status.st_size,
                (status.st_atime_ns, status.st_mtime_ns, status.st_ctime_ns),
                status.st_rdev,
                status.st_nlink,
                data,
            )
    return found


@needs_gocryptfs
@each_config
def test_the_view_is_gocryptfs_s(tmp_path: Path, name: str) -> None:
    """Names, virtual files, contents, sizes, modes, owners, times, targets are equal, on fresh mounts.

    Not so on purpose: hard-linked files have other bytes, and virtual files other inode numbers.
    """
    source = make_source(tmp_path, *FLAGS[name])
    fill(source.root)
    linked = {path for path in all_below(source.root) if path.lstat().st_nlink > 1}
    for path in linked:
        if path.is_file():
            path.unlink()
    sides = sides_of(source)
    facts(source.root)  # access times that change do so now (relatime)
    with source.shown(), mounted(sides, "-reverse", source=source.root):
        ours, theirs = facts(source.view), facts(sides.encrypted)
    assert sorted(ours) == sorted(theirs)
    assert len(ours) > 300
    different = {path: (ours[path], theirs[path]) for path in ours if ours[path] != theirs[path]}
    assert different == {}


@needs_gocryptfs
@each_config
def test_a_copy_is_restored_by_gocryptfs(tmp_path: Path, name: str) -> None:
    """Everything: all types and lengths, attributes, hard links, odd names, deep paths, sparse files."""
    source = make_source(tmp_path, *FLAGS[name])
    fill(source.root, extras=name != "plaintextnames")
    sides = sides_of(source)
    with source.shown():
        output_of("cp", "-a", f"{source.view}/.", sides.encrypted)
    config = source.root / ".gocryptfs.reverse.conf"
    assert (sides.encrypted / "gocryptfs.conf").read_bytes() == config.read_bytes()
    config.unlink()
    with mounted(sides, "-ro"):
        assert_equal(source.root, sides.view)


@needs_gocryptfs
def test_two_thousand_files(source: Source) -> None:
    """They come back from a copy, and fsck finds nothing."""
    for number in range(2000):
        directory = source.root / str(number % 20)
        directory.mkdir(exist_ok=True)
        (directory / f"{number}").write_bytes(b"x" * (number % 5000))
    sides = sides_of(source)
    with source.shown():
        output_of("cp", "-a", f"{source.view}/.", sides.encrypted)
    fsck = ["gocryptfs", "-q", "-nosyslog", "-fsck", "-passfile", source.passfile, sides.encrypted]
    output_of(*fsck, environment={"TMPDIR": str(source.root.parent)})
    (source.root / ".gocryptfs.reverse.conf").unlink()
    with mounted(sides, "-ro"):
        assert_equal(source.root, sides.view)


def test_restored_without_a_mount(source: Source) -> None:
    """fusepy-vault verify finds a copy equal to its source."""
    fill(source.root)
    copy = source.root.parent / "copy"
    with source.shown():
        output_of("cp", "-a", source.view, copy)
    (source.root / ".gocryptfs.reverse.conf").unlink()
    words = ["verify", "-q", "--passfile", source.passfile, "--against", source.root, copy]
    output_of(*VAULT, *words)


@pytest.mark.parametrize("depth", [1, 2])
def test_a_view_is_not_restored_into_its_own_source(source: Source, depth: int) -> None:
    """The restored files would be in the view, and restored again, without end."""
    (source.root / "d").mkdir()
    (source.root / "file").write_text("content")
    destination = source.root / "d/out" if depth == 2 else source.root / "out"
    with source.shown():
        outcome = run([*VAULT, "restore", "--passfile", source.passfile, source.view, destination])
    assert (outcome.code, outcome.errors.count("\n")) == (6, 1)
    assert "the destination is in what is restored" in outcome.errors
    assert len(list(all_below(destination))) <= 2


def test_every_mount_shows_the_same(source: Source) -> None:
    """Inode numbers, sizes, times and bytes, hard links included, whichever name is opened first."""
    fill(source.root)

    def seen(backwards: bool) -> List[Tuple[object, ...]]:
        with source.shown():
            paths = sorted(all_below(source.view), reverse=backwards)
            found = []
            for path in paths:
                status = path.lstat()
                times = status.st_mtime_ns, status.st_ctime_ns
                data: object = ""
                if path.is_symlink():
                    data = os.readlink(str(path))
                elif path.is_file():
                    data = path.read_bytes()
                names = os.listxattr(str(path), follow_symlinks=False)
                values = [os.getxattr(str(path), name, follow_symlinks=False) for name in names]
                found.append((str(path), status.st_ino, status.st_size, times, data, names, values))
            return found[::-1] if backwards else found

    assert seen(False) == seen(True)


def test_inode_numbers_are_one_for_each_file(source: Source) -> None:
    """Also of virtual files, and where another filesystem is mounted in the source."""
    fill(source.root)
    other = source.root / "other"
    other.mkdir()
    output_of("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", other)
    try:
        for number in range(20):
            (other / str(number)).write_text("x")
            os.link(str(other / str(number)), str(other / f"{number}, linked"))
        with source.shown():
            numbers: Dict[int, List[Path]] = {}
            for path in all_below(source.view):
                numbers.setdefault(path.lstat().st_ino, []).append(path)
            for paths in numbers.values():
                assert len({path.lstat().st_nlink for path in paths}) == 1
                assert len(paths) <= max(paths[0].lstat().st_nlink, 1), paths
                assert len({path.read_bytes() for path in paths if path.is_file()}) <= 1
            listed = {
                entry.name: entry.inode()
                for entry in os.scandir(str(source.view))
                if not entry.is_dir()
            }
            for name, number in listed.items():
                assert number == (source.view / name).stat().st_ino
    finally:
        output_of("umount", other)
    assert mounts_below(source.root) == []


def test_hard_links_stay_one_file(source: Source) -> None:
    """One inode number, one content; a second name that goes changes what the first shows, once."""
    (source.root / "one").write_bytes(b"x" * 5000)
    os.link(str(source.root / "one"), str(source.root / "two"))
    (source.root / "three").write_bytes(b"x" * 5000)
    with source.shown():
        found = {
            name: (path.stat().st_ino, path.stat().st_nlink, path.read_bytes())
            for name, path in ((path.name, path) for path in source.view.iterdir())
            if path.stat().st_size > 5000
        }
    pairs = [values for values in found.values() if values[1] == 2]
    assert len(found) == 3
    assert len(pairs) == 2
    assert pairs[0] == pairs[1]
    assert len({values[2] for values in found.values()}) == 2


@pytest.mark.parametrize("change", ["link", "rename"])
def test_who_reads_on_gets_the_blocks_that_belong_together(source: Source, change: str) -> None:
    """Though the file has a second name or another one meanwhile, and is read with the blocks of that."""
    plain, other = source.root / "file", source.root / "other"
    plain.write_bytes(os.urandom(3 << 20))
    with source.shown():
        shown = max(source.view.iterdir(), key=lambda path: path.stat().st_size)
        before = shown.read_bytes()
        with open(str(shown), "rb", buffering=0) as file:
            read = file.read(1 << 20)
            if change == "link":
                os.link(str(plain), str(other))
            else:
                plain.rename(other)
                shown = max(
                    set(source.view.iterdir()) - {shown}, key=lambda path: path.stat().st_size
                )
            after = shown.read_bytes()
            while len(read) < len(before):
                read += file.read(1 << 20)
        assert read == before != after
        assert shown.read_bytes() == after


def test_the_config_is_shown(source: Source) -> None:
    """As gocryptfs.conf at the top, also one from elsewhere; the plain one has no encrypted name."""
    config = source.root / ".gocryptfs.reverse.conf"
    with source.shown():
        shown = sorted(path.name for path in source.view.iterdir())
        assert shown == ["gocryptfs.conf", "gocryptfs.diriv"]
        assert (source.view / "gocryptfs.conf").read_bytes() == config.read_bytes()
        assert stat.S_IMODE((source.view / "gocryptfs.conf").stat().st_mode) == 0o400
    elsewhere = source.root.parent / "elsewhere"
    shutil.copy2(str(config), str(elsewhere))
    with source.shown(f"config={elsewhere}"):
        assert len(list(source.view.iterdir())) == 3  # the other config is a file as any
        assert (source.view / "gocryptfs.conf").read_bytes() == elsewhere.read_bytes()


def test_the_config_shown_is_that_of_the_directory_shown(source: Source) -> None:
    """Also when another has its name, whose key opens nothing here; a new password shows at once."""
    other = source.root.parent / "other"
    other.mkdir()
    with source.shown():
        before = (source.view / "gocryptfs.conf").read_bytes()
        source.root.rename(other / "moved")
        make_source(other).root.rename(source.root)
        assert (source.view / "gocryptfs.conf").read_bytes() == before
        words: List[Word] = [*VAULT, "passwd", "--scryptn", "10", "--passfile", source.passfile]
        new = source.root.parent / "new"
        new.write_text("new\n")
        output_of(*words, "--new-passfile", new, other / "moved")
        after = (other / "moved" / ".gocryptfs.reverse.conf").read_bytes()
        assert (source.view / "gocryptfs.conf").read_bytes() == after != before


def test_the_config_can_be_withheld(source: Source) -> None:
    """With a warning that says what it takes to restore."""
    with source.shown("withhold_config") as server:
        assert [path.name for path in source.view.iterdir()] == ["gocryptfs.diriv"]
        with raises_errno(errno.ENOENT):
            os.stat(str(source.view / "gocryptfs.conf"))
        assert "warning: gocryptfs.conf is withheld" in server.errors


def test_plain_names_do_not_hide_the_config(tmp_path: Path) -> None:
    """With plaintext names a file called gocryptfs.conf gives way to the config."""
    source = make_source(tmp_path, *FLAGS["plaintextnames"])
    (source.root / "gocryptfs.conf").write_text("not the config")
    with source.shown():
        [listed] = os.scandir(str(source.view))
        config = (source.root / ".gocryptfs.reverse.conf").read_bytes()
        assert (listed.name, listed.stat().st_size) == ("gocryptfs.conf", len(config))
        assert (source.view / "gocryptfs.conf").read_bytes() == config


def test_nothing_can_be_changed(source: Source) -> None:
    """EROFS, as on any read-only filesystem, and the source is as it was."""
    (source.root / "file").write_text("x")
    with source.shown():
        path = next(path for path in source.view.iterdir() if "." not in path.name)
        calls = [
            lambda: os.open(str(path), os.O_WRONLY),
            lambda: os.open(str(source.view / "new"), os.O_CREAT | os.O_WRONLY),
            lambda: os.unlink(str(path)),
            lambda: os.mkdir(str(source.view / "new")),
            lambda: os.rename(str(path), str(source.view / "new")),
            lambda: os.symlink("x", str(source.view / "new")),
            lambda: os.link(str(path), str(source.view / "new")),
            lambda: os.chmod(str(path), 0),
            lambda: os.utime(str(path)),
            lambda: os.truncate(str(path), 0),
            lambda: os.setxattr(str(path), "user.x", b""),
        ]
        for call in calls:
            with raises_errno(errno.EROFS):
                call()
    assert sorted(path.name for path in source.root.iterdir()) == [
        ".gocryptfs.reverse.conf",
        "file",
    ]


def test_names_that_are_not_of_the_view_are_not_found(source: Source) -> None:
    """Plain names, wrong base64, names of elsewhere, companions without a file."""
    (source.root / "file").write_text("x")
    (source.root / "directory").mkdir()
    (source.root / "directory" / ("n" * 200)).write_text("x")
    with source.shown():
        long = next(source.view.rglob("gocryptfs.longname.*"))
        short = next(
            path for path in source.view.iterdir() if path.is_file() and "." not in path.name
        )
        for path in (
            source.view / "file",
            source.view / ".gocryptfs.reverse.conf",
            source.view / (short.name + "A"),
            long.parent / short.name,
            source.view / long.name,
            source.view / (long.name + ".name"),
            long.parent / (long.name[:-1] + ("A" if long.name[-1] != "A" else "B")),
            source.view / "gocryptfs.longname.x",
            source.view / "gocryptfs.longname.x.name",
            long.parent / "gocryptfs.conf",
        ):
            with raises_errno(errno.ENOENT):
                os.lstat(str(path))


def test_new_files_show_within_the_caches_second(source: Source) -> None:
    """What is made, renamed and removed in the source, with long names too."""
    with source.shown("entry_timeout=0", "attr_timeout=0"):
        before = len(list(source.view.iterdir()))
        path = source.root / ("n" * 200)
        path.write_text("one")
        assert len(list(source.view.iterdir())) == before + 2
        long = next(one for one in source.view.iterdir() if one.name.endswith(".name"))
        shown = source.view / long.name[: -len(".name")]
        assert shown.stat().st_size == 18 + 3 + 32
        path.unlink()
        with raises_errno(errno.ENOENT):
            shown.stat()
        path.write_text("four")
        assert shown.stat().st_size == 18 + 4 + 32


def test_a_changed_file_is_read_anew(source: Source) -> None:
    """Cached pages are kept while size and mtime are the same, and dropped when they are not."""
    path = source.root / "file"
    path.write_bytes(b"a" * 10000)
    with source.shown("entry_timeout=0", "attr_timeout=0"):
        shown = next(one for one in source.view.iterdir() if "." not in one.name)
        first = shown.read_bytes()
        assert shown.read_bytes() == first
        path.write_bytes(b"b" * 10000)
        second = shown.read_bytes()
        assert second != first
        path.write_bytes(b"a" * 10000)
        assert shown.read_bytes() == first


def test_a_changed_file_whose_mtime_was_set_back_is_read_anew(source: Source) -> None:
    """And with the same size: its ctime tells."""
    path = source.root / "file"
    path.write_bytes(b"a" * 5000)
    os.utime(str(path), ns=(1, 10**18))
    with source.shown("attr_timeout=0"):
        shown = next(one for one in source.view.iterdir() if "." not in one.name)
        settle(source.root)
        first = shown.read_bytes()
        assert shown.read_bytes() == first
        with path.open("r+b") as file:
            file.write(b"b")
        os.utime(str(path), ns=(1, 10**18))
        assert shown.read_bytes() != first


def test_reading_does_not_touch_the_source(source: Source) -> None:
    """Not even its access times."""
    path = source.root / "file"
    path.write_bytes(b"x")
    os.utime(str(path), ns=(1, 10**18))
    with source.shown():
        assert contents(source.view)
    assert path.stat().st_atime_ns == 1


def test_a_log_that_grows_is_copied_as_it_was(source: Source) -> None:
    """What was opened keeps its size: the copy authenticates to its last byte. It is reported."""
    path = source.root / "log"
    path.write_bytes(b"line\n" * 10000)
    before = path.read_bytes()
    copy = source.root.parent / "copy"
    with source.shown("direct_io") as server:
        shown = next(one for one in source.view.iterdir() if "." not in one.name)
        with open(str(shown), "rb", 0) as file:
            data = file.read(20000)
            with open(str(path), "ab") as log:
                log.write(b"another line\n" * 5000)
            while True:
                more = file.read(7001)
                if not more:
                    break
                data += more
        assert f"{shown.name}' changed while it was read" in server.errors
        assert "log" not in server.errors.replace("fusepy_legacy", "")
        copy.mkdir()
        (copy / shown.name).write_bytes(data)
        for name in ("gocryptfs.conf", "gocryptfs.diriv"):
            shutil.copy2(str(source.view / name), str(copy / name))
    words = ["cat", "--passfile", source.passfile, copy / "log"]
    assert output_of(*VAULT, *words).encode() == before


def test_a_log_that_has_just_grown_is_copied_whole(source: Source) -> None:
    """Whoever opens it sees one size, and its blocks, though the kernel knows an older one."""
    path, copy = source.root / "log", source.root.parent / "copy"
    path.write_bytes(b"a" * 5000)
    with source.shown():
        copy.mkdir()
        for name in ("gocryptfs.conf", "gocryptfs.diriv"):
            shutil.copy2(str(source.view / name), str(copy / name))
        shown = next(one for one in source.view.iterdir() if "." not in one.name)
        for number in range(1, 4):
            shown.stat()
            with open(str(path), "ab") as log:
                log.write(b"b" * 3000)
            with open(str(shown), "rb") as file:
                with open(str(path), "ab") as log:
                    log.write(b"c" * 3000)
                size = os.fstat(file.fileno()).st_size
                data = file.read(size)
                assert (len(data), file.read()) == (size, b"")
            (copy / shown.name).write_bytes(data)
            words = ["cat", "--passfile", source.passfile, copy / "log"]
            assert output_of(*VAULT, *words).encode() == path.read_bytes()[: 2000 + 6000 * number]


def test_a_file_rewritten_while_it_is_read_never_mixes_within_a_block(source: Source) -> None:
    """Each block of the copy is one whole block that the file has had, or does not authenticate."""
    path = source.root / "file"
    blocks = 64
    path.write_bytes(b"a" * 4096 * blocks)
    copy = source.root.parent / "copy"
    with source.shown("attr_timeout=0") as server:
        shown = next(one for one in source.view.iterdir() if "." not in one.name)
        data = b""
        with open(str(shown), "rb", 0) as file, open(str(path), "r+b", 0) as writer:
            for number in range(1000):
                writer.seek(0)
                writer.write(b"ab"[number % 2 : number % 2 + 1] * 4096 * blocks)
                more = file.read(5000)
                if not more:
                    break
                data += more
        assert server.errors.count("changed while it was read") == 1
        copy.mkdir()
        (copy / shown.name).write_bytes(data)
        for name in ("gocryptfs.conf", "gocryptfs.diriv"):
            shutil.copy2(str(source.view / name), str(copy / name))
    output = source.root.parent / "restored"
    command = [*VAULT, "restore", "-q", "--passfile", source.passfile, copy, output]
    process = subprocess.run(list(map(str, command)), stderr=subprocess.PIPE)
    assert process.returncode in (0, 26)
    restored = (output / "file").read_bytes() if (output / "file").exists() else b""
    for number in range(0, len(restored), 4096):
        assert len(set(restored[number : number + 4096])) == 1, f"block {number // 4096} is mixed"


def children_of(server: Mounted) -> Set[int]:
    """Return the processes that a mount's process has started."""
    pid = server.process.pid
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as children:
        return set(map(int, children.read().split()))


def are_gone(pids: Set[int]) -> bool:
    """Tell whether none of the processes is left, zombies aside whose parent is not ours."""
    return not any(os.path.exists(f"/proc/{pid}/exe") for pid in pids)


def fill_with_large_files(source: Source) -> None:
    """Write files that are read in large pieces: of sizes at edges, and a sparse one."""
    for number, size in enumerate((131072, 1048575, 3145728, 5000001)):
        (source.root / f"file {number}").write_bytes(os.urandom(size))
    with open(str(source.root / "sparse"), "wb") as file:
        file.truncate(20000000)
        os.pwrite(file.fileno(), b"in the middle", 9999999)


def test_large_reads_are_served_by_processes(source: Source) -> None:
    """What they show is what the mount's own process shows, and they are there as long as it is."""
    fill_with_large_files(source)
    with source.shown("readers=0") as server:
        alone = contents(source.view)
        assert not children_of(server)
    with source.shown("readers=3") as server:
        assert contents(source.view) == alone
        pids = children_of(server)
        assert len(pids) == 3
    assert are_gone(pids)


def test_a_reading_process_that_is_killed(source: Source) -> None:
    """The other ones go on, and in the end the mount's own process."""
    fill_with_large_files(source)
    with source.shown("readers=2", "direct_io") as server:
        whole = contents(source.view)
        for pid in sorted(children_of(server)):
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda pid=pid: are_gone({pid}), "the end of a process")
            assert contents(source.view) == whole
        assert server.errors.count("a reading process has died") == 2


def test_a_reading_process_that_is_killed_at_work(source: Source) -> None:
    """Nobody notices but the log: what it had in hand is read by the mount's process."""
    (source.root / "file").write_bytes(os.urandom(100 << 20))
    with source.shown("readers=2", "direct_io") as server:
        shown = next(one for one in source.view.iterdir() if "." not in one.name)
        whole = shown.read_bytes()
        with open(str(shown), "rb", 0) as file:
            data = file.read(1 << 20)
            for pid in children_of(server):
                data += file.read(10 << 20)
                killer = threading.Timer(0.005, os.kill, (pid, signal.SIGKILL))
                killer.start()
                data += file.read(30 << 20)
                killer.join()
            data += file.read()
        assert data == whole
        assert server.errors.count("a reading process has died") == 2


def test_no_reading_process_outlives_the_mount_s(source: Source) -> None:
    """A daemon that is killed leaves a dead mount, as any other, and nobody waiting."""
    fill_with_large_files(source)
    with source.shown("readers=2") as server:
        assert contents(source.view)
        pids = children_of(server)
        assert len(pids) == 2
        server.process.kill()
        wait_until(lambda: are_gone(pids), "the end of the reading processes")
        assert error_of_listing(source.view) in (errno.ECONNABORTED, errno.ENOTCONN)


def error_of_listing(directory: Path) -> int:
    """Return the errno of listing a directory, 0 for success; who waited for a reply gets another."""
    try:
        os.listdir(str(directory))
    except OSError as error:
        return error.errno or 0
    return 0


def test_in_the_background_no_process_keeps_the_terminal(source: Source) -> None:
    """Whoever reads what the command prints sees the end of it."""
    words = [word for word in source.command("readers=2") if word != "-f"]
    assert output_of(*words) == ""  # which waits for the end of a pipe
    try:
        assert os.listdir(str(source.view))
    finally:
        output_of("umount", source.view)


def test_a_large_file_that_changes_is_reported(source: Source) -> None:
    """By whichever process reads it, and not with each piece."""
    path = source.root / "file"
    path.write_bytes(os.urandom(16 << 20))
    with source.shown("readers=2", "direct_io") as server:
        shown = next(one for one in source.view.iterdir() if "." not in one.name)
        with open(str(shown), "rb", 0) as file:
            file.read(1 << 20)
            with open(str(path), "ab") as log:
                log.write(b"more")
            while file.read(1 << 20):
                pass
        assert 1 <= server.errors.count("changed while it was read") <= 3


def test_deep_paths(source: Source) -> None:
    """Longer than PATH_MAX, which each program reaches step by step."""
    depth = 60
    here = os.open(str(source.root), os.O_RDONLY)
    for number in range(depth):
        name = f"{number} " + "d" * 100
        os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)
    with source.shown():
        names = []
        for _, _, files, here in os.fwalk(str(source.view)):
            for name in files:
                status = os.stat(name, dir_fd=here)
                assert status.st_size == (0 if "." not in name else 16) or name == "gocryptfs.conf"
                names.append(name)
    assert len(names) == depth + 3


def test_a_target_too_long_to_encrypt_is_reported(source: Source) -> None:
    """3039 bytes fit; beyond, the link cannot be read, and the log says which."""
    os.symlink("t" * 3039, str(source.root / "fits"))
    os.symlink("t" * 3040, str(source.root / "does not"))
    with source.shown() as server:
        links = [path for path in source.view.iterdir() if path.is_symlink()]
        [fits] = [link for link in links if link.lstat().st_size <= 4095]
        [other] = [link for link in links if link != fits]
        assert len(os.readlink(str(fits))) == fits.lstat().st_size == 4095
        with raises_errno(errno.ENAMETOOLONG):
            os.readlink(str(other))
        assert other.name in server.errors
        assert fits.name not in server.errors


def test_nothing_secret_is_logged(source: Source) -> None:
    """Not in the debug log either: no plain name, no content, no password."""
    (source.root / "plain name").write_text("plain content")
    (source.root / ("plain name " * 20)).mkdir()
    os.symlink("plain target", str(source.root / "plain link"))
    with source.shown("debug") as server:
        contents(source.view)
        for path in all_below(source.view):
            os.listxattr(str(path), follow_symlinks=False)
            if path.is_symlink():
                os.readlink(str(path))
        with raises_errno(errno.ENOENT):
            os.stat(str(source.view / "gocryptfs.longname.x"))
        assert "READ" in server.errors
        assert "plain" not in server.errors
        assert PASSWORD.decode() not in server.errors
        process = Path(f"/proc/{server.pid}")
        assert PASSWORD not in (process / "cmdline").read_bytes()
        assert PASSWORD not in (process / "environ").read_bytes()


def test_keys_stay_in_the_process(source: Source) -> None:
    """No core file, no debugger but root's, and no swap for whom may lock memory."""
    with source.shown() as server:
        process = Path(f"/proc/{server.pid}")
        core = next(
            line for line in (process / "limits").read_text().splitlines() if "core file" in line
        )
        assert core.split()[-3:] == ["0", "0", "bytes"]
        if os.geteuid() == 0:
            os.listdir(str(source.view))  # served, so fsinit is done
            text = (process / "status").read_text()
            locked = next(line for line in text.splitlines() if line.startswith("VmLck:"))
            assert int(locked.split()[1]) > 1000
