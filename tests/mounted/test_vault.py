"""What gocryptfs makes is read as gocryptfs itself reads it, and gocryptfs mounts what init makes."""

import os
import shutil
from pathlib import Path
from typing import List

import pytest

from fusepy_legacy.crypt.config import (
    AESSIV_FLAG,
    DIRIV,
    FORWARD,
    FORWARD_PLAINTEXT_NAMES,
    GCMIV128,
    HKDF_FLAG,
    RAW64,
    REVERSE,
    XCHACHA_FLAG,
)
from tests.mounted.commands import Outcome, run, server_environment
from tests.mounted.gocryptfs import SIZES, Sides, assert_equal, fill, init, make_sides, mounted
from tests.vault_trees import COMMAND, WARNINGS, Link, Tree, contents, make

pytestmark = pytest.mark.skipif(shutil.which("gocryptfs") is None, reason="gocryptfs is missing")

MANY = 10_000


def vault(*words: object) -> Outcome:
    """Run fusepy-vault in a process of its own."""
    environment = server_environment({"PYTHONWARNINGS": WARNINGS})
    return run([*COMMAND, *map(str, words)], environment=environment)


@pytest.fixture
def sides(tmp_path: Path) -> Sides:
    """Empty directories, and a password."""
    return make_sides(tmp_path)


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["-aessiv", "-longnamemax", "62"],
        ["-deterministic-names"],
        ["-plaintextnames"],
        ["-xchacha"],
    ],
    ids=["default", "siv-longnamemax", "deterministic", "plaintextnames", "xchacha"],
)
def test_a_tree_is_restored_as_gocryptfs_shows_it(sides: Sides, options: List[str]) -> None:
    """Names of every length, all types, sizes around blocks, holes, owners, modes, times, attributes."""
    if "-xchacha" in options:
        pytest.importorskip("nacl")
    init(sides, *options)
    with mounted(sides):
        fill(sides.view)
    shutil.rmtree(str(sides.plain))
    outcome = vault("restore", "--passfile", sides.passfile, sides.encrypted, sides.plain)
    assert (outcome.code, outcome.errors) == (0, "")
    with mounted(sides, "-ro"):
        assert_equal(sides.view, sides.plain)
        sparse = (sides.plain / "sizes" / "sparse").stat()
        assert sparse.st_blocks * 512 <= 4 * 4096
        words = ["--passfile", sides.passfile, "--against", sides.view, sides.encrypted]
        outcome = vault("verify", "--metadata", *words)
        assert (outcome.code, outcome.errors) == (0, "")


def test_a_reverse_view_is_restored(sides: Sides) -> None:
    """From gocryptfs's view of a plain directory, without a mount of what is restored."""
    source = sides.view
    fill(source, extras=False)
    init(sides, "-reverse", directory="view")
    with mounted(sides, "-reverse", source=source):
        words = ["--passfile", sides.passfile, sides.encrypted]
        outcome = vault("verify", "--metadata", "--against", source, *words)
        assert (outcome.code, outcome.errors) == (0, "")
        outcome = vault("restore", *words, sides.plain)
        assert (outcome.code, outcome.errors) == (0, "")
        paths = ["types/file", "names/" + "n" * 255, "odd"]
        key = ["--passfile", sides.passfile]
        shown = vault("encrypt-path", *key, *(source / path for path in paths)).output
        encrypted = [sides.encrypted / line for line in shown.splitlines()]
        assert all(os.path.lexists(str(path)) for path in encrypted)
        back = vault("decrypt-path", *key, *encrypted)
        assert back.output.splitlines() == paths
    (source / ".gocryptfs.reverse.conf").unlink()
    assert_equal(source, sides.plain)


