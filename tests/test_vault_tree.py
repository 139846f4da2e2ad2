"""An encrypted tree is read by its plain names, and what is wrong with names is named."""

import json
import os
import stat
import sys
from pathlib import Path
from typing import Callable, List

import pytest

from fusepy_legacy.crypt.config import (
    DIRIV,
    FORWARD,
    FORWARD_PLAINTEXT_NAMES,
    HKDF_FLAG,
    RAW64,
    REVERSE,
    create,
)
from fusepy_legacy.vault.location import Location, locate
from tests.vault_trees import PASSWORD, SAMPLES, Link, Outcome, Tree, contents, make, runner, unpack

Run = Callable[..., Outcome]

PLAIN: Tree = {
    b"empty": b"",
    b"one": b"x",
    b"block": (b"fusepy\n" * 600)[:4096],
    b"block and one": (b"fusepy\n" * 600)[:4097],
    b"0" * 200: b"a long name",
    b"sparse": bytes(20000) + b"end",
    b"directory": {b"file": b"in a directory", b"link": Link(b"../one")},
    b"link": Link(b"directory/file"),
}
OLD_KEY = "00112233-44556677-8899aabb-ccddeeff-01234567-89abcdef-fedcba98-76543210"
OLD_SAMPLES = {"old-gcm": FORWARD, "old-siv": REVERSE}
NAMES = sorted(path.name[: -len(".tar.gz")] for path in SAMPLES.iterdir())


@pytest.fixture
def run(capfdbinary: pytest.CaptureFixture[bytes]) -> Run:
    """Run a command in this process."""
    return runner(capfdbinary.readouterr)


def key_options(name: str, directory: Path) -> List[str]:
    """What opens a sample."""
    if name in OLD_SAMPLES:
        config, _ = create(b"x", OLD_SAMPLES[name] - {HKDF_FLAG, RAW64}, scrypt_n=1024)
        (directory / "config").write_bytes(config.to_bytes())
        (directory / "key").write_text(OLD_KEY)
        return ["--config", str(directory / "config"), "--masterkey", str(directory / "key")]
    (directory / "password").write_bytes(PASSWORD)
    return ["--passfile", str(directory / "password")]


