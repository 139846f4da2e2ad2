"""Verify names each thing that is damaged or differs, and says 26."""

import errno
import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import termios
from pathlib import Path
from typing import Callable

import pytest

from fusepy_legacy.beneath import Beneath
from fusepy_legacy.crypt.content import BLOCK_SIZE
from fusepy_legacy.vault.plain import Plain
from tests.vault_trees import (
    COMMAND,
    ENVIRONMENT,
    Link,
    Made,
    Outcome,
    Tree,
    make,
    runner,
    sparse_file,
)

Run = Callable[..., Outcome]
DATA = os.urandom(300 * BLOCK_SIZE)
TREE: Tree = {b"a": b"first", b"d": {b"big": DATA, b"e": {b"f": b"deep"}}, b"l": Link(b"a")}


@pytest.fixture
def run(capfdbinary: pytest.CaptureFixture[bytes]) -> Run:
    """Run a command in this process."""
    return runner(capfdbinary.readouterr)


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """An encrypted tree."""
    return make(tmp_path, TREE)


@pytest.fixture
def plain(made: Made, run: Run, tmp_path: Path) -> Path:
    """The plain tree."""
    assert run("restore", "--passfile", made.passfile, made.root, tmp_path / "plain").code == 0
    return tmp_path / "plain"


