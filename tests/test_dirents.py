"""fusepy_legacy.dirents: a directory in pieces, with offsets to come back to."""

import errno
import gc
import os
import random
import socket
import stat
from pathlib import Path
from typing import Any, Iterator, List, Set

import pytest

from fusepy_legacy import dirents, syscalls
from fusepy_legacy.dirents import DirectoryStream, Dirent
from tests.errnos import raises_errno

COUNT = 5000


def fill(directory: Path, count: int = COUNT) -> Set[str]:
    """Create empty files and return their names."""
    names = {f"file-{number:06d}" for number in range(count)}
    for name in names:
        os.close(os.open(str(directory / name), os.O_CREAT | os.O_WRONLY, 0o600))
    return names


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with 5,000 files, which no test changes."""
    directory = tmp_path_factory.mktemp("large")
    fill(directory)
    return directory


@pytest.fixture
def descriptor(large: Path) -> Iterator[int]:
    """The large directory, opened."""
    opened = os.open(str(large), os.O_RDONLY | os.O_DIRECTORY)
    yield opened
    os.close(opened)


@pytest.fixture
def changing(tmp_path: Path) -> Iterator[int]:
    """A directory of the test's own, opened."""
    opened = os.open(str(tmp_path), os.O_RDONLY | os.O_DIRECTORY)
    yield opened
    os.close(opened)


def names_of(entries: List[Dirent]) -> List[str]:
    """Return the names without "." and "..", sorted."""
    return sorted(entry.name for entry in entries if entry.name not in (".", ".."))


def test_every_entry_comes_once(large: Path, descriptor: int) -> None:
    """All 5,000 files are listed once, and so are "." and ".."."""
    names = [entry.name for entry in DirectoryStream(descriptor).entries(0)]
    assert len(names) == COUNT + 2
    assert set(names) == set(os.listdir(str(large))) | {".", ".."}


def test_an_empty_directory_has_itself_and_its_parent(changing: int) -> None:
    """Both come with their inode numbers, and nothing else does."""
    entries = {entry.name: entry for entry in DirectoryStream(changing).entries(0)}
    assert set(entries) == {".", ".."}
    assert entries["."].ino == os.fstat(changing).st_ino
    assert entries[".."].ino == os.stat("..", dir_fd=changing).st_ino
    assert stat.S_ISDIR(entries["."].type)


def test_entries_say_inode_and_type(tmp_path: Path, changing: int) -> None:
    """Each kind of file has its own number and its S_IF type, symlinks their own."""
    (tmp_path / "file").touch()
    (tmp_path / "directory").mkdir()
    (tmp_path / "symlink").symlink_to("file")
    os.mkfifo(str(tmp_path / "fifo"))
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "socket"))
    entries = {entry.name: entry for entry in DirectoryStream(changing).entries(0)}
    for name in ("file", "directory", "symlink", "fifo", "socket"):
        status = (tmp_path / name).lstat()
        assert entries[name].ino == status.st_ino
        assert entries[name].type == stat.S_IFMT(status.st_mode)


def test_names_of_any_bytes_and_of_full_length_come_whole(tmp_path: Path, changing: int) -> None:
    """Names that are no UTF-8, of 255 bytes, with newlines and spaces: as os.listdir has them."""
    names = {b"\xff\xfe", b"x" * 255, "\u00e9".encode() * 127, b" \n\t", b"y", b"...", b"-"}
    for name in names:
        os.close(os.open(name, os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=changing))
    listed = names_of(list(DirectoryStream(changing).entries(0)))
    assert set(map(os.fsencode, listed)) == names
    assert listed == sorted(os.listdir(str(tmp_path)))


@pytest.mark.parametrize("anew", [True, False], ids=["another stream", "the same stream"])
def test_any_offset_resumes_behind_its_entry(descriptor: int, anew: bool) -> None:
    """An entry's offset gives the entry that follows it, also out of order and long after."""
    stream = DirectoryStream(descriptor)
    entries = list(stream.entries(0))
    places = list(range(0, len(entries) - 1, 13)) + [len(entries) - 2]
    random.Random(0).shuffle(places)
    for place in places:
        if anew:
            stream = DirectoryStream(descriptor)
        assert next(stream.entries(entries[place].offset)) == entries[place + 1]


