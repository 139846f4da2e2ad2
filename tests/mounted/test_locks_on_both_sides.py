"""Locks between programs on the mirror and programs on the directory below, in real use."""

import ctypes
import fcntl
import os
import shutil
import sqlite3
import subprocess
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Callable, Sequence

import pytest

from tests.mounted.conformance.descriptors import opened
from tests.mounted.conformance.expectations import eventually
from tests.mounted.conformance.processes import Bell, Child
from tests.mounted.mounting import Sides, passthrough

TRANSACTIONS = 100  # of each process
PAGE = 4096
IN_CLOSE_WRITE = 0x8  # sys/inotify.h


def writer(database: Path, name: str) -> Callable[[], int]:
    """Return a function that counts in a database, and adds a row for each time; it returns how often."""

    def write() -> int:
        for number in range(TRANSACTIONS):
            # Now and then a new connection, which finds the journal that others are about to remove.
            if number % 10 == 0:
                connection = sqlite3.connect(str(database), timeout=20, isolation_level=None)
                connection.execute("PRAGMA synchronous=OFF")
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO entries VALUES (?, ?, ?)", (name, number, "x" * 500))
            connection.execute("UPDATE counter SET value = value + 1")
            connection.execute("COMMIT")
            if number % 10 == 9:
                connection.close()
        return TRANSACTIONS

    return write


@pytest.mark.parametrize(
    ("journal", "options", "sides_used"),
    [
        ("delete", (), "both"),
        ("wal", (), "both"),
        ("delete", ("no_kernel_io",), "both"),
        ("wal", ("no_kernel_io",), "mount"),
        ("delete", ("no_kernel_io", "workers=1"), "both"),
    ],
)
def test_a_database_stays_whole(
    sides: Sides, journal: str, options: Sequence[str], sides_used: str
) -> None:
    """Of sqlite, which relies on record locks, on what the last writer wrote, and in WAL mode on mmap."""
    database = sides.backing / "database"
    with closing(sqlite3.connect(str(database))) as connection:
        assert connection.execute(f"PRAGMA journal_mode={journal}").fetchone() == (journal,)
        connection.execute("CREATE TABLE entries (name, number, text)")
        connection.execute("CREATE TABLE counter (value)")
        connection.execute("INSERT INTO counter VALUES (0)")
        connection.commit()
    places = [sides.mount, sides.backing if sides_used == "both" else sides.mount] * 2
    with passthrough(sides.backing, sides.mount, *options):
        if journal == "wal" and not options:
            require_kernel_io(sides)
        with ExitStack() as stack:
            children = [
                stack.enter_context(Child(writer(place / "database", str(number))))
                for number, place in enumerate(places)
            ]
            written = sum(child.result() for child in children)
    with closing(sqlite3.connect(str(database))) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT count(*) FROM entries").fetchone() == (written,)
        assert connection.execute("SELECT value FROM counter").fetchone() == (written,)


@pytest.mark.parametrize("switches", [["-s"], []], ids=["alone", "threads"])
def test_who_holds_a_lock_never_reads_what_was_before(
    sides: Sides, switches: Sequence[str]
) -> None:
    """However many others ask for attributes, by which the kernel tells whether its pages are old."""
    (sides.backing / "file").write_bytes(bytes(PAGE * 10))
    end = time.time() + 2

    def rewrite() -> int:
        number = 0
        with opened(str(sides.backing / "file"), os.O_RDWR) as descriptor:
            while time.time() < end:
                number += 1
                fcntl.lockf(descriptor, fcntl.LOCK_EX)
                for page in range(10):
                    os.pwrite(descriptor, b"%10d" % number, page * PAGE)
                fcntl.lockf(descriptor, fcntl.LOCK_UN)
        return number

    def compare() -> int:
        """Return how often the two sides were equal."""
        number = 0
        with opened(str(sides.mount / "file"), os.O_RDWR) as locked:
            with opened(str(sides.backing / "file"), os.O_RDONLY) as below:
                while time.time() < end:
                    fcntl.lockf(locked, fcntl.LOCK_SH)
                    for page in range(10):
                        assert os.pread(locked, 10, page * PAGE) == os.pread(below, 10, page * PAGE)
                    fcntl.lockf(locked, fcntl.LOCK_UN)
                    number += 1
        return number

    def ask() -> int:
        while time.time() < end:
            os.stat(str(sides.mount / "file"))
        return 1

    with passthrough(sides.backing, sides.mount, "no_kernel_io", switches=switches):
        with ExitStack() as stack:
            functions = [rewrite, compare, compare, ask, ask, ask]
            children = [stack.enter_context(Child(function)) for function in functions]
            assert all(child.result() for child in children)