@pytest.mark.parametrize("name", NAMES)
def test_a_tree_of_gocryptfs_is_restored(tmp_path: Path, run: Run, name: str) -> None:
    """Each sample gives the same plain tree, with the attributes that gocryptfs stored."""
    if name.startswith("xchacha"):
        pytest.importorskip("nacl")
    root, key = unpack(name, tmp_path), key_options(name, tmp_path)
    outcome = run("restore", *key, root, tmp_path / "plain")
    assert (outcome.code, outcome.errors) == (0, [])
    assert contents(tmp_path / "plain") == PLAIN
    listed = os.listxattr(str(tmp_path / "plain" / "one"))
    if name.startswith("reverse"):
        assert listed == []
    else:
        assert os.getxattr(str(tmp_path / "plain" / "one"), "user.comment") == b"an attribute"
    assert run("verify", *key, "--against", tmp_path / "plain", root).code == 0


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("xchacha")])
def test_names_and_sizes_need_no_cipher_for_content(
    tmp_path: Path, run: Run, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without XChaCha20-Poly1305 ls still works, and the others say what to install."""
    monkeypatch.setitem(sys.modules, "nacl", None)
    root, key = unpack(name, tmp_path), key_options(name, tmp_path)
    outcome = run("ls", "-R", *key, root)
    assert outcome.code == 0
    expected = [*PLAIN, b"directory/file", b"directory/link"]
    assert sorted(outcome.output.splitlines()) == sorted(expected)
    sizes = {
        item["path"]: item["size"] for item in json.loads(run("ls", "--json", *key, root).output)
    }
    assert (sizes["sparse"], sizes["block and one"], sizes["empty"]) == (20003, 4097, 0)
    for arguments in (["restore", *key, root, tmp_path / "plain"], ["verify", *key, root]):
        outcome = run(*arguments)
        assert (outcome.code, len(outcome.errors)) == (11, 1)
        assert "pip install PyNaCl" in outcome.errors[0]
    assert not (tmp_path / "plain").exists()


TREE: Tree = {b"a": b"first", b"b" * 230: b"long", b"d": {b"c": b"below", b"e": {b"f": b"deep"}}}


@pytest.mark.parametrize(
    ("flags", "limit"),
    [
        (FORWARD, 255),
        (FORWARD, 62),
        (FORWARD - {DIRIV}, 255),
        (FORWARD - {DIRIV}, 62),
        (FORWARD_PLAINTEXT_NAMES, 255),
        (REVERSE, 255),
    ],
)
def test_a_typed_path_is_a_tree_and_plain_names(
    tmp_path: Path, run: Run, flags: "frozenset[str]", limit: int
) -> None:
    """From anywhere above the config; encrypted names do as well; what is not there is one line."""
    made = make(tmp_path, TREE, flags, limit)
    key = ["--passfile", str(made.passfile)]
    assert run("cat", *key, made.at("d/e/f"), made.at("a")).output == b"deepfirst"
    assert run("cat", *key, made.at("b" * 230)).output == b"long"
    assert run("cat", *key, made.stored[b"d/e"] / "f").output == b"deep"
    assert run("cat", *key, made.stored[b"d/e/f"]).output == b"deep"
    for path in ("g", "a/b", "d/e/f/g", "gocryptfs.conf", "x" * 300, "d/../../a"):
        outcome = run("cat", *key, made.at(path))
        assert (outcome.code, len(outcome.errors)) in ((11, 1), (6, 1)), outcome


def test_a_tree_whose_config_is_elsewhere_begins_where_its_ivs_do(tmp_path: Path, run: Run) -> None:
    """Whatever is below it that exists: an encrypted path is as good there as a plain one."""
    made = make(tmp_path, TREE)
    config = tmp_path / "config"
    (made.root / "gocryptfs.conf").rename(config)
    key = ["--config", config, "--passfile", made.passfile]
    assert run("decrypt-path", *key, made.stored[b"d/e/f"]).output == b"d/e/f\n"
    assert run("cat", *key, made.stored[b"d/e"] / "f").output == b"deep"
    assert run("cat", *key, made.at("d/e/f")).output == b"deep"
    assert run("ls", *key, made.stored[b"d"]).output == b"c\ne\n"


def test_a_tree_may_begin_at_the_root_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Above which there is nothing more to look for."""
    monkeypatch.setattr(os.path, "lexists", lambda path: path.endswith("gocryptfs.diriv"))
    monkeypatch.setattr(os.path, "isdir", lambda path: True)
    assert locate("/a/b", "/config") == Location("/", "/config", b"a/b", is_reverse=False)


def test_without_a_config_above_there_is_no_tree(tmp_path: Path, run: Run) -> None:
    """One line, and gocryptfs's exit code for a bad directory."""
    outcome = run("ls", tmp_path / "x")
    assert (outcome.code, len(outcome.errors)) == (6, 1)


def test_what_is_not_the_users_is_not_shown(tmp_path: Path, run: Run) -> None:
    """IVs, companions, configs, and what an interrupted rmdir or passwd leaves."""
    made = make(tmp_path, TREE)
    (made.root / "gocryptfs.diriv.rmdir.17").write_bytes(b"x" * 16)
    (made.root / "gocryptfs.conf.1234abcd.tmp").write_bytes(b"x")
    outcome = run("ls", "--passfile", made.passfile, made.root)
    assert outcome == (0, b"a\n" + b"b" * 230 + b"\nd\n", [])


def test_plain_names_that_look_internal_are_the_users(tmp_path: Path, run: Run) -> None:
    """In a tree with plain names everything but the config itself, as a mount shows it."""
    tree: Tree = {
        b"gocryptfs.conf.1234abcd.tmp": b"x",
        b"gocryptfs.confuse.tmp": b"y",
        b"gocryptfs.diriv": b"z",
    }
    made = make(tmp_path, tree, FORWARD_PLAINTEXT_NAMES)
    key = ["--passfile", made.passfile, made.root]
    assert run("restore", *key, tmp_path / "plain") == (0, b"3 files restored\n", [])
    assert contents(tmp_path / "plain") == tree
    assert run("verify", "--against", tmp_path / "plain", *key).code == 0


def test_only_what_passwd_leaves_is_not_shown(tmp_path: Path, run: Run) -> None:
    """With encrypted names that has no other meaning; what has is named as lost."""
    made = make(tmp_path, TREE)
    for name in ("gocryptfs.conf.tmp", "gocryptfs.conf.bak", "gocryptfs.confuse.tmp"):
        (made.root / name).write_bytes(b"")
    outcome = run("ls", "--passfile", made.passfile, made.root)
    assert (outcome.code, len(outcome.errors)) == (26, 1)
    assert outcome.errors[0].startswith("gocryptfs.confuse.tmp ")


@pytest.mark.parametrize("name", [b"..", b".", b"x/../../y", b"/etc/passwd", b"x\0y", b"/"])
def test_a_name_that_cannot_be_one_is_damage(tmp_path: Path, run: Run, name: bytes) -> None:
    """Whoever has the key, but not the destination, could have made it: nothing leaves the destination."""
    made = make(tmp_path, TREE)
    evil = made.add_name(b"", name, checked=False)
    evil.write_bytes(made.encrypt(b"evil"))
    outcome = run("restore", "--passfile", made.passfile, made.root, tmp_path / "plain")
    assert outcome.code == 26
    [line] = outcome.errors
    assert line.startswith(f"{evil.name} ({evil.name}): its name is lost: ")
    assert contents(tmp_path / "plain") == {**TREE, os.fsencode(evil.name): b"evil"}
    assert sorted(os.listdir(str(tmp_path))) == ["encrypted", "password", "plain"]


@pytest.mark.parametrize("options", [[], ["--force"]])
def test_a_second_file_of_one_name_takes_nobody_s_place(
    tmp_path: Path, run: Run, options: List[str]
) -> None:
    """Whether it has the plain name or another encrypted form of it; each is named."""
    tree: Tree = {b"doc": b"mine", b"d": {b"file": b"below"}, b"l" * 50: b"hashed"}
    made = make(tmp_path, tree, limit=62)
    (made.root / "doc").write_bytes(made.encrypt(b"planted"))
    (made.root / "d").mkdir()
    (made.root / "d" / "file").write_bytes(made.encrypt(b"planted"))
    whole = os.fsdecode(made.names.encrypt_name(b"l" * 50, made.ivs[b""]))
    (made.root / whole).write_bytes(made.encrypt(b"planted"))
    words = ["--passfile", made.passfile, made.root, tmp_path / "plain"]
    outcome = run("restore", *options, *words)
    assert outcome.code == 26
    left_out = [line for line in outcome.errors if line.endswith("another file has this name")]
    assert {line.split(" ")[1] for line in left_out} == {"(doc):", "(d):", f"({whole}):"}
    assert contents(tmp_path / "plain") == tree


def test_a_lost_name_is_not_a_lost_file(tmp_path: Path, run: Run) -> None:
    """A companion that is gone or another's: the content comes back under the encrypted name."""
    made = make(tmp_path, {b"x" * 200: b"X", b"y" * 200: b"Y", b"z": b"Z"})
    paths = [made.stored[letter * 200] for letter in (b"x", b"y")]
    Path(f"{paths[0]}.name").unlink()
    Path(f"{paths[1]}.name").write_bytes(b"A" * 300)
    outcome = run("restore", "--passfile", made.passfile, made.root, tmp_path / "plain")
    assert outcome.code == 26
    assert sorted(line.split(" ", 1)[0] for line in outcome.errors) == sorted(p.name for p in paths)
    assert contents(tmp_path / "plain") == {
        b"z": b"Z",
        os.fsencode(paths[0].name): b"X",
        os.fsencode(paths[1].name): b"Y",
    }


def test_a_name_without_a_file_is_told_and_is_no_damage(tmp_path: Path, run: Run) -> None:
    """Who dies while making or removing a file leaves its companion, which tells the plain name."""
    made = make(tmp_path, {b"x" * 200: b"X", b"z": b"Z"})
    stored = made.stored[b"x" * 200]
    stored.unlink()
    line = "only its name is there; it was being made or removed, or is lost"
    outcome = run("verify", "--passfile", made.passfile, made.root)
    assert (outcome.code, outcome.errors) == (0, [f"{'x' * 200} ({stored.name}): {line}"])
    result = json.loads(run("verify", "--json", "--passfile", made.passfile, made.root).output)
    assert (result["damage"], result["left_over"]) == ([], ["x" * 200])


@pytest.mark.parametrize("content", [None, b"", b"short", bytes(16), b"x" * 17])
def test_a_lost_directory_iv_loses_the_names_of_one_directory(
    tmp_path: Path, run: Run, content: "bytes | None"
) -> None:
    """Each of its files is named by its encrypted name; directories below have their own IV."""
    made = make(tmp_path, TREE)
    iv = made.stored[b"d"] / "gocryptfs.diriv"
    iv.unlink()
    if content is not None:
        iv.write_bytes(content)
    outcome = run("restore", "--passfile", made.passfile, made.root, tmp_path / "plain")
    lost = [made.stored[path].name for path in (b"d/c", b"d/e")]
    assert outcome.code == 26
    assert sorted(line.split(" ", 1)[0] for line in outcome.errors) == sorted(
        f"d/{n}" for n in lost
    )
    restored = contents(tmp_path / "plain")
    assert restored.pop(b"d") == {
        os.fsencode(lost[0]): b"below",
        os.fsencode(lost[1]): {b"f": b"deep"},
    }
    assert sorted(restored) == [b"a", b"b" * 230]
    outcome = run("cat", "--passfile", made.passfile, made.at("d/c"))
    assert (outcome.code, len(outcome.errors)) == (26, 1)
    encrypted = made.at(f"d/{lost[1]}/f")
    assert run("cat", "--passfile", made.passfile, encrypted).output == b"deep"


def test_a_fifo_or_symlink_in_the_place_of_a_file_of_the_tree_is_not_opened(
    tmp_path: Path, run: Run
) -> None:
    """A FIFO as a directory's IV does not make anyone wait, a symlink is not followed."""
    made = make(tmp_path, {b"d": {b"x": b"X"}, b"e": {b"y": b"Y"}})
    for directory in (b"d", b"e"):
        iv = made.stored[directory] / "gocryptfs.diriv"
        iv.rename(tmp_path / f"{directory.decode()}-iv")
        if directory == b"d":
            os.mkfifo(str(iv))
        else:
            iv.symlink_to(tmp_path / "e-iv")
    outcome = run("verify", "--passfile", made.passfile, made.root)
    assert (outcome.code, len(outcome.errors)) == (26, 2)


@pytest.mark.skipif(os.geteuid() != 0, reason="a device needs root")
def test_a_device_in_the_place_of_a_file_of_the_tree_is_not_opened(
    tmp_path: Path, run: Run
) -> None:
    """That may do something, such as to rewind a tape; here it would fail: no device has the number."""
    made = make(tmp_path, {b"d": {b"x": b"X"}, b"l" * 200: b"content"})
    (directory_iv,) = made.stored[b"d"].glob("gocryptfs.diriv")
    (companion,) = made.root.glob("*.name")
    for path in (directory_iv, companion):
        path.unlink()
        os.mknod(str(path), stat.S_IFCHR | 0o600, 0)
    outcome = run("verify", "--passfile", made.passfile, made.root)
    assert outcome.code == 26
    assert [line.endswith("not a regular file") for line in outcome.errors] == [True, True]


def test_a_listing_has_what_ls_has(tmp_path: Path, run: Run) -> None:
    """Types, modes, sizes, targets and times, as text and as JSON; odd bytes survive."""
    made = make(tmp_path, {b"a\xff\n": b"12345", b"d": {b"f": b""}, b"l": Link(b"t")})
    made.stored[b"a\xff\n"].chmod(0o640)
    os.utime(str(made.stored[b"a\xff\n"]), ns=(0, 1234567890123456789))
    outcome = run("ls", "-lR", "--passfile", made.passfile, made.root)
    lines = outcome.output.replace(b"a\xff\n\n", b"odd\n").splitlines()
    assert [line[:11] for line in lines] == [
        b"-rw-r----- ",
        b"drwxr-xr-x ",
        b"-rw-r--r-- ",
        b"lrwxrwxrwx ",
    ]
    assert lines[0].split()[4] == b"5"
    assert lines[2].endswith(b" d/f")
    assert lines[3].endswith(b" l -> t")
    listed = json.loads(run("ls", "-R", "--json", "--passfile", made.passfile, made.root).output)
    first = listed[0]
    assert os.fsencode(first["path"]) == b"a\xff\n"
    assert first["encrypted"] == made.encrypted(b"a\xff\n")
    assert (first["type"], first["size"], first["mode"]) == ("file", 5, "0640")
    assert first["mtime_ns"] == 1234567890123456789
    assert listed[3]["target"] == "t"


def test_paths_are_encrypted_and_decrypted(tmp_path: Path, run: Run) -> None:
    """The last name need not exist; both directions agree with the disk."""
    made = make(tmp_path, TREE)
    key = ["--passfile", str(made.passfile)]
    for path in (b"a", b"b" * 230, b"d/c", b"d/e/f"):
        encrypted = made.encrypted(path)
        assert (
            run("encrypt-path", *key, made.at(path.decode())).output == encrypted.encode() + b"\n"
        )
        assert run("decrypt-path", *key, made.at(encrypted)).output == path + b"\n"
    assert run("encrypt-path", *key, made.at("d/new")).code == 0
    outcome = run("decrypt-path", *key, made.at("AAAA"))  # less than a block: under any key no name
    assert (outcome.code, len(outcome.errors)) == (11, 1)
