"""The content of an encrypted file behaves as a plain file does, whatever is done to it."""

import errno
import os
import resource
import signal
import tempfile
import threading
from contextlib import closing, suppress
from pathlib import Path
from typing import Callable, Iterator, List

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from fusepy_legacy.crypt.content import (
    AES_GCM,
    AES_SIV,
    BLOCK_SIZE,
    HEADER_SIZE,
    Algorithm,
    ContentCipher,
)
from fusepy_legacy.crypt.errors import AuthenticationFailed, InvalidHeader, OutOfRange
from fusepy_legacy.reading import read_fully
from fusepy_legacy.views.content_file import (
    FALLOC_PUNCH_HOLE,
    FALLOC_ZERO_RANGE,
    ContentFile,
    Inodes,
)
from tests.children import in_child
from tests.errnos import raises_errno

# How many steps the comparison with a plain file takes; each of two ciphers takes nearly half of them.
STEPS = int(os.environ.get("FUSEPY_LEGACY_STEPS", "1500"))

EDGES = [0, 1, 17, 4095, 4096, 4097, 8191, 8192, 8193, 12288, 40960, 131072]


class Opened:
    """An encrypted file on the disk, open for reading and writing."""

    def __init__(self, path: Path, algorithm: Algorithm = AES_GCM) -> None:
        self.path = path
        self.cipher = ContentCipher(algorithm, bytes(range(algorithm.key_length)))
        self.inodes = Inodes()
        self.descriptor = os.open(str(path), os.O_RDWR | os.O_CREAT, 0o600)
        self.content = ContentFile(self.cipher, self.descriptor, self.inodes)

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.descriptor)

    def plaintext(self) -> bytes:
        """Return all of it, as whoever opens it anew reads it."""
        size = self.cipher.plaintext_size(os.fstat(self.descriptor).st_size)
        return ContentFile(self.cipher, self.descriptor, Inodes()).read(size + 1, 0)

    @property
    def encrypted(self) -> bytes:
        """What is on the disk."""
        return self.path.read_bytes()


@pytest.fixture(params=[AES_GCM, AES_SIV], ids=lambda algorithm: algorithm.name)
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opened]:
    """A new file, for each cipher."""
    with closing(Opened(tmp_path / "file", request.param)) as opened:
        yield opened


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Opened]:
    """A new file."""
    with closing(Opened(tmp_path / "file")) as opened:
        yield opened


# Like a plain file