def test_thousands_of_files(sides: Sides) -> None:
    """10,000 files, empty or of one byte."""
    init(sides)
    with mounted(sides):
        for number in range(MANY):
            if number % 100 == 0:
                directory = sides.view / f"directory {number // 100}"
                directory.mkdir()
            with open(f"{directory}/{number}", "xb") as file:
                file.write(b"x"[: number % 2])
    words = ["--passfile", sides.passfile, sides.encrypted]
    outcome = vault("restore", *words, sides.plain)
    assert (outcome.code, outcome.output, outcome.errors) == (0, f"{MANY} files restored\n", "")
    restored = {
        int(entry.name): entry.stat().st_size
        for directory in os.scandir(str(sides.plain))
        for entry in os.scandir(directory.path)
    }
    assert restored == {number: number % 2 for number in range(MANY)}
    outcome = vault("verify", "--against", sides.plain, *words)
    assert (outcome.code, outcome.errors) == (0, "")


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--aessiv", "--longnamemax", "100"],
        ["--deterministic-names"],
        ["--plaintextnames"],
        ["--xchacha"],
    ],
    ids=["default", "siv-longnamemax", "deterministic", "plaintextnames", "xchacha"],
)
def test_gocryptfs_mounts_what_init_made(sides: Sides, options: List[str]) -> None:
    """It is written and read by gocryptfs, also after a new password, and restored by us."""
    if "--xchacha" in options:
        pytest.importorskip("nacl")
    words = ["--scryptn", "10", "--passfile", sides.passfile]
    assert vault("init", *words, *options, sides.encrypted).code == 0
    with mounted(sides):
        (sides.view / "directory").mkdir()
        (sides.view / "directory" / ("n" * 200)).write_text("content")
    new = sides.passfile.parent / "new"
    new.write_text("a new password\n")
    assert vault("passwd", *words, "--new-passfile", new, sides.encrypted).code == 0
    new.rename(sides.passfile)
    with mounted(sides):
        assert (sides.view / "directory" / ("n" * 200)).read_text() == "content"
    outcome = vault(
        "cat", "--passfile", sides.passfile, sides.encrypted / "directory" / ("n" * 200)
    )
    assert (outcome.code, outcome.output) == (0, "content")


XCHACHA = FORWARD - {GCMIV128} | {XCHACHA_FLAG}
WRITTEN = {
    "gcm": (FORWARD, 255),
    "gcm-deterministic-longnamemax": (FORWARD - {DIRIV}, 100),
    "gcm-plaintextnames": (FORWARD_PLAINTEXT_NAMES, 255),
    "siv": (REVERSE, 255),
    "siv-longnamemax": (REVERSE, 62),
    "siv-plaintextnames": (FORWARD_PLAINTEXT_NAMES | {AESSIV_FLAG}, 255),
    "padded-base64": (FORWARD - {RAW64}, 255),
    "no-hkdf": (REVERSE - {HKDF_FLAG}, 255),
    "xchacha": (XCHACHA, 255),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_gocryptfs_shows_what_was_written_here(tmp_path: Path, sides: Sides, name: str) -> None:
    """Names, contents around blocks, symlinks and attributes are those that were encrypted."""
    flags, limit = WRITTEN[name]
    if XCHACHA_FLAG in flags:
        pytest.importorskip("nacl")
    tree: Tree = {b"n" * length: b"%d" % length for length in (1, 15, 16, 100, 175, 176, 255)}
    tree.update({b"size %d" % size: os.urandom(size) for size in SIZES})
    tree.update({b"link": Link(b"x" * 3000), b"d": {b"\xff": b"below", b"e": {}}})
    sides.encrypted.rmdir()
    made = make(tmp_path, tree, flags, limit)
    stored = made.names.encrypt_attribute_name(b"user.x")
    os.setxattr(str(made.stored[b"d"]), stored, made.content.encrypt_value(b"value"))
    with mounted(sides._replace(passfile=made.passfile), "-ro"):
        assert contents(sides.view) == tree
        assert os.getxattr(str(sides.view / "d"), "user.x") == b"value"


def test_gocryptfs_shows_a_directory_with_a_config_of_init(sides: Sides) -> None:
    """A reverse one: its view is restored."""
    (sides.view / "file").write_text("content")
    words = ["--scryptn", "10", "--passfile", sides.passfile]
    assert vault("init", "--reverse", *words, sides.view).code == 0
    with mounted(sides, "-reverse", source=sides.view):
        command = ["cat", "--passfile", sides.passfile, sides.encrypted / "file"]
        assert vault(*command).output == "content"


def test_gocryptfs_and_verify_find_the_same_damage(sides: Sides) -> None:
    """Exit code 26 from both, and all other files are restored."""
    init(sides)
    with mounted(sides):
        for name in "abc":
            (sides.view / name).write_bytes(name.encode() * 10000)
    key = ["--passfile", sides.passfile]
    encrypted = vault("encrypt-path", *key, sides.encrypted / "b").output.strip()
    with open(str(sides.encrypted / encrypted), "r+b") as file:
        file.seek(5000)
        file.write(b"damage")
    fsck = ["gocryptfs", "-q", "-nosyslog", "-fsck", "-passfile", sides.passfile, sides.encrypted]
    # It leaves a directory in TMPDIR.
    assert run(fsck, environment={"TMPDIR": str(sides.view)}).code == 26
    outcome = vault("verify", "-q", *key, sides.encrypted)
    assert outcome.code == 26
    assert outcome.errors == f"b ({encrypted}): block 1: does not authenticate\n"
    assert vault("restore", "-q", *key, sides.encrypted, sides.plain).code == 26
    expected = {name: name.encode() * 10000 for name in "ac"}
    assert {name: (sides.plain / name).read_bytes() for name in "ac"} == expected