def test_a_mapping_that_would_not_be_shared_is_refused(sides: Sides) -> None:
    """With direct_io, sqlite says so instead of losing what the other side has written in WAL mode."""
    database = sides.backing / "database"
    with closing(sqlite3.connect(str(database))) as connection:
        connection.execute("PRAGMA journal_mode=wal")
        connection.execute("CREATE TABLE entries (name)")
        with passthrough(sides.backing, sides.mount, "no_kernel_io", "direct_io"):
            with closing(sqlite3.connect(str(sides.mount / "database"))) as mounted:
                with pytest.raises(sqlite3.OperationalError, match="disk I/O error"):
                    mounted.execute("SELECT * FROM entries")


def require_kernel_io(sides: Sides) -> None:
    """Skip unless a shared mapping on the mount is one of the backing file: Linux 6.9 and root."""
    release = tuple(int(number) for number in os.uname().release.split(".")[:2])
    if release < (6, 9) or os.geteuid() != 0:
        pytest.skip("needs kernel I/O")


@pytest.mark.parametrize("kind", ["record", "flock"])
@pytest.mark.parametrize("switches", [["-s"], []], ids=["alone", "threads"])
def test_who_waits_for_a_lock_does_not_stop_who_holds_it(
    sides: Sides, kind: str, switches: Sequence[str]
) -> None:
    """Also when the server has one thread: the holder works on, unlocks, and the waiter goes on."""
    take = fcntl.lockf if kind == "record" else fcntl.flock
    (sides.backing / "file").write_bytes(b"too early")

    def wait() -> bytes:
        descriptor = os.open(str(sides.mount / "file"), os.O_RDWR)
        bell.ring()
        take(descriptor, fcntl.LOCK_EX)
        content = os.pread(descriptor, 100, 0)
        take(descriptor, fcntl.LOCK_UN)
        return content

    with passthrough(sides.backing, sides.mount, switches=switches):
        with Bell() as bell, ExitStack() as stack:
            with open(str(sides.mount / "file"), "r+b", buffering=0) as file:
                take(file, fcntl.LOCK_EX)
                children = [stack.enter_context(Child(wait)) for _ in range(3)]
                for _ in children:
                    bell.wait()
                assert all(eventually(child.is_asleep) for child in children)
                children.pop().kill()
                (sides.mount / "other").write_bytes(b"served")
                file.write(b"in time!!")
                take(file, fcntl.LOCK_UN)
            for child in children:
                assert child.result() == b"in time!!"


def test_who_only_reads_and_locks_does_not_write_the_file(sides: Sides) -> None:
    """A program below the mirror still runs, and nobody who watches it hears that it was written."""
    program = Path(shutil.copy("/bin/true", str(sides.backing)))
    libc = ctypes.CDLL(None)
    with passthrough(sides.backing, sides.mount, "no_kernel_io"):
        watching = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        with open(watching, "rb", buffering=0) as events:
            assert libc.inotify_add_watch(watching, os.fsencode(str(program)), IN_CLOSE_WRITE) >= 0
            with (sides.mount / "true").open("rb") as file:
                fcntl.lockf(file, fcntl.LOCK_SH)
                subprocess.check_call([str(program)])
                fcntl.lockf(file, fcntl.LOCK_UN)
            assert events.read(4096) is None