def test_batches_are_the_entries_many_at_a_time(descriptor: int) -> None:
    """From any offset on, after other reads as well."""
    stream = DirectoryStream(descriptor)
    entries = list(stream.entries(0))
    for at in (0, COUNT - 3, 1, 1700, COUNT // 2):
        batches = list(stream.batches(entries[at].offset))
        assert [entry for batch in batches for entry in batch] == entries[at + 1 :]
        assert all(batches)
    assert next(stream.batches(0))[0] == entries[0]
    assert list(stream.batches(entries[-1].offset)) == []


def test_the_last_offset_resumes_at_the_end(descriptor: int) -> None:
    """Behind the last entry there is nothing, however often one asks."""
    stream = DirectoryStream(descriptor)
    last = list(stream.entries(0))[-1]
    for _ in range(3):
        assert list(stream.entries(last.offset)) == []


def test_zero_starts_again(tmp_path: Path, changing: int) -> None:
    """Offset 0 is rewinddir(3): it shows what has come and gone since."""
    stream = DirectoryStream(changing)
    (tmp_path / "old").touch()
    assert names_of(list(stream.entries(0))) == ["old"]
    (tmp_path / "old").unlink()
    (tmp_path / "new").touch()
    assert names_of(list(stream.entries(0))) == ["new"]
    next(stream.entries(0))
    (tmp_path / "newer").touch()
    assert names_of(list(stream.entries(0))) == ["new", "newer"]


def requests(
    stream: DirectoryStream, room: int, takes_one_more: bool = True
) -> Iterator[List[Dirent]]:
    """Read as the kernel does: `room` entries in a request, the next from the last one's offset.

    When a reply buffer is full, the entry that found no room has been taken from the stream; an engine
    that counts entries takes no more than it has room for.
    """
    offset = 0
    while True:
        taken: List[Dirent] = []
        for entry in stream.entries(offset):
            if len(taken) == room:
                break
            taken.append(entry)
            if len(taken) == room and not takes_one_more:
                break
        if not taken:
            return
        yield taken
        offset = taken[-1].offset


@pytest.mark.parametrize("room", [1, 2, 7, 100, 1364, 4999, 5002, 6000])
def test_requests_of_any_size_give_the_whole_directory(descriptor: int, room: int) -> None:
    """However the entries are divided into requests, they are the same ones in the same order."""
    whole = list(DirectoryStream(descriptor).entries(0))
    assert [
        entry for part in requests(DirectoryStream(descriptor), room) for entry in part
    ] == whole


@pytest.mark.parametrize("takes_one_more", [True, False])
def test_going_on_asks_the_system_for_nothing_twice(
    descriptor: int, monkeypatch: pytest.MonkeyPatch, takes_one_more: bool
) -> None:
    """A listing in many requests costs the same getdents calls as one in a single request."""
    calls = []
    getdents64 = syscalls.getdents64
    monkeypatch.setattr(
        syscalls, "getdents64", lambda *arguments: calls.append(1) or getdents64(*arguments)
    )
    list(DirectoryStream(descriptor).entries(0))
    at_once = len(calls)
    calls.clear()
    for _ in requests(DirectoryStream(descriptor), 1, takes_one_more):
        pass
    assert at_once > 3, "the directory takes several calls"
    assert len(calls) <= at_once + 1


def test_a_listing_holds_one_batch_only(descriptor: int) -> None:
    """At no entry are more Dirents alive than one getdents buffer of 32 KiB holds."""
    stream = DirectoryStream(descriptor)
    alive = []
    for number, _ in enumerate(stream.entries(0)):
        if number % 250 == 0:
            alive.append(sum(type(thing) is Dirent for thing in gc.get_objects()))
    assert len(alive) > 20
    assert max(alive) <= 32768 // 24  # the shortest record


@pytest.mark.parametrize("room", [1, 50, 3000])
def test_deleting_what_was_listed_loses_nothing(tmp_path: Path, changing: int, room: int) -> None:
    """rm -r: every file listed is deleted at once, and all are listed, each once."""
    names = fill(tmp_path, 3000)
    listed: List[str] = []
    for part in requests(DirectoryStream(changing), room):
        for name in names_of(part):
            listed.append(name)
            os.unlink(name, dir_fd=changing)
    assert sorted(listed) == sorted(names)
    assert os.listdir(str(tmp_path)) == []


def test_deleting_what_is_to_come_leaves_the_rest(tmp_path: Path, changing: int) -> None:
    """While others delete files, those that stay are listed once, and none twice."""
    names = fill(tmp_path, 3000)
    stay = {name for name in names if int(name[-6:]) % 3 == 0}
    doomed = sorted(names - stay)
    random.Random(0).shuffle(doomed)
    listed: List[str] = []
    for part in requests(DirectoryStream(changing), 20):
        listed += names_of(part)
        for name in doomed[:30]:
            os.unlink(name, dir_fd=changing)
        del doomed[:30]
    assert len(listed) == len(set(listed))
    assert stay <= set(listed) <= names


def test_an_offset_outlives_its_entry(tmp_path: Path, changing: int) -> None:
    """After the entry is deleted, its offset still means the place behind it."""
    fill(tmp_path, 100)
    entries = list(DirectoryStream(changing).entries(0))
    for entry, following in zip(entries, entries[1:]):
        if entry.name not in (".", ".."):
            os.unlink(entry.name, dir_fd=changing)
        assert next(DirectoryStream(changing).entries(entry.offset)) == following


def test_the_descriptor_is_only_borrowed(changing: int) -> None:
    """A stream that is gone leaves the descriptor open."""
    list(DirectoryStream(changing).entries(0))
    gc.collect()
    assert stat.S_ISDIR(os.fstat(changing).st_mode)


def test_errors_are_the_systems(tmp_path: Path) -> None:
    """No directory is ENOTDIR, a directory that was removed ENOENT (getdents(2))."""
    (tmp_path / "file").touch()
    file = os.open(str(tmp_path / "file"), os.O_RDONLY)
    (tmp_path / "removed").mkdir()
    removed = os.open(str(tmp_path / "removed"), os.O_RDONLY)
    (tmp_path / "removed").rmdir()
    try:
        with raises_errno(errno.ENOTDIR):
            next(DirectoryStream(file).entries(0))
        with raises_errno(errno.ENOENT):
            next(DirectoryStream(removed).entries(0))
    finally:
        os.close(file)
        os.close(removed)


def test_after_an_error_nothing_comes_twice(
    descriptor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asks again goes on where it was, also in the middle of a directory."""
    getdents64 = syscalls.getdents64
    failures = [False, True, False, True]

    def sometimes(*arguments: Any) -> int:
        if failures and failures.pop(0):
            raise OSError(errno.EIO, "")
        return getdents64(*arguments)

    monkeypatch.setattr(syscalls, "getdents64", sometimes)
    monkeypatch.setattr(dirents, "_BUFFER_SIZE", 4096)
    stream = DirectoryStream(descriptor)
    entries: List[Dirent] = []
    errors = 0
    while True:
        try:
            for batch in stream.batches(entries[-1].offset if entries else 0):
                entries += batch
            break
        except OSError:
            errors += 1
    assert errors == 2
    assert len(entries) == len(set(entries)) == COUNT + 2
