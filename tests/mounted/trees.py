"""A tree with one of everything, and what tells one tree from another."""

import hashlib
import os
import stat
from pathlib import Path
from typing import Any, Dict, List, Tuple

from tests.mounted.commands import wait_until

# Units to compare times in, in nanoseconds.
SECOND = 10**9
NANOSECOND = 1
ETERNITY = 10**20


def all_below(directory: Path) -> List[Path]:
    """Return the paths of everything below a directory, sorted.

    Before Python 3.11, Path.rglob follows a symlink to see whether it leads to a directory, and fails when
    its target is too long.
    """
    walked = os.walk(str(directory))
    return sorted(Path(top, name) for top, below, files in walked for name in (*below, *files))


def snapshot(directory: Path, time_unit: int = SECOND) -> Dict[str, Tuple[Any, ...]]:
    """Return all that tells one tree from another: kinds, modes, owners, times, contents, names of a file.

    Times are compared in units of so many nanoseconds.
    """
    first_names: Dict[int, str] = {}
    found = {}
    for path in all_below(directory):
        name = str(path.relative_to(directory))
        status = path.lstat()
        content = ""
        if stat.S_ISLNK(status.st_mode):
            content = os.readlink(str(path))
        elif stat.S_ISREG(status.st_mode):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        found[name] = (
            oct(status.st_mode),
            status.st_uid,
            status.st_gid,
            status.st_mtime_ns // time_unit,
            first_names.setdefault(status.st_ino, name),
            content,
        )
    return found


def make_tree(directory: Path) -> None:
    """Make one of everything that a tree can hold: links, holes, owners, a fifo, odd names."""
    (directory / "nested" / "deeper").mkdir(parents=True)
    (directory / "empty").mkdir(mode=0o700)
    (directory / "file").write_bytes(b"data\n" * 1000)
    (directory / "nested" / "other").write_bytes(os.urandom(300000))
    (directory / "nested" / "nothing").touch(mode=0o600)
    (directory / "script").write_text("#!/bin/sh\necho ran\n")
    (directory / "script").chmod(0o755)
    (directory / "owned").write_text("not root's")
    os.chown(str(directory / "owned"), 1234, 4321)
    (directory / "shared").mkdir()
    (directory / "shared").chmod(0o2770)
    os.link(str(directory / "file"), str(directory / "nested" / "same file"))
    (directory / "link").symlink_to("nested/other")
    (directory / "dangling").symlink_to("/no/where")
    os.mkfifo(str(directory / "fifo"))
    (directory / "nom français \u65e5\u672c").write_text("utf-8")
    (directory / os.fsdecode(b"no utf-8 \xff\xfe")).write_text("bytes")
    with (directory / "sparse").open("wb") as file:
        file.seek(8 << 20)
        file.write(b"end")
    os.setxattr(str(directory / "file"), "user.comment", "voilà".encode())
    os.utime(str(directory / "file"), (1000000000, 1000000000))
    for path in reversed(all_below(directory)):
        os.utime(str(path), (1500000000, 1500000000), follow_symlinks=False)


def wait_for_links(tree: Path) -> None:
    """Wait until both names of the linked file say that there are two of them.

    To the stock engine they are two inodes, and attributes may be a second old.
    """
    for name in "file", "nested/same file":
        wait_until(lambda name=name: (tree / name).stat().st_nlink == 2, "the number of links", 3)


def room_of(path: Path) -> int:
    """Return how many bytes a file takes on the disk: st_blocks of stat(2)."""
    return path.stat().st_blocks * 512
