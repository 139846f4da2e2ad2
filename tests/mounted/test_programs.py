"""Programs that people use work on the mirror, and what they did is the same on both sides."""

import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import pytest

from tests.mounted.commands import Word, output_of, run, wait_until
from tests.mounted.mounting import Mirror, Sides, passthrough
from tests.mounted.trees import (
    ETERNITY,
    NANOSECOND,
    SECOND,
    make_tree,
    room_of,
    snapshot,
    wait_for_links,
)

NO_MTIME_ALONE = "libfuse 2.9 has no UTIME_OMIT, so a time that tar sets alone is dropped"
NO_BINARY_XATTRS = "fuse-python 1.0.9 hands on extended attributes as UTF-8 text only"


# git


def git(directory: Path, *arguments: Word) -> str:
    """Run git in a directory, without any configuration of the user or the machine."""
    environment = {
        "HOME": str(directory),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_AUTHOR_NAME": "Author",
        "GIT_AUTHOR_EMAIL": "author@example.org",
        "GIT_COMMITTER_NAME": "Author",
        "GIT_COMMITTER_EMAIL": "author@example.org",
    }
    return output_of("git", *arguments, cwd=directory, environment=environment)


def commit_some(repository: Path, first: int, last: int) -> None:
    """Make commits that add, change and rename files."""
    for number in range(first, last):
        directory = repository / f"directory-{number % 3}"
        directory.mkdir(exist_ok=True)
        (directory / f"file-{number}").write_text("".join(f"{n}\n" for n in range(number * 100)))
        (repository / "changing").write_text(f"version {number}\n")
        git(repository, "add", "--all")
        git(repository, "commit", "--quiet", "-m", f"commit {number}")


def assert_healthy(repository: Path) -> None:
    """No object is missing or damaged, and nothing differs from the last commit."""
    git(repository, "fsck", "--full", "--strict")
    assert git(repository, "status", "--porcelain") == ""


def test_git_commits_merges_and_collects(mirror: Mirror) -> None:
    """A repository made on the mount: commits, branches, a merge, gc; healthy on both sides."""
    repository = mirror.mount / "repository"
    repository.mkdir()
    git(repository, "init", "--quiet")
    commit_some(repository, 0, 6)
    git(repository, "checkout", "--quiet", "-b", "topic", "HEAD~2")
    (repository / "topic").write_text("topic\n")
    git(repository, "add", "topic")
    git(repository, "mv", "directory-0/file-0", "moved")
    git(repository, "commit", "--quiet", "-m", "topic")
    git(repository, "checkout", "--quiet", "-")
    git(repository, "merge", "--quiet", "--no-edit", "topic")
    git(repository, "gc", "--quiet", "--aggressive", "--prune=now")
    assert_healthy(repository)
    below = mirror.backing / "repository"
    assert_healthy(below)
    assert git(below, "rev-list", "--count", "HEAD") == "8\n"
    assert git(below, "log", "--format=%H %s") == git(repository, "log", "--format=%H %s")
    assert (below / "moved").exists()
    assert len(list((below / ".git" / "objects" / "pack").glob("*.pack"))) == 1


@pytest.mark.parametrize("linked", [True, False], ids=["hard links", "copies"])
def test_git_clones(mirror: Mirror, tmp_path: Path, linked: bool) -> None:
    """A repository is cloned onto the mount, within it, with and without hard links, and off it."""
    source = tmp_path / "source"
    source.mkdir()
    git(source, "init", "--quiet")
    commit_some(source, 0, 5)
    head = git(source, "rev-parse", "HEAD")
    how = "--local" if linked else "--no-local"
    git(tmp_path, "clone", "--quiet", "--no-local", source, mirror.mount / "one")
    git(tmp_path, "clone", "--quiet", how, mirror.mount / "one", mirror.mount / "two")
    git(tmp_path, "clone", "--quiet", "--no-local", mirror.mount / "two", tmp_path / "three")
    commit_some(mirror.mount / "two", 5, 7)
    git(mirror.mount / "one", "pull", "--quiet", mirror.mount / "two")
    for clone in mirror.mount / "one", mirror.backing / "one", mirror.backing / "two":
        assert_healthy(clone)
        assert git(clone, "rev-parse", "HEAD~2") == head
    assert git(tmp_path / "three", "rev-parse", "HEAD") == head


# sqlite