def test_a_plain_name_that_is_too_long_to_be_encrypted(
    made: Made, run: Run, plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on NTFS: it is missing, and the rest is compared all the same."""
    names = Plain.names
    monkeypatch.setattr(
        Plain, "names", lambda self, path: ["\u044f".encode() * 200, *names(self, path)]
    )
    (plain / "new").write_text("not in the tree")
    key = ["--passfile", made.passfile]
    outcome = run("verify", "-q", *key, "--against", plain, made.root)
    assert outcome.code == 26
    missing = [line for line in outcome.errors if "it is missing" in line]
    assert len(missing) == len(outcome.errors) == 1 + 3  # in each of three directories


@pytest.mark.parametrize("iv", [None, b"short"])
def test_an_empty_directory_without_its_iv(run: Run, tmp_path: Path, iv: "bytes | None") -> None:
    """Nothing is lost, but the mount can neither list it nor make anything in it."""
    made = make(tmp_path, {b"d": {}})
    (made.stored[b"d"] / "gocryptfs.diriv").unlink()
    if iv is not None:
        (made.stored[b"d"] / "gocryptfs.diriv").write_bytes(iv)
    outcome = run("verify", "-q", "--passfile", made.passfile, made.root)
    assert (outcome.code, len(outcome.errors)) == (26, 1)
    assert outcome.errors[0].startswith(f"d ({made.encrypted(b'd')}): gocryptfs.diriv: ")


def test_a_good_tree_is_good(made: Made, run: Run, plain: Path) -> None:
    """With and without a directory to compare with; quiet is quiet."""
    size = len(DATA) + 9
    text = f"4 files, 3 directories, {size} bytes, 0 of them holes\n".encode()
    assert run("verify", "--passfile", made.passfile, made.root) == (0, text, [])
    outcome = run("verify", "--passfile", made.passfile, "--against", plain, made.root)
    assert outcome == (0, text, [])
    assert run("verify", "-q", "--passfile", made.passfile, made.root) == (0, b"", [])


def test_what_may_not_be_read_is_no_damage(
    tmp_path: Path, made: Made, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was not done, which is 11, and in JSON it is apart; so for restore and cat."""
    refused = made.encrypted(b"d/e/f")
    opened = Beneath.open

    def open_beneath(self: Beneath, path: str, flags: int, *mode: int) -> int:
        if path == f"/{refused}" and not flags & os.O_PATH:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return opened(self, path, flags, *mode)

    monkeypatch.setattr(Beneath, "open", open_beneath)
    key = ["--passfile", made.passfile]
    outcome = run("verify", "-q", *key, made.root)
    assert outcome == (11, b"", ["d/e/f: Permission denied"])
    result = json.loads(run("verify", "--json", *key, made.root).output)
    assert result["damage"] == []
    assert result["failed"] == [{"path": "d/e/f", "problem": "Permission denied"}]
    assert run("restore", "-q", *key, made.root, tmp_path / "copy").code == 11
    assert run("cat", *key, made.at("d/e/f")).code == 11


def test_what_may_not_be_compared_is_no_difference(
    made: Made, run: Run, plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plain file that this user may not read, or the disk does not give, leaves the question open: 11."""
    opened = Beneath.open

    def open_beneath(self: Beneath, path: str, flags: int, *mode: int) -> int:
        if path == "/d/e/f":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return opened(self, path, flags, *mode)

    monkeypatch.setattr(Beneath, "open", open_beneath)
    outcome = run("verify", "-q", "--passfile", made.passfile, "--against", plain, made.root)
    assert outcome == (11, b"", ["d/e/f: not compared: the plain file: Permission denied"])


def test_each_bad_block_is_reported(made: Made, run: Run) -> None:
    """With its number, and the plain and the encrypted name of its file; as JSON, too."""
    made.damage(b"d/big", 0, 255, 256, 299)
    made.damage(b"d/e/f", 0)
    big, deep = made.encrypted(b"d/big"), made.encrypted(b"d/e/f")
    outcome = run("verify", "-q", "--passfile", made.passfile, made.root)
    assert (outcome.code, outcome.output) == (26, b"")
    assert outcome.errors == [
        *(f"d/big ({big}): block {n}: does not authenticate" for n in (0, 255, 256, 299)),
        f"d/e/f ({deep}): block 0: does not authenticate",
    ]
    outcome = run("verify", "--json", "--passfile", made.passfile, made.at("d/big"))
    assert (outcome.code, outcome.errors) == (26, [])
    result = json.loads(outcome.output)
    assert (result["files"], result["bytes"]) == (1, len(DATA))
    first = {"path": "d/big", "encrypted": big, "block": 0, "problem": "does not authenticate"}
    assert result["damage"][0] == first
    assert [item["block"] for item in result["damage"]] == [0, 255, 256, 299]


def test_only_what_is_asked_for_is_read(made: Made, run: Run) -> None:
    """Damage elsewhere does not matter."""
    made.damage(b"d/big", 7)
    assert run("verify", "--passfile", made.passfile, made.at("d/e"), made.at("a")).code == 0


def test_two_files_that_were_swapped_authenticate_but_differ(
    made: Made, run: Run, plain: Path
) -> None:
    """As do old versions: only a comparison finds them."""
    one, other = made.stored[b"a"], made.stored[b"d/e/f"]
    data = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(data)
    assert run("verify", "--passfile", made.passfile, made.root).code == 0
    outcome = run("verify", "--passfile", made.passfile, "--against", plain, made.root)
    assert outcome.code == 26
    assert [line.split(" ")[0] for line in outcome.errors] == ["a", "d/e/f"]


@pytest.mark.parametrize("how", ["content", "size", "type", "gone", "target", "more", "zeros"])
def test_any_difference_is_found(made: Made, run: Run, plain: Path, how: str) -> None:
    """Exactly that one is named."""
    expected = "d/big"
    path = plain / expected
    if how == "content":
        path.write_bytes(DATA[:-1] + bytes([DATA[-1] ^ 1]))
    elif how == "size":
        path.write_bytes(DATA + b"x")
    elif how == "type":
        path.unlink()
        path.mkdir()
    elif how == "gone":
        path.unlink()
    elif how == "zeros":
        path.unlink()
        os.truncate(str(path.parent), 0) if path.is_dir() else path.write_bytes(bytes(len(DATA)))
    elif how == "target":
        expected = "l"
        (plain / "l").unlink()
        (plain / "l").symlink_to("b")
    else:
        expected = "d/more"
        (plain / "d" / "more").write_text("x")
    outcome = run("verify", "--passfile", made.passfile, "--against", plain, made.root)
    assert outcome.code == 26
    assert [line.split(" ")[0] for line in outcome.errors] == [expected]


def test_metadata_is_compared_when_it_is_asked_for(made: Made, run: Run, plain: Path) -> None:
    """Each difference is a line: mode, owner, group, time, and attributes both ways. Equal is 0."""
    stored = str(made.stored[b"a"])
    for name, value in ((b"user.x", b"1"), (b"user.y", b"2")):
        encrypted = made.names.encrypt_attribute_name(name)
        os.setxattr(stored, encrypted, made.content.encrypt_value(value))
    (plain / "a").unlink()
    (plain / "l").unlink()
    words = ["--passfile", made.passfile, made.root]
    assert run("restore", *words, plain).code == 0
    verify = ["verify", "-q", "--against", plain, *words]
    assert run(*verify, "--metadata") == (0, b"", [])
    os.setxattr(str(plain / "a"), "user.x", b"other")
    os.removexattr(str(plain / "a"), "user.y")
    os.setxattr(str(plain / "a"), "user.z", b"")
    (plain / "a").chmod(0o611)
    for path in ("a", "d", "l"):
        os.utime(str(plain / path), ns=(0, 1), follow_symlinks=False)
    expected = [
        "a: mode 0644, not 0611",
        "a: changed at",
        "a: another value of the attribute user.x",
        "a: an attribute user.y, which",
        "a: no attribute user.z",
        "d: changed at",
        "l: changed at",
    ]
    if os.geteuid() == 0:
        os.chown(str(plain / "a"), 1234, 5678)
        expected[1:1] = ["a: owner 0, not 1234", "a: group 0, not 5678"]
    assert run(*verify) == (0, b"", [])
    outcome = run(*verify, "--metadata")
    assert outcome.code == 26
    lines = [re.sub(r" \(.*?\): it differs:", ":", line) for line in outcome.errors]
    assert len(lines) == len(expected)
    for line, start in zip(lines, expected):
        assert line.startswith(start)
    damage = json.loads(run(*verify, "--metadata", "--json").output)["damage"]
    assert [item["path"] for item in damage] == [line.split(":")[0] for line in lines]


@pytest.mark.parametrize("name", ["trusted.SGI_ACL_FILE", "trusted.SGI_ACL_DEFAULT"])
def test_what_xfs_calls_acls_is_no_difference(
    made: Made, run: Run, plain: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """They are compared by their own names, which it lists as well."""
    words = ["--passfile", made.passfile, made.root]
    assert run("restore", "--force", *words, plain).code == 0
    verify = ["verify", "-q", "--metadata", "--against", plain, *words]
    assert run(*verify) == (0, b"", [])
    listed = os.listxattr
    monkeypatch.setattr(os, "listxattr", lambda path: [*listed(path), name])
    monkeypatch.setattr(os, "getxattr", lambda path, name: b"ACL")
    assert run(*verify) == (0, b"", [])


def test_holes_are_compared_and_counted(tmp_path: Path, run: Run) -> None:
    """A hole equals zeros and a hole, and nothing else."""
    made = make(tmp_path, {b"f": b""})
    data = os.urandom(BLOCK_SIZE)
    sparse_file(made, made.stored[b"f"], 1000 * BLOCK_SIZE, data, 500 * BLOCK_SIZE)
    plain = tmp_path / "plain"
    plain.mkdir()

    def verify() -> Outcome:
        return run("verify", "--passfile", made.passfile, "--against", plain, made.root)

    (plain / "f").write_bytes(bytes(500 * BLOCK_SIZE) + data + bytes(499 * BLOCK_SIZE))
    assert verify().output.endswith(f"bytes, {999 * BLOCK_SIZE} of them holes\n".encode())
    for position in (0, 499 * BLOCK_SIZE, 501 * BLOCK_SIZE, 1000 * BLOCK_SIZE - 1):
        with open(str(plain / "f"), "r+b") as file:
            file.seek(position)
            file.write(b"x")
            file.flush()
            assert verify().code == 26
            file.seek(position)
            file.write(b"\0")
        assert verify().code == 0


def test_a_range_that_cannot_be_read_is_not_taken_for_a_hole(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it equals one is then left open: 11."""
    made = make(tmp_path, {b"f": b""})
    data = os.urandom(BLOCK_SIZE)
    sparse_file(made, made.stored[b"f"], 10 * BLOCK_SIZE, data, 5 * BLOCK_SIZE)
    plain = tmp_path / "plain"
    plain.mkdir()
    (plain / "f").write_bytes(b"x" * 5 * BLOCK_SIZE + data + bytes(4 * BLOCK_SIZE))
    seek = os.lseek

    def fail(descriptor: int, offset: int, whence: int) -> int:
        if os.path.samestat(os.fstat(descriptor), (plain / "f").stat()):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return seek(descriptor, offset, whence)

    monkeypatch.setattr(os, "lseek", fail)
    outcome = run("verify", "-q", "--passfile", made.passfile, "--against", plain, made.root)
    assert outcome == (11, b"", ["f: not compared: the plain file: Input/output error"])


def test_there_is_a_bar_on_a_terminal_only(made: Made, tmp_path: Path) -> None:
    """With rate and time left; damage is said above it; -q silences the bar, not the damage."""
    made.damage(b"d/big", 9)
    for options, shown in (["-q"], False), ([], True):
        terminal, end = pty.openpty()
        fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
        process = subprocess.Popen(
            [*COMMAND, "verify", *options, "--passfile", str(made.passfile), str(made.root)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=end,
            env=ENVIRONMENT,
        )
        os.close(end)
        printed = b""
        try:
            while True:
                printed += os.read(terminal, 4096)
        except OSError:  # EIO: the other end is closed
            os.close(terminal)
        process.communicate(timeout=20)
        assert process.returncode == 26
        assert b"block 9: does not authenticate" in printed
        assert (b"100%|" in printed and b"B/s" in printed and b"<00:00" in printed) == shown, (
            printed
        )
