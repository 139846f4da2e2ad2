"""Content is read by blocks: only those that are asked for, and around those that are bad."""

import errno
import os
from pathlib import Path
from typing import Callable, Dict, List, Tuple

import pytest

from fusepy_legacy.crypt.content import BLOCK_SIZE
from fusepy_legacy.crypt.errors import InvalidHeader
from fusepy_legacy.vault.files import PIECE, EncryptedFile
from tests.vault_trees import Made, Outcome, make, runner, sparse_file

Run = Callable[..., Outcome]
SIZES = [0, 1, 4095, 4096, 4097, 8192, PIECE * BLOCK_SIZE, PIECE * BLOCK_SIZE + 1]
GIB = 1 << 30


@pytest.fixture
def run(capfdbinary: pytest.CaptureFixture[bytes]) -> Run:
    """Run a command in this process."""
    return runner(capfdbinary.readouterr)


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """A tree with a file of 600 random blocks."""
    return make(tmp_path, {b"f": os.urandom(600 * BLOCK_SIZE - 5)})


def opened(made: Made, path: Path) -> EncryptedFile:
    return EncryptedFile(made.content, os.open(str(path), os.O_RDONLY))


def everything(file: EncryptedFile, start: int = 0, end: int = 1 << 62) -> Tuple[bytes, List[int]]:
    """What is in a file, bad blocks and holes as zeros; and the numbers of bad blocks."""
    bad: List[int] = []
    end = min(end, file.size)
    data = bytearray(max(end - start, 0))
    position = start
    for offset, piece in file.pieces(start, end, lambda block, problem: bad.append(block)):
        assert offset >= position, "in order"
        assert 0 < len(piece) <= PIECE * BLOCK_SIZE
        data[offset - start : offset - start + len(piece)] = piece
        position = offset + len(piece)
    assert position <= max(end, start)
    return bytes(data), bad


def bytes_read() -> int:
    """How many bytes this process has read by any system call (proc_pid_io(5), rchar)."""
    with open("/proc/self/io", "rb") as file:
        return int(file.readline().split()[1])


@pytest.mark.parametrize("size", SIZES)
def test_any_range_is_what_the_file_has_there(tmp_path: Path, size: int) -> None:
    """At every edge of blocks and pieces."""
    data = os.urandom(size)
    made = make(tmp_path, {b"f": data})
    edges = [
        0,
        1,
        4095,
        4096,
        4097,
        8191,
        PIECE * BLOCK_SIZE - 1,
        PIECE * BLOCK_SIZE,
        size,
        size + 9,
    ]
    with opened(made, made.stored[b"f"]) as file:
        assert file.size == size
        for start in edges:
            for end in edges:
                assert everything(file, start, end) == (data[start:end], []), (start, end)


def test_holes_are_skipped_and_read_as_zeros(tmp_path: Path) -> None:
    """Between any two blocks of data, before and after."""
    made = make(tmp_path, {})
    for blocks, data_at, size in [
        (1, 0, 9),
        (3, 7, 20),
        (2, 1000, 1002),
        (300, 50, 350),
        (1, 5, 6),
    ]:
        path, data = tmp_path / "f", os.urandom(blocks * BLOCK_SIZE)
        sparse_file(made, path, size * BLOCK_SIZE, data, data_at * BLOCK_SIZE)
        with opened(made, path) as file:
            before = bytes(data_at * BLOCK_SIZE)
            expected = (before + data).ljust(size * BLOCK_SIZE, b"\0")
            assert everything(file) == (expected, [])
            assert everything(file, 5, size * BLOCK_SIZE - 5) == (expected[5:-5], [])


def test_a_short_block_in_a_hole_is_bad(tmp_path: Path) -> None:
    """Only full blocks can be holes."""
    made = make(tmp_path, {})
    path = tmp_path / "f"
    sparse_file(made, path, 50 * BLOCK_SIZE + 100, os.urandom(BLOCK_SIZE), 0)
    with opened(made, path) as file:
        data, bad = everything(file)
    assert bad == [50]
    assert not any(data[BLOCK_SIZE:])


def test_a_mebibyte_of_a_huge_file_costs_little_more(tmp_path: Path, run: Run) -> None:
    """cat of a range, and restore of a 10 GiB file that is a hole but for 1 MiB: below 1.1 MiB read."""
    made = make(tmp_path, {b"f": b""})
    data = os.urandom(1 << 20)
    sparse_file(made, made.stored[b"f"], 10 * GIB, data, 7 * GIB)
    run("ls", "--passfile", made.passfile, made.root)  # whatever is imported late, is now
    first = 7 * GIB + 1234
    before = bytes_read()
    outcome = run(
        "cat",
        "--passfile",
        made.passfile,
        "--range",
        f"{first}-{first + (1 << 20) - 1}",
        made.at("f"),
    )
    # pytest's capture reads what was printed, too
    assert bytes_read() - before - len(outcome.output) < 1.1 * (1 << 20)
    assert outcome.output == data[1234:] + bytes(1234)
    before = bytes_read()
    assert run("restore", "--passfile", made.passfile, made.at("f"), tmp_path / "plain").code == 0
    assert bytes_read() - before < 1.1 * (1 << 20)
    restored = tmp_path / "plain" / "f"
    assert (restored.stat().st_size, restored.stat().st_blocks * 512) == (10 * GIB, 1 << 20)
    with open(str(restored), "rb") as file:
        file.seek(7 * GIB)
        assert file.read(1 << 20) == data
    before = bytes_read()
    assert (
        run("verify", "--passfile", made.passfile, "--against", tmp_path / "plain", made.root).code
        == 0
    )
    assert bytes_read() - before < 2.1 * (1 << 20)


