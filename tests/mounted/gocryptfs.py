"""gocryptfs as a peer: its mounts, a directory with everything in it, and whether two trees are equal."""

import contextlib
import os
import socket
import stat
import subprocess
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Tuple

from tests.mounted.commands import output_of, wait_until
from tests.mounted.mounting import is_mounted, unmount

SIZES = [0, 1, 4095, 4096, 4097, 8192, (1 << 20) + 1]
PASSWORD = "a password"
IS_ROOT = os.geteuid() == 0


class Sides(NamedTuple):
    """An encrypted tree, where gocryptfs shows it plain, where we restore it, and its password."""

    encrypted: Path
    view: Path
    plain: Path
    passfile: Path


def init(sides: Sides, *options: str, directory: str = "encrypted") -> None:
    command = ["gocryptfs", "-q", "-nosyslog", "-init", "-scryptn", "10", *options]
    output_of(*command, "-passfile", sides.passfile, getattr(sides, directory))


@contextlib.contextmanager
def mounted(sides: Sides, *options: str, source: "Path | None" = None) -> Iterator[None]:
    """Let gocryptfs show the tree plain, or with -reverse and another source a plain one encrypted."""
    command = ["gocryptfs", "-q", "-nosyslog", "-fg", "-suid", "-dev", *options]
    point = sides.view if source is None else sides.encrypted
    words = [*command, "-passfile", sides.passfile, source or sides.encrypted, point]
    server = subprocess.Popen([str(word) for word in words], start_new_session=True)
    try:
        wait_until(lambda: is_mounted(point) or server.poll() is not None, "the mount of gocryptfs")
        assert server.poll() is None
        yield
    finally:
        unmount(point)
        try:
            server.wait(timeout=20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def make_sides(directory: Path) -> Sides:
    """Make empty directories, and a password."""
    made = Sides(*(directory / name for name in Sides._fields))
    for side in made[:3]:
        side.mkdir()
    made.passfile.write_text(PASSWORD)
    return made


def fill(directory: Path, extras: bool = True) -> None:
    """Make files of every type, with every length of a name, and of the sizes that matter."""
    names = directory / "names"
    names.mkdir()
    for length in range(1, 256):
        (names / ("n" * length)).write_bytes(bytes([length]))
    odd = os.fsencode(str(directory / "odd"))
    os.mkdir(odd)
    for name in (
        b"\xff\xfe",
        b" ",
        b"-",
        b"a\nb",
        "ä".encode(),
        b"*?[",
        b"\x01",
        b"gocryptfs.diriv",
    ):
        with open(odd + b"/" + name, "xb") as file:
            file.write(name)
    sizes = directory / "sizes"
    sizes.mkdir()
    for size in SIZES:
        (sizes / str(size)).write_bytes(os.urandom(size))
    with open(str(sizes / "sparse"), "wb") as file:
        file.truncate(50 << 20)
        for position in (5 << 20, (20 << 20) + 7, (50 << 20) - 3):
            file.seek(position)
            file.write(b"not a hole"[:3])
    types = directory / "types"
    types.mkdir()
    (types / "file").write_text("file")
    (types / "link").symlink_to("file")
    (types / "broken").symlink_to("../\u00fc" + "x" * 2000)
    os.link(str(types / "file"), str(types / "hard"))
    os.link(str(types / "file"), str(names / "hard"))
    os.mkfifo(str(types / "fifo"))
    with socket.socket(socket.AF_UNIX) as server:
        here = os.open(str(types), os.O_RDONLY)
        try:
            server.bind(f"/proc/self/fd/{here}/socket")  # sun_path is short
        finally:
            os.close(here)
    if IS_ROOT:
        os.mknod(str(types / "null"), stat.S_IFCHR | 0o600, os.makedev(1, 3))
        os.mknod(str(types / "disk"), stat.S_IFBLK | 0o600, os.makedev(7, 9))
    attributes = directory / "attributes"
    attributes.mkdir()
    for number, mode in enumerate((0o4755, 0o2711, 0o444, 0, 0o1777, 0o620)):
        path = attributes / str(number)
        path.mkdir() if number == 4 else path.write_text("x")
        if extras:
            os.setxattr(str(path), "user.number", b"%d\0\xff" % number)
            os.setxattr(str(path), "user.empty", b"")
        if IS_ROOT:
            os.chown(str(path), 1000 + number, 2000)
        path.chmod(mode)
        os.utime(str(path), ns=(10**18 + number, 10**18 - number))
    deep = directory
    for number in range(20):
        deep = deep / ("deep " * (1 + 2 * number))
        deep.mkdir()
        (deep / "file").write_text(str(number))
        if len(str(deep)) > 1000:
            break
    for path in (sizes, types, names):
        os.utime(str(path), ns=(5, 10**18))


def described(root: Path) -> Dict[bytes, Tuple[object, ...]]:
    """Return all that a user can see of each object below a directory, but for the data of files.

    Hard links are the set of names that an object has.
    """
    found: Dict[bytes, Tuple[object, ...]] = {}
    names: Dict[int, List[bytes]] = {}
    top = os.fsencode(str(root))
    ahead = [top]
    while ahead:
        path = ahead.pop()
        status = os.lstat(path)
        relative = os.path.relpath(path, top)
        kind = stat.S_IFMT(status.st_mode)
        size = 0 if kind == stat.S_IFDIR else status.st_size
        target = os.readlink(path) if kind == stat.S_IFLNK else b""
        attributes = {}
        if kind in (stat.S_IFREG, stat.S_IFDIR):
            attributes = {name: os.getxattr(path, name) for name in os.listxattr(path)}
        links = names.setdefault(status.st_ino, [])
        links.append(relative)
        found[relative] = (
            status.st_mode,
            status.st_uid,
            status.st_gid,
            size,
            status.st_mtime_ns,
            status.st_rdev if kind in (stat.S_IFCHR, stat.S_IFBLK) else 0,
            target,
            attributes,
            links if kind != stat.S_IFDIR else [],
        )
        if kind == stat.S_IFDIR:
            ahead += sorted(os.path.join(path, name) for name in os.listdir(path))
    return found


def assert_equal(one: Path, other: Path) -> None:
    """Compare two trees byte by byte and attribute by attribute."""
    first, second = described(one), described(other)
    first.pop(b"."), second.pop(b".")
    assert sorted(first) == sorted(second)
    for path in first:
        assert first[path] == second[path], path
        if stat.S_ISREG(int(str(first[path][0]))):
            left, right = (os.path.join(os.fsencode(str(root)), path) for root in (one, other))
            with open(left, "rb") as a, open(right, "rb") as b:
                while True:
                    data = a.read(1 << 20)
                    assert data == b.read(1 << 20), path
                    if not data:
                        break