class LikeAPlainFile(RuleBasedStateMachine):
    """Does the same to an encrypted file and to a plain one, through two opens of each in turn."""

    algorithm = AES_GCM

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.file = Opened(Path(self.directory.name) / "encrypted", self.algorithm)
        self.other = ContentFile(self.file.cipher, self.file.descriptor, self.file.inodes)
        self.plain = os.open(f"{self.directory.name}/plain", os.O_RDWR | os.O_CREAT, 0o600)
        self.generator = 0

    def teardown(self) -> None:
        """Close what is open."""
        os.close(self.plain)
        self.file.close()
        self.directory.cleanup()

    offsets = st.sampled_from(EDGES) | st.integers(0, 200000)
    lengths = st.sampled_from(EDGES) | st.integers(0, 70000)

    def data(self, length: int) -> bytes:
        """Return bytes that are different each time."""
        self.generator += 1
        return (b"%07d " % self.generator * (length // 8 + 1))[:length]

    @rule(offset=offsets, length=lengths, second=st.booleans())
    def write(self, offset: int, length: int, second: bool) -> None:
        """Write somewhere: inside, across the end, or behind it."""
        data = self.data(length)
        content = self.other if second else self.file.content
        assert content.write(data, offset) == length
        os.pwrite(self.plain, data, offset)

    @rule(length=lengths)
    def append(self, length: int) -> None:
        """Write at the end."""
        data = self.data(length)
        assert self.file.content.append(data) == length
        os.pwrite(self.plain, data, os.fstat(self.plain).st_size)

    @rule(size=offsets)
    def truncate(self, size: int) -> None:
        """Cut, or extend with zeros."""
        self.file.content.truncate(size)
        os.ftruncate(self.plain, size)

    @rule(offset=offsets, length=lengths.filter(bool), keep=st.booleans())
    def zero(self, offset: int, length: int, keep: bool) -> None:
        """Punch a hole, or zero a range that may reach behind the end."""
        end = os.fstat(self.plain).st_size
        self.file.content.zero(offset, length, FALLOC_PUNCH_HOLE | 1 if keep else FALLOC_ZERO_RANGE)
        if not keep and offset + length > end:
            os.ftruncate(self.plain, offset + length)
        os.pwrite(self.plain, bytes(max(0, min(length, end - offset))), offset)

    @rule(offset=offsets, length=lengths.filter(bool), keep=st.booleans())
    def allocate(self, offset: int, length: int, keep: bool) -> None:
        """Reserve room, which extends the file or not."""
        end = os.fstat(self.plain).st_size
        self.file.content.allocate(offset, length, keep)
        if not keep and offset + length > end:
            os.ftruncate(self.plain, offset + length)

    @rule(offset=offsets, length=lengths, second=st.booleans())
    def read(self, offset: int, length: int, second: bool) -> None:
        """Read somewhere, also behind the end."""
        content = self.other if second else self.file.content
        assert content.read(length, offset) == os.pread(self.plain, length, offset)

    @rule(offset=offsets)
    def seek(self, offset: int) -> None:
        """What is not data is zero, and what is said to be data begins at or after the offset."""
        size = os.fstat(self.plain).st_size
        with suppress(OSError):
            data = self.file.content.seek(offset, os.SEEK_DATA)
            assert offset <= data < size
            hole = self.file.content.seek(data, os.SEEK_HOLE)
            assert data < hole <= size
            size = data
        if offset < size:
            assert not any(os.pread(self.plain, size - offset, offset))

    @invariant()
    def same(self) -> None:
        """Size and content are the same, and the format is kept: no header for nothing."""
        size = os.fstat(self.plain).st_size
        encrypted = os.fstat(self.file.descriptor).st_size
        assert self.file.cipher.encrypted_size(size) == encrypted
        assert self.file.plaintext() == os.pread(self.plain, size, 0)


class LikeAPlainFileWithSIV(LikeAPlainFile):
    """The same with the other cipher."""

    algorithm = AES_SIV


@pytest.mark.parametrize("machine", [LikeAPlainFile, LikeAPlainFileWithSIV])
def test_it_is_like_a_plain_file(machine: "type[LikeAPlainFile]") -> None:
    """Random writes, appends, truncations, holes and reads give what they give on a plain file."""
    each = 50
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=max(1, STEPS // each // 2),
            stateful_step_count=each,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )


@pytest.mark.parametrize("size", EDGES)
def test_sizes_at_the_edges_of_blocks(opened: Opened, size: int) -> None:
    """A file of any size has a header and whole blocks but for the last, and an empty one nothing."""
    data = os.urandom(size)
    opened.content.write(data, 0)
    assert opened.plaintext() == data
    assert len(opened.encrypted) == opened.cipher.encrypted_size(size)


@pytest.mark.parametrize("old", EDGES[:9])
@pytest.mark.parametrize("new", EDGES[:9])
def test_truncation_between_any_two_edges(opened: Opened, old: int, new: int) -> None:
    """What is cut is gone, and what is added is zeros, also where there were bytes once."""
    data = os.urandom(old)
    opened.content.write(data, 0)
    opened.content.truncate(new)
    assert opened.plaintext() == data[:new].ljust(new, b"\0")
    opened.content.truncate(20000)
    assert opened.plaintext() == data[:new].ljust(20000, b"\0")


def test_an_empty_file_loses_its_header(opened: Opened) -> None:
    """Cut to nothing, the file is empty on the disk, and then gets another ID."""
    opened.content.write(b"first", 0)
    header = opened.encrypted[:HEADER_SIZE]
    opened.content.truncate(0)
    assert opened.encrypted == b""
    opened.content.write(b"second", 0)
    assert opened.encrypted[:HEADER_SIZE] != header
    assert opened.plaintext() == b"second"


@pytest.mark.parametrize("length", [1, 17, 18])
def test_a_bare_header_is_an_empty_file(opened: Opened, length: int) -> None:
    """What someone who died left of a new file is nothing, and is replaced."""
    opened.content.write(b"first", 0)
    os.ftruncate(opened.descriptor, length)
    assert opened.plaintext() == b""
    opened.content.write(b"second", 5000)
    assert opened.plaintext() == bytes(5000) + b"second"


def test_whole_blocks_are_written_without_being_read(opened: Opened) -> None:
    """Damage in a block that is replaced does not matter; where a part of it stays, it does."""
    opened.content.write(os.urandom(3 * BLOCK_SIZE), 0)
    os.pwrite(opened.descriptor, b"damage", opened.cipher.block_offset(1) + 100)
    with pytest.raises(AuthenticationFailed):
        opened.content.write(b"part", BLOCK_SIZE + 1)
    opened.content.write(b"n" * BLOCK_SIZE, BLOCK_SIZE)
    assert opened.content.read(BLOCK_SIZE, BLOCK_SIZE) == b"n" * BLOCK_SIZE


def test_a_gap_is_a_hole_on_the_disk(opened: Opened) -> None:
    """A gigabyte that nobody wrote takes no room."""
    opened.content.write(b"begin", 0)
    opened.content.write(b"end", 1 << 30)
    assert os.fstat(opened.descriptor).st_blocks * 512 < 1 << 20
    assert opened.content.read(10000, (1 << 30) - 5000) == bytes(5000) + b"end"
    assert opened.content.seek(1 << 20, os.SEEK_DATA) >= (1 << 30) - BLOCK_SIZE
    hole = opened.content.seek(0, os.SEEK_HOLE)
    assert BLOCK_SIZE <= hole < 1 << 20
    with pytest.raises(OSError, match="No such device or address"):  # ENXIO
        opened.content.seek((1 << 30) + 3, os.SEEK_DATA)


def test_a_punched_hole_gives_its_room_back(opened: Opened) -> None:
    """Whole blocks become holes, and what is left of blocks at both ends stays."""
    data = os.urandom(4 << 20)
    opened.content.write(data, 0)
    before = os.fstat(opened.descriptor).st_blocks
    opened.content.zero(1000, 3 << 20, FALLOC_PUNCH_HOLE)
    assert os.fstat(opened.descriptor).st_blocks < before // 2
    expected = data[:1000] + bytes(3 << 20) + data[1000 + (3 << 20) :]
    assert opened.plaintext() == expected


def test_past_the_largest_file(opened: Opened) -> None:
    """What the format cannot number is refused, and nothing is changed."""
    for call in (
        lambda: opened.content.write(b"x", (1 << 63) - 2),
        lambda: opened.content.truncate((1 << 63) - 1),
        lambda: opened.content.allocate((1 << 63) - 8192, 10, keep_size=True),
    ):
        with pytest.raises(OutOfRange):
            call()
    assert opened.plaintext() == b""
    opened.content.write(b"x", 0)
    for offset in (1 << 62, (1 << 63) - 8192, (1 << 63) - 1):
        assert opened.content.read(10, offset) == b""


def test_damage_is_reported(opened: Opened) -> None:
    """A changed bit, a moved block and a damaged header are errors; other blocks stay readable."""
    data = os.urandom(3 * BLOCK_SIZE)
    opened.content.write(data, 0)
    size, at = opened.cipher.encrypted_block_size, opened.cipher.block_offset
    block = os.pread(opened.descriptor, size, at(0))
    os.pwrite(opened.descriptor, block, at(1))
    with pytest.raises(AuthenticationFailed):
        opened.content.read(1, BLOCK_SIZE)
    assert opened.content.read(BLOCK_SIZE, 2 * BLOCK_SIZE) == data[2 * BLOCK_SIZE :]
    os.pwrite(opened.descriptor, b"\0\7", 0)
    with pytest.raises(InvalidHeader):
        opened.content.read(1, 0)


# Several at once


def at_once(functions: List[Callable[[], object]]) -> None:
    """Call functions in threads of their own at the same time, and raise what one raises."""
    failures: List[BaseException] = []
    barrier = threading.Barrier(len(functions))

    def call(function: Callable[[], object]) -> None:
        try:
            barrier.wait()
            function()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=call, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def test_the_first_writers_agree_on_one_header(file: Opened) -> None:
    """Two opens of a new file that write at the same time make one header, and both can be read."""
    one, two = (ContentFile(file.cipher, file.descriptor, file.inodes) for _ in range(2))
    for _ in range(50):
        file.content.truncate(0)
        at_once([lambda: one.write(b"a" * 5000, 0), lambda: two.write(b"b" * 5000, 5000)])
        assert file.plaintext() == b"a" * 5000 + b"b" * 5000


def test_writers_in_one_block_lose_nothing(file: Opened) -> None:
    """Writers of neighbouring bytes, through opens of their own, all leave theirs."""
    parts = 8

    def writer(part: int) -> Callable[[], None]:
        content = ContentFile(file.cipher, file.descriptor, file.inodes)

        def write() -> None:
            for offset in range(part, 6000, parts):
                content.write(b"%d" % part, offset)

        return write

    at_once([writer(part) for part in range(parts)])
    assert file.plaintext() == b"01234567" * (6000 // 8)


def test_appends_do_not_overlap(file: Opened) -> None:
    """Lines appended at the same time all arrive, each whole."""
    lines = [b"%d" % number * 700 + b"\n" for number in range(4)]

    def appender(line: bytes) -> Callable[[], object]:
        content = ContentFile(file.cipher, file.descriptor, file.inodes)
        return lambda: [content.append(line) for _ in range(40)]

    at_once([appender(line) for line in lines])
    assert sorted(file.plaintext().splitlines(True)) == sorted(lines * 40)


def test_what_does_not_authenticate_is_read_again_when_nobody_writes(
    file: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have been caught half written; damage stays damage."""
    file.content.write(b"0" * BLOCK_SIZE, 0)
    locked: List[bool] = []

    def read_torn(descriptor: int, length: int, offset: int) -> bytes:
        locked.append(file.inodes.of(descriptor).lock.locked())
        data = read_fully(descriptor, length, offset)
        return data if len(locked) == 2 else data[:-1] + bytes([data[-1] ^ 1])

    monkeypatch.setattr("fusepy_legacy.views.content_file.read_fully", read_torn)
    assert file.content.read(BLOCK_SIZE, 0) == b"0" * BLOCK_SIZE
    assert locked == [False, True]
    with pytest.raises(AuthenticationFailed):
        file.content.read(BLOCK_SIZE, 0)


def test_a_reader_sees_each_block_before_or_after_a_write(file: Opened) -> None:
    """Reading while blocks are replaced, and the file is cut and written anew, never fails."""
    file.content.write(b"0" * 20000, 0)
    end = threading.Event()

    def change() -> None:
        try:
            for number in range(300):
                file.content.write(b"%d" % (number % 10) * 20000, 0)
                if number % 10 == 0:
                    file.content.truncate(0)
        finally:
            end.set()

    def read() -> None:
        content = ContentFile(file.cipher, file.descriptor, file.inodes)
        while not end.is_set():
            data = content.read(20000, 0)
            for start in range(0, len(data), BLOCK_SIZE):
                assert len(set(data[start : start + BLOCK_SIZE])) == 1

    at_once([change, read, read])


def test_an_inode_is_forgotten_with_its_last_open(file: Opened) -> None:
    """The registry holds what is open, and nothing else."""
    inode = file.inodes.of(file.descriptor)
    duplicate = os.open(str(file.path), os.O_RDONLY)
    assert file.inodes.of(duplicate) is inode
    os.close(duplicate)
    del inode
    assert len(file.inodes) == 0


# A full disk


def with_room_for(size: int, function: Callable[[], None]) -> None:
    """Call a function in a child process that can make no file larger than `size`."""

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        function()

    in_child(limited)


@pytest.mark.parametrize("room", [0, 10, HEADER_SIZE, 100, 5000, 8000, 12402])
@pytest.mark.parametrize("before", [b"", b"b" * 100, b"b" * 4096, b"b" * 6000])
def test_a_write_that_does_not_fit_tears_no_block(opened: Opened, before: bytes, room: int) -> None:
    """What was there stays; of what is new, whole blocks are there, as many as was said."""
    opened.content.write(before, 0)
    room = max(room, len(opened.encrypted))

    def write() -> None:
        done = 0
        with suppress(OSError):
            done = opened.content.write(b"n" * 50000, len(before))
        assert opened.plaintext() == before + b"n" * done

    with_room_for(room, write)
    data = opened.plaintext()
    assert data.startswith(before)
    assert set(data[len(before) :]) <= {ord("n")}


@pytest.mark.parametrize("room", [5000, 8000, 12402])
def test_a_write_across_the_end_that_does_not_fit_loses_nothing(opened: Opened, room: int) -> None:
    """A short last block that is written anew, and would become longer, is what it was or new."""
    before = b"b" * 4100
    opened.content.write(before, 0)

    def write() -> None:
        done = 0
        with suppress(OSError):
            done = opened.content.write(b"n" * 50000, 0)
        assert opened.plaintext() == b"n" * done + before[done:]

    with_room_for(room, write)


@pytest.mark.parametrize("offset", [0, 100])
def test_a_hole_that_has_no_room_stays_one(
    file: Opened, offset: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was not written of it are zeros as before, not a block that does not authenticate."""
    file.content.truncate(10 * BLOCK_SIZE)
    limit = file.cipher.block_offset(4) + 2000
    pwrite = os.pwrite

    def write(descriptor: int, data: bytes, offset: int) -> int:
        if offset >= limit:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return pwrite(descriptor, data[: limit - offset], offset)

    monkeypatch.setattr(os, "pwrite", write)
    done = file.content.write(b"n" * 8 * BLOCK_SIZE, offset)
    assert done == 4 * BLOCK_SIZE - offset
    assert file.plaintext() == (bytes(offset) + b"n" * done).ljust(10 * BLOCK_SIZE, b"\0")


@pytest.mark.parametrize("offset", [0, 1, 4 * BLOCK_SIZE, 9 * BLOCK_SIZE, 9 * BLOCK_SIZE + 100])
def test_a_page_without_room_for_all_of_it_costs_no_block(
    opened: Opened, offset: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A block at the end of the room is written, though the filesystem fails the page it ends in."""
    before = b"b" * 10 * BLOCK_SIZE
    opened.content.write(before, 0)
    room, page = len(opened.encrypted), 4096
    pwrite = os.pwrite

    def write(descriptor: int, data: bytes, offset: int) -> int:
        end = offset + len(data)
        if end > room:
            end = room // page * page
        if end <= offset:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return pwrite(descriptor, data[: end - offset], offset)

    monkeypatch.setattr(os, "pwrite", write)
    done = opened.content.write(b"n" * 15 * BLOCK_SIZE, offset)
    assert done == len(before) - offset
    assert opened.plaintext() == before[:offset] + b"n" * done


@pytest.mark.parametrize("offset", [0, 1, BLOCK_SIZE])
@pytest.mark.parametrize("torn", [20, 3000, 10000, 45056])
def test_a_disk_that_fails_once_costs_no_block(
    opened: Opened, offset: int, torn: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that ends in a block, and then fails, leaves each block as it was or new."""
    before = b"b" * 100000
    opened.content.write(before, 0)
    pwrite, failures = os.pwrite, iter((False, True))

    def write(descriptor: int, data: bytes, offset: int) -> int:
        if next(failures, False):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return pwrite(descriptor, data[:torn], offset)

    monkeypatch.setattr(os, "pwrite", write)
    done = opened.content.write(b"n" * 90000, offset)
    assert done >= torn - HEADER_SIZE - offset % BLOCK_SIZE
    assert opened.plaintext() == before[:offset] + b"n" * done + before[offset + done :]


@pytest.mark.parametrize("offset", [0, 100, 2 * BLOCK_SIZE])
@pytest.mark.parametrize("mode", [FALLOC_PUNCH_HOLE | 1, FALLOC_ZERO_RANGE])
def test_zeroing_that_fails_tears_no_block(
    opened: Opened, offset: int, mode: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each block is as it was, or zero, though the filesystem has zeroed some pages and parts of pages."""
    before = os.urandom(10 * BLOCK_SIZE + 100)
    opened.content.write(before, 0)

    def fail(descriptor: int, mode: int, offset: int, length: int) -> None:
        end = offset + length
        for start, size in ((offset, 50), (16384, 4096), (end - 50, 50)):
            os.pwrite(descriptor, bytes(size), start)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("fusepy_legacy.syscalls.fallocate", fail)
    with raises_errno(errno.ENOSPC):
        opened.content.zero(offset, 7 * BLOCK_SIZE, mode)
    monkeypatch.undo()
    after = opened.plaintext()
    assert len(after) == len(before)
    kept = 0
    for start in range(0, len(before), BLOCK_SIZE):
        block = after[start : start + BLOCK_SIZE]
        same = block == before[start : start + BLOCK_SIZE]
        assert same or (not any(block) and offset <= start < offset + 7 * BLOCK_SIZE)
        kept += same
    assert kept >= 7


@pytest.mark.parametrize("mode", [FALLOC_PUNCH_HOLE | 1, FALLOC_ZERO_RANGE])
def test_zeroing_parts_of_blocks_is_done_or_fails(
    opened: Opened, mode: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write of zeros that was cut short is gone on with, and what keeps it from that is told."""
    opened.content.write(b"b" * 3 * BLOCK_SIZE, 0)
    second = opened.cipher.block_offset(1)
    pwrite, failing = os.pwrite, iter([True] * 3)

    def write(descriptor: int, data: bytes, offset: int) -> int:
        if offset + len(data) > second and next(failing, False):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return pwrite(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", write)
    with raises_errno(errno.EIO):  # once for both blocks, and twice for the second
        opened.content.zero(BLOCK_SIZE - 10, 20, mode)
    kept = b"b" * (BLOCK_SIZE - 10)
    assert opened.plaintext() == (kept + bytes(10)).ljust(3 * BLOCK_SIZE, b"b")
    failing = iter([True])
    opened.content.zero(BLOCK_SIZE - 10, 20, mode)
    assert opened.plaintext() == (kept + bytes(20)).ljust(3 * BLOCK_SIZE, b"b")


@pytest.mark.parametrize("size", [1, BLOCK_SIZE, BLOCK_SIZE + 100])
def test_cutting_that_fails_leaves_the_file_as_it_was(
    opened: Opened, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of one that has become append-only since it was opened (FS_APPEND_FL)."""
    before = os.urandom(10000)
    opened.content.write(before, 0)

    def fail(descriptor: int, length: int) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "ftruncate", fail)
    with raises_errno(errno.EPERM):
        opened.content.truncate(size)
    assert opened.plaintext() == before


@pytest.mark.parametrize("room", [0, 4096 + 32])
def test_a_gap_that_does_not_fit_leaves_the_file_as_it_was(opened: Opened, room: int) -> None:
    """Writing and extending far behind the end fail, and the old end is still there."""
    opened.content.write(b"b" * 5000, 0)

    def fail() -> None:
        for call in (
            lambda: opened.content.write(b"n", 1 << 20),
            lambda: opened.content.truncate((1 << 20) + 1),
        ):
            with pytest.raises(OSError, match=r"File too large|No space left"):
                call()

    with_room_for(len(opened.encrypted) + room, fail)
    assert opened.plaintext() == b"b" * 5000