@pytest.mark.parametrize(
    "blocks", [[0], [599], [255, 256], [0, 1, 2, 300, 598, 599], list(range(600)), [5, 7, 9]]
)
def test_every_bad_block_is_named_and_all_others_are_read(made: Made, blocks: List[int]) -> None:
    """Wherever they are in a piece."""
    with opened(made, made.stored[b"f"]) as file:
        expected = bytearray(everything(file)[0])
    made.damage(b"f", *blocks)
    for block in blocks:
        end = min((block + 1) * BLOCK_SIZE, len(expected))
        expected[block * BLOCK_SIZE : end] = bytes(end - block * BLOCK_SIZE)
    with opened(made, made.stored[b"f"]) as file:
        assert everything(file) == (bytes(expected), blocks)


def test_a_cut_block_is_bad_and_so_is_one_before_it(made: Made) -> None:
    """A last block too short for a byte does not hide other damage."""
    path = made.stored[b"f"]
    made.damage(b"f", 3)
    os.truncate(str(path), made.content.block_offset(5) + 10)
    with opened(made, path) as file:
        assert everything(file)[1] == [3, 5]


@pytest.mark.parametrize("header", [b"", b"\0\2", b"\0\1" + b"x" * 16, b"\0\2" + bytes(16)])
def test_without_a_header_nothing_can_be_read(made: Made, header: bytes) -> None:
    """InvalidHeader, and no descriptor stays open."""
    path = made.stored[b"f"]
    path.write_bytes(header.ljust(10, b"x") if len(header) < 18 else header)
    with pytest.raises(InvalidHeader):
        opened(made, path)


@pytest.fixture
def bad_sectors(made: Made, monkeypatch: pytest.MonkeyPatch) -> Dict[int, int]:
    """Reading the bytes from one offset up to another fails with EIO."""
    sectors: Dict[int, int] = {}
    read = os.pread

    def pread(descriptor: int, length: int, offset: int) -> bytes:
        for start, end in sectors.items():
            if offset < end and offset + length > start:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read(descriptor, length, offset)

    monkeypatch.setattr(os, "pread", pread)
    return sectors


def test_a_bad_sector_costs_its_block_only(made: Made, bad_sectors: Dict[int, int]) -> None:
    """All around it is read."""
    with opened(made, made.stored[b"f"]) as file:
        expected = bytearray(everything(file)[0])
        start = made.content.block_offset(77) + 100
        bad_sectors[start] = start + 512
        expected[77 * BLOCK_SIZE : 78 * BLOCK_SIZE] = bytes(BLOCK_SIZE)
        assert everything(file) == (bytes(expected), [77])


def test_a_file_that_is_cut_while_it_is_read_is_not_taken_for_a_short_one(made: Made) -> None:
    """The blocks that are gone are bad."""
    with opened(made, made.stored[b"f"]) as file:
        os.truncate(str(made.stored[b"f"]), made.content.block_offset(300) + 50)
        assert everything(file)[1] == list(range(300, 600))


def test_cat_ends_at_the_first_bad_block(made: Made, run: Run) -> None:
    """What was printed is right, the rest is not invented."""
    with opened(made, made.stored[b"f"]) as file:
        expected = everything(file)[0]
    made.damage(b"f", 300)
    outcome = run("cat", "--passfile", made.passfile, made.at("f"))
    assert outcome.code == 26
    assert outcome.errors == ["fusepy-vault: f: block 300: does not authenticate"]
    assert outcome.output == expected[: 300 * BLOCK_SIZE]
    beyond = run(
        "cat", "--passfile", made.passfile, "--range", f"{301 * BLOCK_SIZE}-", made.at("f")
    )
    assert (beyond.code, beyond.output) == (0, expected[301 * BLOCK_SIZE :])


@pytest.mark.parametrize("text", ["5", "-", "-5", "9-5", "a-b", "1-2-3", "٣-٤"])
def test_a_range_is_two_numbers(made: Made, run: Run, text: str) -> None:
    """Anything else is one line and exit code 1."""
    outcome = run("cat", "--passfile", made.passfile, f"--range={text}", made.at("f"))
    assert (outcome.code, len(outcome.errors)) == (1, 1)
