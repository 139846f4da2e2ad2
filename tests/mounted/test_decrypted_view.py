"""The decrypted view on real mounts: with gocryptfs in turn, killed, read-only, damaged."""

import errno
import mmap
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from fusepy_legacy.crypt.content import BLOCK_SIZE
from fusepy_legacy.errors import EXIT_MOUNTPOINT, EXIT_USAGE
from tests.errnos import raises_errno
from tests.mounted.commands import output_of, run
from tests.mounted.encrypted_trees import KINDS, EncryptedTree, make_encrypted
from tests.mounted.encrypted_views import CRYPT, ENVIRONMENT, make_source
from tests.mounted.gocryptfs import SIZES, assert_equal, fill
from tests.mounted.mounting import tmpfs, unmount
from tests.mounted.test_programs import ETERNITY, make_tree, snapshot
from tests.mounted.trees import all_below

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="allow_other needs root")
needs_gocryptfs = pytest.mark.skipif(
    shutil.which("gocryptfs") is None, reason="gocryptfs is missing"
)


@pytest.fixture
def tree(tmp_path: Path) -> EncryptedTree:
    """An empty encrypted tree."""
    return make_encrypted(tmp_path)


# With gocryptfs in turn


def make_old(directory: Path) -> None:
    """Change the times of what is no file: rsync leaves alone what it makes in the second of the source."""
    for path in reversed(all_below(directory)):
        if not stat.S_ISREG(path.lstat().st_mode):
            os.utime(str(path), (1, 1), follow_symlinks=False)


def fill_less(directory: Path) -> None:
    """Make a small tree with the names and sizes that matter."""
    make_tree(directory)
    for length in (15, 16, 31, 32, 47, 48, 175, 176, 255):
        (directory / ("n" * length)).mkdir()
        (directory / ("n" * length) / ("m" * length)).write_bytes(os.urandom(length))
    for size in SIZES:
        (directory / f"{size} bytes").write_bytes(os.urandom(size))