@contextmanager
def database(path: Path, seconds: float = 20.0) -> Iterator[sqlite3.Connection]:
    """Open a database; a locked one is waited for so long."""
    with closing(sqlite3.connect(str(path), timeout=seconds, isolation_level=None)) as connection:
        yield connection


def rows_of(path: Path) -> List[Tuple[Any, ...]]:
    """Return the table's rows, after an integrity check."""
    with database(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return connection.execute("SELECT writer, number FROM entries ORDER BY 1, 2").fetchall()


INSERT = """
import sqlite3, sys
path, writer, count, mode = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
connection = sqlite3.connect(path, timeout=30, isolation_level=None)
connection.execute("PRAGMA synchronous = " + mode)
for number in range(count):
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT INTO entries VALUES (?, ?, zeroblob(2000))", (writer, number))
    connection.execute("COMMIT")
connection.close()
"""


def insert_with_processes(paths: Dict[str, Path], count: int) -> None:
    """Let processes insert rows at the same time, each through the path that it is given."""
    processes = []
    try:
        for writer, path in paths.items():
            command = [sys.executable, "-c", INSERT, str(path), writer, str(count), "NORMAL"]
            processes.append(subprocess.Popen(command))
        codes = [process.wait(timeout=40) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert codes == [0] * len(paths)


@pytest.mark.parametrize("journal", ["delete", "truncate", "persist", "wal"])
def test_sqlite_with_two_processes_on_the_mount(mirror: Mirror, journal: str) -> None:
    """Two writers at once lose nothing, a rollback takes back, and the backing file is the same database."""
    path = mirror.mount / "database"
    with database(path) as connection:
        (mode,) = connection.execute(f"PRAGMA journal_mode = {journal}").fetchone()
        assert mode == journal
        connection.execute("CREATE TABLE entries (writer, number, filling)")
        connection.execute("BEGIN")
        connection.execute("INSERT INTO entries VALUES ('none', 0, zeroblob(1000000))")
        connection.execute("ROLLBACK")
        insert_with_processes({"one": path, "two": path}, 30)
        count = "SELECT count(*) FROM entries"
        assert connection.execute(count).fetchone() == (60,)
    expected = [(writer, number) for writer in ("one", "two") for number in range(30)]
    assert rows_of(path) == expected
    assert rows_of(mirror.backing / "database") == expected


def test_sqlite_with_a_process_on_each_side(engine: str, sides: Sides) -> None:
    """Without caches in between, writers on the mount and on the backing side take turns and lose nothing."""
    options = ("direct_io", "attr_timeout=0", "entry_timeout=0")
    with passthrough(sides.backing, sides.mount, *options, engine=engine):
        with database(sides.backing / "database") as connection:
            connection.execute("CREATE TABLE entries (writer, number, filling)")
        paths = {"above": sides.mount / "database", "below": sides.backing / "database"}
        insert_with_processes(paths, 30)
        expected = [(writer, number) for writer in ("above", "below") for number in range(30)]
        for path in paths.values():
            assert rows_of(path) == expected


def test_sqlite_locks_out_the_other_side(mirror: Mirror) -> None:
    """A transaction on one side makes the database locked on the other, until it ends."""
    above, below = mirror.mount / "database", mirror.backing / "database"
    with database(below) as connection:
        connection.execute("CREATE TABLE entries (writer, number, filling)")
    for holder, other in (above, below), (below, above):
        with database(holder) as holding, database(other, 0.0) as waiting:
            holding.execute("BEGIN EXCLUSIVE")
            with pytest.raises(sqlite3.OperationalError, match="database is locked"):
                waiting.execute("BEGIN IMMEDIATE")
            holding.execute("ROLLBACK")
            waiting.execute("BEGIN IMMEDIATE")
            waiting.execute("ROLLBACK")


# rsync


def rsync(source: Path, target: Path) -> None:
    """Copy a tree with hard links, ACLs and extended attributes; a second look finds no difference."""
    command = ["rsync", "-aHAXS", "--numeric-ids", "--delete", f"{source}/", f"{target}/"]
    output_of(*command)
    assert output_of(*command, "--dry-run", "--itemize-changes", "--checksum") == ""


@pytest.mark.parametrize("attributes", ["text", "binary", "acl"])
def test_rsync_both_ways(
    mirror: Mirror, engine: str, tmp_path: Path, attributes: str, request: pytest.FixtureRequest
) -> None:
    """rsync -aHAX to the mount and back from it loses nothing, neither on the way nor on the backing side."""
    if engine == "stock" and attributes != "text":
        request.applymarker(pytest.mark.xfail(strict=True, reason=NO_BINARY_XATTRS))
    source, back = tmp_path / "source", tmp_path / "back"
    source.mkdir()
    back.mkdir()
    make_tree(source)
    names = ["user.comment"]
    if attributes == "binary":
        os.setxattr(str(source / "file"), "user.binary", b"\xff\x00\xfe")
        names.append("user.binary")
    if attributes == "acl":
        output_of("setfacl", "-m", "u:1234:rw,g:4321:r", source / "file")
        output_of("setfacl", "-d", "-m", "u:1234:rwx", source / "shared")
        names.append("system.posix_acl_access")
    os.utime(str(source / "owned"), ns=(1500000000123456789, 1500000000987654321))
    # The stock engine knows whole seconds, and nothing else differs there.
    unit = SECOND if engine == "stock" else NANOSECOND
    (mirror.mount / "tree").mkdir()
    rsync(source, mirror.mount / "tree")
    wait_for_links(mirror.mount / "tree")
    rsync(mirror.mount / "tree", back)
    for copy in mirror.mount / "tree", mirror.backing / "tree", back:
        assert snapshot(copy, unit) == snapshot(source, unit)
        for name in names:
            value = os.getxattr(str(source / "file"), name)
            assert os.getxattr(str(copy / "file"), name) == value
        if attributes == "acl":
            acl = output_of("getfacl", "--absolute-names", "-n", "-c", source / "shared")
            assert output_of("getfacl", "--absolute-names", "-n", "-c", copy / "shared") == acl
    assert room_of(mirror.backing / "tree" / "sparse") < 1 << 20


def test_rsync_in_place(mirror: Mirror, tmp_path: Path) -> None:
    """rsync --inplace and --append-verify change a file on the mount without making a new one."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_bytes(os.urandom(500000))
    (mirror.mount / "tree").mkdir()
    rsync(source, mirror.mount / "tree")
    number = (mirror.backing / "tree" / "file").stat().st_ino
    with (source / "file").open("r+b") as file:
        file.seek(200000)
        file.write(b"changed in the middle")
        file.seek(0, os.SEEK_END)
        file.write(b"and at the end")
    output_of("rsync", "-a", "--inplace", "--no-whole-file", f"{source}/", mirror.mount / "tree")
    with (source / "file").open("ab") as file:
        file.write(b"once more")
    output_of("rsync", "-a", "--append-verify", f"{source}/", mirror.mount / "tree")
    assert (mirror.backing / "tree" / "file").read_bytes() == (source / "file").read_bytes()
    assert (mirror.backing / "tree" / "file").stat().st_ino == number


# tar, cp, mv, find, du, dd


@pytest.mark.parametrize("times", [False, True], ids=["contents", "times"])
def test_tar_creates_and_extracts(
    mirror: Mirror, engine: str, tmp_path: Path, times: bool, request: pytest.FixtureRequest
) -> None:
    """A tree archived and extracted on the mount is the same tree, with its links, holes and times."""
    if engine == "stock" and times:
        request.applymarker(pytest.mark.xfail(strict=True, reason=NO_MTIME_ALONE))
    unit = SECOND if times else ETERNITY
    tree = mirror.mount / "tree"
    tree.mkdir()
    make_tree(tree)
    wait_for_links(tree)
    archive = mirror.mount / "archive.tar"
    command = ["tar", "--sparse", "--xattrs", "--numeric-owner", "-C", mirror.mount]
    output_of(*command, "-cf", archive, "tree")
    assert archive.stat().st_size < 2 << 20  # the hole is not in it
    output_of("tar", "-C", mirror.mount, "--compare", "-f", archive)
    (mirror.mount / "copy").mkdir()
    output_of(*command, "-xpf", archive, "-C", mirror.mount / "copy")
    expected = snapshot(mirror.backing / "tree", unit)
    assert len(expected) == 16
    for side in mirror.mount, mirror.backing:
        copy = side / "copy" / "tree"
        assert snapshot(copy, unit) == expected
        assert os.getxattr(str(copy / "file"), "user.comment") == "voilà".encode()
        assert room_of(copy / "sparse") < 1 << 20
    # The archive of the backing side's tree gives the same, too.
    output_of(*command, "-C", mirror.backing, "-cf", tmp_path / "below.tar", "tree")
    (mirror.mount / "other").mkdir()
    output_of(*command, "-xpf", tmp_path / "below.tar", "-C", mirror.mount / "other")
    assert snapshot(mirror.backing / "other" / "tree", unit) == expected


def test_cp_archive(mirror: Mirror, tmp_path: Path) -> None:
    """cp -a copies a tree onto the mount, within it and off it, with all that it has."""
    source = tmp_path / "source"
    source.mkdir()
    make_tree(source)
    output_of("cp", "-a", source, mirror.mount / "one")
    wait_for_links(mirror.mount / "one")
    output_of("cp", "-a", mirror.mount / "one", mirror.mount / "two")
    wait_for_links(mirror.mount / "two")
    output_of("cp", "-a", mirror.mount / "two", tmp_path / "three")
    expected = snapshot(source)
    copies = [mirror.mount / "one", mirror.backing / "one", mirror.backing / "two"]
    for copy in [*copies, tmp_path / "three"]:
        assert snapshot(copy) == expected
        assert os.getxattr(str(copy / "file"), "user.comment") == "voilà".encode()
    output_of("diff", "--recursive", "--no-dereference", "-x", "fifo", source, mirror.mount / "two")


def test_cp_sparse(mirror: Mirror, tmp_path: Path) -> None:
    """cp --sparse=always leaves holes for zeros, and the copy reads the same."""
    full = tmp_path / "full"
    full.write_bytes(b"start" + bytes(8 << 20) + b"middle" + bytes(8 << 20) + b"end")
    output_of("cp", "--sparse=always", full, mirror.mount / "sparse")
    output_of("cmp", full, mirror.mount / "sparse")
    output_of("cmp", full, mirror.backing / "sparse")
    assert room_of(mirror.backing / "sparse") < 1 << 20
    assert room_of(mirror.mount / "sparse") == room_of(mirror.backing / "sparse")
    output_of("cp", "--sparse=never", mirror.mount / "sparse", mirror.mount / "full")
    output_of("cmp", full, mirror.backing / "full")
    assert room_of(mirror.backing / "full") > 16 << 20


def test_mv_into_within_and_out_of_the_mount(mirror: Mirror, tmp_path: Path) -> None:
    """mv copies across the border, renames within it, and leaves nothing where it came from."""
    source = tmp_path / "source"
    source.mkdir()
    make_tree(source)
    expected = snapshot(source)
    output_of("mv", source, mirror.mount / "one")
    wait_for_links(mirror.mount / "one")
    assert not source.exists()
    assert snapshot(mirror.backing / "one") == expected
    number = (mirror.backing / "one").stat().st_ino
    (mirror.mount / "directory").mkdir()
    output_of("mv", mirror.mount / "one", mirror.mount / "directory" / "two")
    assert (mirror.backing / "directory" / "two").stat().st_ino == number
    assert snapshot(mirror.mount / "directory" / "two") == expected
    output_of("mv", mirror.mount / "directory" / "two", tmp_path / "three")
    assert snapshot(tmp_path / "three") == expected
    assert os.listdir(str(mirror.backing / "directory")) == []


@pytest.mark.parametrize(
    "tests",
    ["", "-type f -size +4k", "-links +1", "-perm -2000", "-user 1234", "-empty", "-mtime +100"],
    ids=lambda tests: tests or "everything",
)
def test_find(mirror: Mirror, tests: str) -> None:
    """find finds the same on both sides, with the same numbers."""
    make_tree(mirror.backing)
    links = mirror.backing.stat().st_nlink
    wait_until(lambda: mirror.mount.stat().st_nlink == links, "what others may have looked at", 3)
    shown = ["-printf", r"%P %y %m %U:%G %n %s %i %Ts\n"]
    found = [
        sorted(output_of("find", ".", *tests.split(), *shown, cwd=side).splitlines())
        for side in (mirror.mount, mirror.backing)
    ]
    assert found[0] == found[1]
    assert found[0] != []


def test_du(mirror: Mirror) -> None:
    """du counts the same sizes and the same blocks on both sides, hard links once."""
    make_tree(mirror.mount)
    wait_for_links(mirror.mount)
    for options in ["--apparent-size", "-b"], ["--block-size=1"], ["--inodes"]:
        counted = [
            output_of("du", "--all", *options, ".", cwd=side)
            for side in (mirror.mount, mirror.backing)
        ]
        assert sorted(counted[0].splitlines()) == sorted(counted[1].splitlines())


def test_dd_appends(mirror: Mirror) -> None:
    """Two dd with oflag=append write one file at the same time, and no block is lost or torn."""
    processes = []
    try:
        for letter in "ab":
            script = (
                f"yes {letter * 127} | head -c 262144 | dd bs=4096 iflag=fullblock oflag=append"
            )
            command = f"{script} conv=notrunc status=none of=file"
            processes.append(subprocess.Popen(["sh", "-c", command], cwd=str(mirror.mount)))
        assert [process.wait(timeout=30) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    for side in mirror.mount, mirror.backing:
        data = (side / "file").read_bytes()
        blocks = [data[start : start + 4096] for start in range(0, len(data), 4096)]
        line = {letter: letter.encode() * 127 + b"\n" for letter in "ab"}
        assert sorted(blocks) == [line["a"] * 32] * 64 + [line["b"] * 32] * 64


def test_dd_changes_a_part(mirror: Mirror) -> None:
    """dd with seek and conv=notrunc changes a part of a file, with conv=fsync and with O_DIRECT too."""
    before = os.urandom(1 << 20)
    part = os.urandom(1 << 16)
    (mirror.backing / "part").write_bytes(part)
    for flags in (
        ["conv=notrunc,fsync"],
        ["conv=notrunc", "oflag=direct"],
        ["conv=notrunc", "oflag=dsync"],
    ):
        (mirror.backing / "file").write_bytes(before)
        command = ["dd", f"if={mirror.mount}/part", f"of={mirror.mount}/file", "bs=16k", "seek=20"]
        output_of(*command, *flags)
        start = 20 << 14
        expected = before[:start] + part + before[start + len(part) :]
        assert (mirror.backing / "file").read_bytes() == expected
        assert (mirror.mount / "file").read_bytes() == expected


# Builds


@pytest.mark.parametrize("how", ["--symlinks", "--copies"])
def test_a_virtual_environment(mirror: Mirror, how: str) -> None:
    """python -m venv makes one on the mount, its Python runs from there, and writes its bytecode there."""
    place = mirror.mount / "venv"
    output_of(sys.executable, "-m", "venv", "--without-pip", how, place)
    python = place / "bin" / "python"
    (packages,) = (place / "lib").glob("python*/site-packages")
    (packages / "module.py").write_text("answer = 42\n")
    script = "import module, sys; print(module.answer, sys.prefix)"
    for _ in range(2):
        answer = output_of(python, "-c", script, environment={"PYTHONDONTWRITEBYTECODE": ""})
        assert answer == f"42 {place}\n"
    below = mirror.backing / packages.relative_to(mirror.mount)
    assert len(list(below.glob("__pycache__/module.*.pyc"))) == 1


MAKEFILE = """\
CFLAGS = -Wall -Werror -O1
program: main.o one.o two.o
\t$(CC) -o $@ $^
main.o one.o two.o: header.h
test: program
\t./program > result
clean:
\trm -f program *.o result
.PHONY: test clean
"""

SOURCES = {
    "Makefile": MAKEFILE,
    "header.h": "int one(void);\nint two(void);\n",
    "one.c": '#include "header.h"\nint one(void) { return 1; }\n',
    "two.c": '#include "header.h"\nint two(void) { return 2; }\n',
    "main.c": '#include <stdio.h>\n#include "header.h"\n'
    'int main(void) { return printf("%d\\n", one() + two()) != 2; }\n',
}


def test_a_build_with_make(mirror: Mirror) -> None:
    """make -j2 compiles, links and runs on the mount, makes again only what changed, and cleans up."""
    for name, text in SOURCES.items():
        (mirror.mount / name).write_text(text)
    output_of("make", "-j2", "test", cwd=mirror.mount)
    assert (mirror.backing / "result").read_text() == "3\n"
    assert output_of(mirror.backing / "program") == "3\n"
    assert run(["make", "-q", "program"], cwd=mirror.mount).code == 0

    # The stock engine's times are whole seconds, so the steps have to be further apart.
    now = time.time()
    for pattern, age in ("*.[ch]", 30), ("*.o", 20), ("program", 10):
        for path in mirror.mount.glob(pattern):
            os.utime(str(path), (now - age, now - age))
    (mirror.mount / "two.c").write_text(SOURCES["two.c"].replace("2", "5"))
    assert "one.c" not in output_of("make", "-j2", "test", cwd=mirror.mount)
    assert (mirror.backing / "result").read_text() == "6\n"

    output_of("make", "clean", cwd=mirror.mount)
    assert sorted(os.listdir(str(mirror.backing))) == sorted(SOURCES)