def change(directory: Path, seed: int) -> None:
    """Change a tree in every way there is, the same for the same seed and the same tree."""
    choose = random.Random(seed)
    regular = (path for path in all_below(directory) if stat.S_ISREG(path.lstat().st_mode))
    files = sorted(path for path in regular if path.lstat().st_size)
    for path in choose.sample(files, min(40, len(files) // 2)):
        with path.open("r+b") as file:
            size = path.stat().st_size
            file.seek(choose.randrange(size + 5000))
            file.write(b"%d " % seed * choose.randrange(1, 2000))
            file.flush()
            if choose.random() < 0.5:
                os.ftruncate(file.fileno(), choose.choice((0, 1, size // 2, 4096, size + 9000)))
    for path in choose.sample(files, min(20, len(files) // 3)):
        path.rename(path.with_name(f"{seed} " + "r" * choose.randrange(1, 240)))
    for number in range(10):
        made = directory / (f"made {seed} {number} " + "m" * choose.choice((1, 150, 220)))
        made.mkdir()
        (made / ("f" * choose.choice((1, 175, 176, 255)))).write_bytes(b"x" * number * 1000)
        (made / "link").symlink_to("t" * (1 + number * 300))
        if number % 3 == 0:
            shutil.rmtree(str(made))
    empty, full = directory / f"empty {seed}", directory / f"full {seed}"
    empty.mkdir()
    full.mkdir()
    (full / "file").write_bytes(b"over an empty directory")
    full.rename(empty)


@needs_gocryptfs
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_in_turn_with_gocryptfs(tmp_path: Path, kind: str) -> None:
    """What we write, gocryptfs reads, and the other way round, again and again on one tree."""
    if kind == "xchacha":
        pytest.importorskip("nacl")
    tree = make_encrypted(tmp_path, KINDS[kind])
    plain, mount, peer = tmp_path / "plain", tmp_path / "mount", tmp_path / "peer"
    plain.mkdir()
    if kind in ("gcm", "plaintextnames"):
        fill(plain)
        (plain / "sizes" / "sparse").unlink()
    else:
        fill_less(plain)
    make_old(plain)
    with tree.shown(mount):
        output_of("rsync", "-aHAXS", "--numeric-ids", f"{plain}/", f"{mount}/")
        assert_equal(plain, mount)
    tree.check()
    with tree.shown_by_gocryptfs(peer):
        assert_equal(plain, peer)
    for seed in range(2):
        change(plain, seed)
        with tree.shown_by_gocryptfs(peer) if seed % 2 else tree.shown(mount):
            change(peer if seed % 2 else mount, seed)
        with tree.shown(mount) if seed % 2 else tree.shown_by_gocryptfs(peer):
            other = mount if seed % 2 else peer
            assert snapshot(other, ETERNITY) == snapshot(plain, ETERNITY)
    tree.check()


@needs_gocryptfs
def test_a_tree_made_by_reverse_mode(tmp_path: Path) -> None:
    """What gocryptfs -reverse shows can be copied, shown plain, and changed."""
    source = make_source(tmp_path)
    fill(source.root, extras=False)
    make_old(source.root)
    tree = EncryptedTree(tmp_path / "copy", source.passfile)
    command = ["gocryptfs", "-q", "-reverse", "-passfile", source.passfile]
    output_of(*command, source.root, source.view)
    try:
        # Not cp: gocryptfs 2.3 says that the encrypted form of a hole is one.
        output_of("rsync", "-aHAX", f"{source.view}/", tree.root)
    finally:
        unmount(source.view)
    (source.root / ".gocryptfs.reverse.conf").unlink()
    with tree.shown(tmp_path / "mount"):
        assert_equal(source.root, tmp_path / "mount")
        change(tmp_path / "mount", 1)
    change(source.root, 1)
    with tree.shown_by_gocryptfs(tmp_path / "peer"):
        assert snapshot(tmp_path / "peer", ETERNITY) == snapshot(source.root, ETERNITY)


def test_the_way_there_and_back(tmp_path: Path) -> None:
    """A decrypted view over an encrypted view is the source."""
    source = make_source(tmp_path)
    fill(source.root)
    tree = EncryptedTree(source.view, source.passfile)
    with source.shown("allow_other"), tree.shown(tmp_path / "mount", "ro"):
        config = (source.root / ".gocryptfs.reverse.conf").read_bytes()
        assert (source.view / "gocryptfs.conf").read_bytes() == config
        shown = tmp_path / "mount"
        assert not (shown / ".gocryptfs.reverse.conf").exists()
        assert sorted(os.listdir(str(shown / "names"))) == sorted(
            os.listdir(str(source.root / "names"))
        )
        hidden = tmp_path / "config"
        (source.root / ".gocryptfs.reverse.conf").rename(hidden)
        try:
            assert_equal(source.root, shown)
        finally:
            hidden.rename(source.root / ".gocryptfs.reverse.conf")


@needs_gocryptfs
def test_xchacha_is_refused_in_one_line(tmp_path: Path) -> None:
    """A tree whose cipher no installed library has is not mounted."""
    missing = tmp_path / "missing"
    missing.mkdir()
    (missing / "nacl.py").write_text("raise ImportError\n")
    tree = EncryptedTree(tmp_path / "encrypted", tmp_path / "password")
    tree.root.mkdir()
    tree.passfile.write_text("sample\n")
    command = ["gocryptfs", "-q", "-init", "-xchacha", "-scryptn", "10"]
    output_of(*command, "-passfile", tree.passfile, tree.root)
    mount = tmp_path / "mount"
    mount.mkdir()
    options = f"forward,root={tree.root},passfile={tree.passfile}"
    environment = dict(ENVIRONMENT, PYTHONPATH=str(missing))
    outcome = run([*CRYPT, mount, "-o", options], environment=environment)
    assert outcome.code == EXIT_USAGE
    assert "pip install PyNaCl" in outcome.errors
    assert outcome.errors.count("\n") == 1


def test_a_mount_point_in_the_tree_is_refused(tree: EncryptedTree) -> None:
    """No plain name leads there."""
    mount = tree.root / "mount"
    mount.mkdir()
    options = f"forward,root={tree.root},passfile={tree.passfile}"
    outcome = run([*CRYPT, mount, "-o", options], environment=ENVIRONMENT)
    assert outcome.code == EXIT_MOUNTPOINT
    assert outcome.errors == "fusepy-crypt: the mount point is in the encrypted directory\n"


# Reading only


def test_read_only(tree: EncryptedTree, tmp_path: Path) -> None:
    """With -o ro all can be read and nothing changed, and nothing on the disk is."""
    mount = tmp_path / "mount"
    with tree.shown(mount):
        (mount / "directory").mkdir()
        (mount / "directory" / ("n" * 200)).write_bytes(b"content")
    before = snapshot(tree.root, 1)
    with tree.shown(mount, "ro"):
        assert (mount / "directory" / ("n" * 200)).read_bytes() == b"content"
        for call in (
            lambda: (mount / "file").write_bytes(b"x"),
            lambda: os.truncate(str(mount / "directory" / ("n" * 200)), 0),
            lambda: (mount / "other").mkdir(),
            lambda: (mount / "directory").rename(mount / "other"),
        ):
            with pytest.raises(OSError, match="Read-only file system"):
                call()
    assert snapshot(tree.root, 1) == before


# Damage


def test_one_damaged_block_costs_one_block(tree: EncryptedTree, tmp_path: Path) -> None:
    """EIO for what is in it, all else is read; the log says which inode and block, but no name."""
    mount = tmp_path / "mount"
    data = os.urandom(100 * BLOCK_SIZE)
    with tree.shown(mount):
        (mount / "secret name").write_bytes(data)
        number = (mount / "secret name").stat().st_ino
    (stored,) = (path for path in tree.root.iterdir() if path.stat().st_ino == number)
    with stored.open("r+b") as file:
        file.seek(18 + 50 * (BLOCK_SIZE + 32) + 1000)
        file.write(b"damage")
    with tree.shown(mount) as server, (mount / "secret name").open("rb", 0) as file:
        for block in range(100):
            if block == 50:
                with pytest.raises(OSError, match="Input/output error"):
                    os.pread(file.fileno(), BLOCK_SIZE, block * BLOCK_SIZE)
            else:
                piece = os.pread(file.fileno(), BLOCK_SIZE, block * BLOCK_SIZE)
                assert piece == data[block * BLOCK_SIZE : (block + 1) * BLOCK_SIZE]
        assert f"inode {number}: block 50: does not authenticate" in server.errors
    assert "secret name" not in server.errors


WRITER = """
import os, random, sys
path, report, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
choose = random.Random(seed)
descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
number = 0
while True:
    number += 1
    block = b"%08d" % number * 1024  # 8192 bytes, over two blocks and a part of a third
    offset = number * 9000
    os.pwrite(descriptor, block, offset)
    if number % 4 == 0:
        os.fsync(descriptor)
        os.write(report, b"%d\\n" % number)
"""


@pytest.mark.parametrize("seed", range(4))
def test_killed_in_the_middle_of_writing(tree: EncryptedTree, tmp_path: Path, seed: int) -> None:
    """After kill -9 all that was fsynced is whole, but at most for the block being written."""
    mount = tmp_path / "mount"
    reader, writer = os.pipe()
    with tree.shown(mount) as server:
        command = [sys.executable, "-c", WRITER, str(mount / "file"), str(writer), str(seed)]
        process = subprocess.Popen(command, pass_fds=[writer], stderr=subprocess.DEVNULL)
        try:
            os.close(writer)
            with os.fdopen(reader, "rb", 0) as reports:
                for _ in range(10 + 17 * seed):
                    synced = int(reports.readline())
                os.kill(server.pid, signal.SIGKILL)
                server.wait()
                unmount(mount)
                synced = max([synced, *map(int, reports.read().split())])
        finally:
            process.kill()
            process.wait()
    damages = tree.damages()
    # A block number in each line.
    blocks = [
        int(line.rpartition("block ")[2].split(":")[0]) for line in damages if "block" in line
    ]
    # The next record begins in the block that the last one has ended in, and that is written once more.
    assert len(blocks) <= 1
    assert all(block >= (synced + 1) * 9000 // BLOCK_SIZE for block in blocks)
    whole = blocks[0] * BLOCK_SIZE if blocks else sys.maxsize
    with tree.shown(mount), (mount / "file").open("rb", 0) as file:
        for number in range(1, synced + 1):
            record = b"%08d" % number * 1024
            length = min(len(record), whole - number * 9000)
            assert os.pread(file.fileno(), length, number * 9000) == record[:length]
        size = (mount / "file").stat().st_size
    last = (synced + 4) * 9000 + 8192
    assert size <= last
    assert [line for line in damages if "block" not in line and "damaged" not in line] == []


# Other filesystems in the tree


def test_what_is_on_another_filesystem(tree: EncryptedTree, tmp_path: Path) -> None:
    """It is shown plain too, with inode numbers that no other file has."""
    mount, copy = tmp_path / "mount", tmp_path / "copy"
    with tree.shown(mount):
        (mount / "below" / "directory").mkdir(parents=True)
        (mount / "below" / "file").write_bytes(b"content")
        (mount / "below" / "link").symlink_to("target")
    (stored,) = (path for path in tree.root.iterdir() if path.is_dir())
    shutil.copytree(str(stored), str(copy), symlinks=True)
    with tmpfs(stored, "size=1m"):
        output_of("cp", "-a", f"{copy}/.", stored)
        with tree.shown(mount):
            sizes = {"file": 7, "link": 6}
            with os.scandir(str(mount / "below")) as entries:
                for entry in entries:
                    status = os.lstat(entry.path)
                    assert entry.inode() == status.st_ino
                    assert status.st_size == sizes.get(entry.name, status.st_size)
            numbers = [path.lstat().st_ino for path in mount.rglob("*")]
            assert len(set(numbers)) == len(numbers) == 4
            (mount / "below" / "file").rename(mount / "below" / "renamed")
            assert (mount / "below" / "renamed").read_bytes() == b"content"
        with tree.shown(mount, "one_file_system"):
            assert os.listdir(str(mount / "below")) == []
            with raises_errno(errno.ENOENT):
                (mount / "below" / "renamed").read_bytes()
            with raises_errno(errno.EROFS):
                (mount / "below" / "made").mkdir()


def test_another_filesystem_that_is_not_encrypted(tree: EncryptedTree, tmp_path: Path) -> None:
    """Nothing in it has a plain name: EIO, or an empty directory with one_file_system."""
    mount = tmp_path / "mount"
    with tree.shown(mount):
        (mount / "below").mkdir()
    (stored,) = (path for path in tree.root.iterdir() if path.is_dir())
    with tmpfs(stored, "size=1m"):
        (stored / "file").write_bytes(b"plain")
        with tree.shown(mount), raises_errno(errno.EIO):
            os.listdir(str(mount / "below"))
        with tree.shown(mount, "one_file_system"):
            assert os.listdir(str(mount / "below")) == []


# What the kernel does with its pages


def test_a_mapping_of_a_file_that_is_appended_to(tree: EncryptedTree, tmp_path: Path) -> None:
    """Pages changed through mmap go where they belong, though the descriptor has O_APPEND."""
    path = tmp_path / "mount" / "file"
    with tree.shown(tmp_path / "mount"):
        descriptor = os.open(str(path), os.O_RDWR | os.O_CREAT | os.O_APPEND)
        try:
            os.write(descriptor, b"a" * 10000)
            with mmap.mmap(descriptor, 10000) as mapping:
                mapping[5000:5003] = b"bbb"
                mapping.flush()
                os.write(descriptor, b"c")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        expected = b"a" * 5000 + b"bbb" + b"a" * 4997 + b"c"
        assert path.read_bytes() == expected
    with tree.shown(tmp_path / "mount"):
        assert path.read_bytes() == expected


def test_the_writeback_cache(tree: EncryptedTree, tmp_path: Path) -> None:
    """With -o writeback_cache appends and scattered writes still end up where they belong."""
    path = tmp_path / "mount" / "file"
    with tree.shown(tmp_path / "mount", "writeback_cache"):
        expected = bytearray()
        with path.open("ab", 0) as file:
            for number in range(500):
                file.write(b"%d" % number * 7)
                expected += b"%d" % number * 7
        descriptor = os.open(str(path), os.O_WRONLY)
        try:
            for number in range(0, len(expected) - 10, 777):
                os.pwrite(descriptor, b"x", number)
                expected[number : number + 1] = b"x"
        finally:
            os.close(descriptor)
        assert path.read_bytes() == bytes(expected)
    assert tree.damages() == []


def test_the_view_says_what_names_fit(tree: EncryptedTree, tmp_path: Path) -> None:
    """statvfs says 255 bytes, which is what fits; one more is too long."""
    mount = tmp_path / "mount"
    with tree.shown(mount):
        assert os.statvfs(str(mount)).f_namemax == 255
        (mount / ("n" * 255)).write_bytes(b"fits")
        with pytest.raises(OSError, match="File name too long"):
            (mount / ("n" * 256)).write_bytes(b"does not")
