"""Trees and passwords are made and changed; a user's mistake is one line and an exit code."""

import io
import json
import os
import pty
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Callable, List

import pytest

from fusepy_legacy import errors
from fusepy_legacy.commands import vault
from fusepy_legacy.commands.vault import EPILOG
from fusepy_legacy.crypt import reverse
from fusepy_legacy.crypt.config import parse
from fusepy_legacy.vault.config_file import write_config
from tests.vault_trees import COMMAND, ENVIRONMENT, PASSWORD, Made, Outcome, make, runner

Run = Callable[..., Outcome]

LONG = "n" * 200


@pytest.fixture
def run(capfdbinary: pytest.CaptureFixture[bytes]) -> Run:
    """Run a command in this process."""
    return runner(capfdbinary.readouterr)


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """An encrypted tree."""
    return make(tmp_path, {b"f": b"content"})


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """An empty directory."""
    path = tmp_path / "directory"
    path.mkdir()
    return path


def file_with(directory: Path, content: bytes) -> Path:
    path = directory / f"file-{len(os.listdir(str(directory)))}"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("options", "flags", "names"),
    [
        ([], "DirIV EMENames GCMIV128 HKDF LongNames Raw64", ["gocryptfs.conf", "gocryptfs.diriv"]),
        (
            ["--aessiv"],
            "AESSIV DirIV EMENames GCMIV128 HKDF LongNames Raw64",
            ["gocryptfs.conf", "gocryptfs.diriv"],
        ),
        (["--plaintextnames"], "GCMIV128 HKDF PlaintextNames", ["gocryptfs.conf"]),
        (["--deterministic-names"], "EMENames GCMIV128 HKDF LongNames Raw64", ["gocryptfs.conf"]),
        (
            ["--longnamemax", "62"],
            "DirIV EMENames GCMIV128 HKDF LongNameMax LongNames Raw64",
            ["gocryptfs.conf", "gocryptfs.diriv"],
        ),
        (
            ["--reverse"],
            "AESSIV DirIV EMENames GCMIV128 HKDF LongNames Raw64",
            [".gocryptfs.reverse.conf"],
        ),
        pytest.param(
            ["--xchacha"],
            "DirIV EMENames HKDF LongNames Raw64 XChaCha20Poly1305",
            ["gocryptfs.conf", "gocryptfs.diriv"],
            marks=pytest.mark.skipif(find_spec("nacl") is None, reason="PyNaCl is not installed"),
        ),
    ],
)
def test_init_makes_a_tree(
    tmp_path: Path, run: Run, directory: Path, options: List[str], flags: str, names: List[str]
) -> None:
    """Its config and, where names have one, the root's IV; info shows what it is."""
    password = file_with(tmp_path, b"secret\n")
    outcome = run("init", "--scryptn", "10", "--passfile", password, *options, directory)
    assert (outcome.code, outcome.errors) == (0, [])
    assert sorted(os.listdir(str(directory))) == names
    assert stat.S_IMODE((directory / names[0]).stat().st_mode) == 0o400
    information = json.loads(run("info", "--json", directory).output)
    assert " ".join(information["flags"]) == flags
    assert information["scrypt"]["n"] == 1024
    assert flags.encode() in run("info", directory).output
    again = run("init", "--passfile", password, *options, directory)
    assert (again.code, len(again.errors)) == (6, 1)
    assert parse((directory / names[0]).read_bytes()).unlock(b"secret")


def test_init_cleans_up_when_the_config_cannot_be_written(
    tmp_path: Path, run: Run, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 24, and the directory is empty as before."""
    fsync = os.fsync

    def fail_on_configs(descriptor: int) -> None:
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith(".conf"):
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fail_on_configs)
    password = file_with(tmp_path, b"secret\n")
    outcome = run("init", "--scryptn", "10", "--passfile", password, directory)
    assert (outcome.code, len(outcome.errors)) == (24, 1)
    assert os.listdir(str(directory)) == []


def test_a_password_comes_from_files_a_program_or_standard_input(
    tmp_path: Path, run: Run, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first line; several files are joined."""
    half, rest = file_with(tmp_path, b"sam\nx"), file_with(tmp_path, b"ple")
    assert run("ls", "--passfile", half, "--passfile", rest, made.root).code == 0
    assert run("ls", "--extpass", "printf 'sample\\nmore'", made.root).code == 0
    for text in (b"sample\nmore", b"sample"):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
        assert run("ls", made.root).code == 0


@pytest.mark.parametrize(
    ("password", "code"),
    [(b"Sample\n", 12), (b"", 22), (b"\nsample", 22), (b"x" * 2049, 9), (b"\xff\n", 12)],
)
def test_a_password_that_does_not_open(
    tmp_path: Path, run: Run, made: Made, password: bytes, code: int
) -> None:
    """Wrong, empty or too long: one line and its exit code, from wherever it comes."""
    path = file_with(tmp_path, password)
    for source in (["--passfile", path], ["--extpass", f"cat {shlex.quote(str(path))}"]):
        outcome = run("ls", *source, made.root)
        assert (outcome.code, len(outcome.errors)) == (code, 1)


def test_keys_stay_in_the_process(tmp_path: Path, made: Made) -> None:
    """No core file, and where memory may be locked no swap, from before the password is there."""
    shown = tmp_path / "shown"
    script = f"cat /proc/$PPID/limits /proc/$PPID/status > {shown}; cat {made.passfile}"
    command = [*COMMAND, "ls", "--extpass", f'sh -c "{script}"', str(made.root)]
    subprocess.run(command, env=ENVIRONMENT, check=True, stdout=subprocess.DEVNULL)
    assert re.search(r"^Max core file size +0 +0 ", shown.read_text(), re.M)
    assert os.geteuid() != 0 or re.search(r"^VmLck:\s+[1-9]", shown.read_text(), re.M)


@pytest.mark.parametrize(
    "command", ["", "false", "/does/not/exist", "echo 'x", "cat /dev/zero", "yes"]
)
def test_a_program_that_gives_no_password(run: Run, made: Made, command: str) -> None:
    """One line says what is wrong with it."""
    outcome = run("ls", "--extpass", command, made.root)
    assert (outcome.code, len(outcome.errors)) == (9, 1)
    assert "extpass" in outcome.errors[0]


CONTROLS = [b"\x03", b"\x04"]  # Ctrl-C, Ctrl-D


def on_terminal(
    typed: List[bytes], *arguments: object, command: List[str] = COMMAND
) -> "tuple[int, bytes]":
    """Run a command on a terminal of its own and answer each prompt; (exit code, all that was shown)."""
    pid, terminal = pty.fork()
    if pid == 0:
        # Python 3.7 and newer take text for UTF-8 then, in any locale.
        environment = {**ENVIRONMENT, "PYTHONUTF8": "1"}
        os.execve(command[0], [*command, *map(str, arguments)], environment)
    shown, answers = b"", list(typed)
    try:
        while True:
            shown += os.read(terminal, 1024)
            # The prompt comes after echo was switched off, which throws away what was typed before.
            if answers and shown.count(b": ") > len(typed) - len(answers):
                answer = answers.pop(0)
                os.write(terminal, answer if answer in CONTROLS else answer + b"\n")
    except OSError:  # EIO: the program has ended
        os.close(terminal)
    _, status = os.waitpid(pid, 0)
    return os.WEXITSTATUS(status), shown


def test_a_terminal_is_asked_twice_for_a_new_password(directory: Path) -> None:
    """Nothing typed is shown; a typing error makes nothing."""
    command = ["init", "--scryptn", "10", directory]
    code, shown = on_terminal([b"secret", b"sekret"], *command)
    assert code == 9
    assert b"the two passwords differ" in shown
    assert os.listdir(str(directory)) == []
    code, shown = on_terminal([b"secret", b"secret"], *command)
    assert code == 0
    assert b"secret" not in shown
    assert on_terminal([b"secret"], "ls", directory)[0] == 0
    assert on_terminal([b"wrong"], "ls", directory)[0] == 12


@pytest.mark.parametrize(
    ("typed", "code"), [(b"\x04", 22), (b"\x03", 15), (b"p\xff", 9)], ids=["^D", "^C", "latin-1"]
)
def test_a_prompt_that_gets_no_password(made: Made, typed: bytes, code: int) -> None:
    """Ended, interrupted, or answered with bytes that are no text: one line and its exit code."""
    found, shown = on_terminal([typed], "ls", made.root)
    assert (found, shown.count(b"\n")) == (code, 1), shown


def test_passwd_changes_the_password(tmp_path: Path, run: Run, made: Made) -> None:
    """The old one opens no more, the new one does; the content is as before."""
    new = file_with(tmp_path, b"new\n")
    key = run("masterkey", "--passfile", made.passfile, made.root).output
    command = ["passwd", "--scryptn", "10", "--new-passfile", new]
    assert run(*command, "--passfile", made.passfile, made.root) == (0, b"", [])
    assert run("ls", "--passfile", made.passfile, made.root).code == 12
    assert run("cat", "--passfile", new, made.at("f")).output == b"content"
    assert run("masterkey", "--passfile", new, made.root).output == key
    assert sorted(path.name for path in made.root.glob("gocryptfs*")) == [
        "gocryptfs.conf",
        "gocryptfs.diriv",
    ]


@pytest.mark.parametrize(("words", "n"), [([], 1 << 11), (["--scryptn", "12"], 1 << 12)])
def test_passwd_leaves_the_cost_of_a_guess(
    tmp_path: Path, run: Run, made: Made, words: List[str], n: int
) -> None:
    """A tree that was made with another than the usual one keeps it, unless another is asked for."""
    config = made.config.with_password(made.master_key, PASSWORD, 1 << 11)
    write_config(str(made.root), config.to_bytes(), replace=True)
    new = file_with(tmp_path, b"new\n")
    passfiles = ["--passfile", made.passfile, "--new-passfile", new]
    assert run("passwd", *words, *passfiles, made.root).code == 0
    assert parse((made.root / "gocryptfs.conf").read_bytes()).scrypt.n == n


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_passwd_leaves_the_config_to_its_owner(tmp_path: Path, run: Run, made: Made) -> None:
    """Root may change the password of a user's tree; whose it is, and who may read it, stays."""
    config = made.root / "gocryptfs.conf"
    os.chown(str(config), 1234, 5678)
    config.chmod(0o440)
    new = file_with(tmp_path, b"new\n")
    words = ["--scryptn", "10", "--passfile", made.passfile, "--new-passfile", new]
    assert run("passwd", *words, made.root).code == 0
    status = config.stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (1234, 5678, 0o440)


def test_passwd_changes_what_a_link_leads_to(tmp_path: Path, run: Run, made: Made) -> None:
    """A config that is kept elsewhere stays there, and the link a link."""
    config, kept = made.root / "gocryptfs.conf", tmp_path / "kept.conf"
    config.rename(kept)
    config.symlink_to(kept)
    before = kept.read_bytes()
    new = tmp_path / "new"
    new.write_text("new\n")
    words = ["--scryptn", "10", "--passfile", made.passfile, "--new-passfile", new]
    assert run("passwd", *words, made.root).code == 0
    assert config.is_symlink()
    assert kept.read_bytes() != before
    assert run("ls", "--passfile", new, made.root).code == 0


def test_passwd_reads_both_passwords_from_standard_input(
    run: Run, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old one in the first line, the new one in the second."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"sample\nnew\n")))
    assert run("passwd", "--scryptn", "10", made.root).code == 0
    assert parse((made.root / "gocryptfs.conf").read_bytes()).unlock(b"new") == made.master_key


def test_a_master_key_opens_what_a_forgotten_password_does_not(
    tmp_path: Path, run: Run, made: Made
) -> None:
    """masterkey prints it; from a file it replaces the password, also to set a new one."""
    key = file_with(tmp_path, run("masterkey", "--passfile", made.passfile, made.root).output)
    new = file_with(tmp_path, b"new\n")
    assert run("cat", "--masterkey", key, made.at("f")).output == b"content"
    command = ["passwd", "--scryptn", "10", "--masterkey", key, "--new-passfile", new]
    assert run(*command, made.root).code == 0
    assert run("cat", "--passfile", new, made.at("f")).output == b"content"
    outcome = run("ls", "--masterkey", new, made.root)
    assert (outcome.code, len(outcome.errors)) == (14, 1)


def test_a_tree_that_a_fido2_token_opens(tmp_path: Path, run: Run, made: Made) -> None:
    """A password is refused with a hint, and none is set: gocryptfs would go on asking the token."""
    config = made.root / "gocryptfs.conf"
    key = file_with(tmp_path, run("masterkey", "--passfile", made.passfile, made.root).output)
    token = made.config._replace(flags=made.config.flags | {"FIDO2"}, other={"FIDO2": {}})
    config.unlink()
    config.write_bytes(token.to_bytes())
    wrong = file_with(tmp_path, b"a password")
    outcome = run("ls", "--passfile", wrong, made.root)
    assert outcome.code == 12
    assert "FIDO2" in outcome.errors[0]
    assert run("cat", "--masterkey", key, made.at("f")).output == b"content"
    outcome = run("passwd", "--masterkey", key, "--new-passfile", wrong, made.root)
    assert (outcome.code, len(outcome.errors)) == (1, 1)
    assert config.read_bytes() == token.to_bytes()


def test_a_wrong_master_key_costs_no_config(tmp_path: Path, run: Run, made: Made) -> None:
    """The old config stays beside the new one, which nothing but its owner takes away again."""
    config, kept = made.root / "gocryptfs.conf", made.root / "gocryptfs.conf.bak"
    before = config.read_bytes()
    key, new = file_with(tmp_path, b"1" * 64), file_with(tmp_path, b"new\n")
    command = ["passwd", "--scryptn", "10", "--masterkey", key, "--new-passfile", new, made.root]
    outcome = run(*command)
    assert outcome.code == 0
    assert str(kept).encode() in outcome.output
    assert kept.read_bytes() == before != config.read_bytes()
    after = config.read_bytes()
    outcome = run(*command)
    assert (outcome.code, len(outcome.errors)) == (24, 1)
    assert (kept.read_bytes(), config.read_bytes()) == (before, after)
    kept.rename(config)
    assert run("cat", "--passfile", made.passfile, made.at("f")).output == b"content"


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"x" * 70000, b'{"Version": 3}', None], ids=["0", "1", "2", "3", "fifo"]
)
def test_a_config_that_cannot_be_read(run: Run, made: Made, content: "bytes | None") -> None:
    """Exit code 23 and one line; nobody is asked for a password, nothing waits for a FIFO."""
    config = made.root / "gocryptfs.conf"
    config.unlink()
    if content is None:
        os.mkfifo(str(config))
    else:
        config.write_bytes(content)
    for command in ("info", "ls", "passwd", "masterkey", "verify"):
        outcome = run(command, made.root)
        assert (outcome.code, len(outcome.errors)) == (23, 1)


def test_a_creator_that_cannot_be_printed(run: Run, made: Made) -> None:
    """Half of a surrogate pair, which JSON can hold: the rest of the config is shown."""
    config = made.root / "gocryptfs.conf"
    data = config.read_bytes().replace(b"fusepy-legacy", b"\\ud800")
    config.chmod(0o600)
    config.write_bytes(data)
    assert b"creator: ?\n" in run("info", made.root).output


def test_a_config_may_be_elsewhere(tmp_path: Path, run: Run, made: Made) -> None:
    """A view that does not show it, with a copy that was kept: --config."""
    kept = tmp_path / ".gocryptfs.reverse.conf"
    (made.root / "gocryptfs.conf").rename(kept)
    command = ["--config", kept, "--passfile", made.passfile, made.at("f")]
    assert run("cat", *command).output == b"content"


def test_a_plain_directory_with_a_config_is_no_encrypted_tree(
    tmp_path: Path, run: Run, directory: Path
) -> None:
    """But its paths are encrypted and decrypted as its view shows them, with every kind of name."""
    password = file_with(tmp_path, b"secret\n")
    key = ["--passfile", password]
    assert run("init", "--reverse", "--scryptn", "10", *key, directory).code == 0
    (directory / "d").mkdir()
    (directory / "d" / ("x" * 200)).write_text("x")
    outcome = run("ls", *key, directory)
    assert (outcome.code, len(outcome.errors)) == (6, 1)
    config = parse((directory / ".gocryptfs.reverse.conf").read_bytes())
    names = config.name_cipher(config.unlock(b"secret"))
    first = names.encrypt_name(b"d", reverse.directory_iv(b""))
    second = names.stored_name(names.encrypt_name(b"x" * 200, reverse.directory_iv(first)))
    plain, encrypted = f"d/{'x' * 200}", f"{first.decode()}/{second.decode()}"
    assert run("encrypt-path", *key, f"{directory}/{plain}").output == f"{encrypted}\n".encode()
    assert run("decrypt-path", *key, f"{directory}/{encrypted}").output == f"{plain}\n".encode()
    kept = tmp_path / "kept.conf"
    (directory / ".gocryptfs.reverse.conf").rename(kept)
    key += ["--config", kept, "--root", directory]
    assert run("encrypt-path", *key, f"{directory}/{plain}").output == f"{encrypted}\n".encode()
    assert run("decrypt-path", *key, f"{directory}/{encrypted}").output == f"{plain}\n".encode()
    assert run("encrypt-path", *key, f"{directory}/new/file").code == 0
    outcome = run("encrypt-path", *key, tmp_path)
    assert (outcome.code, len(outcome.errors)) == (1, 1)


def test_the_paths_of_a_view_of_several_directories(run: Run, tmp_path: Path) -> None:
    """They start with the label of the innermost root that a plain path is in."""
    outer, inner, other = (tmp_path / name for name in ("outer", "outer/inner", "other"))
    inner.mkdir(parents=True)
    other.symlink_to(outer, target_is_directory=True)
    (outer / LONG).write_text("")
    label = "the/" + "third" * 40
    overlapping = "overlapping = yes\nread_only = yes\n"
    text = f"[first]\npath = {outer}\n[the/second]\npath = {inner}\n{overlapping}"
    text += f"[{label}]\npath = {other}\n{overlapping}"
    roots = file_with(tmp_path, text.encode())
    password = file_with(tmp_path, b"secret\n")
    assert run("init", "--reverse", "--scryptn", "10", "--passfile", password, outer).code == 0
    kept = tmp_path / "kept.conf"
    (outer / ".gocryptfs.reverse.conf").rename(kept)
    config = parse(kept.read_bytes())
    names = config.name_cipher(config.unlock(b"secret"))
    key = ["--passfile", password, "--config", kept]

    def encrypted(path: str) -> bytes:
        stored = b""
        for name in path.encode().split(b"/"):
            whole = names.encrypt_name(name, reverse.directory_iv(stored[1:]))
            stored += b"/" + names.stored_name(whole)
        return stored[1:] + b"\n"

    for plain, shown in [
        (outer / "a" / "file", "first/a/file"),
        (outer, "first"),
        (inner / "file", "the/second/file"),
        (outer / LONG, f"first/{LONG}"),
        (other / LONG, f"{label}/{LONG}"),
    ]:
        stored = encrypted(shown)
        assert run("encrypt-path", *key, "--roots", roots, plain).output == stored
        words = ["decrypt-path", *key, "--roots", roots, "/" + os.fsdecode(stored.strip())]
        assert run(*words).output == f"{plain}\n".encode()
    unknown = "m" * 200
    for path, code in [("the", 1), (f"first/{unknown}", 11), (f"the/{unknown}/file", 11)]:
        words = ["decrypt-path", *key, "--roots", roots, "/" + os.fsdecode(encrypted(path).strip())]
        outcome = run(*words)
        assert (outcome.code, len(outcome.errors)) == (code, 1)
    for mistake in [
        [*key, "--roots", roots, tmp_path],
        [*key, "--roots", roots, "--root", outer, outer],
        ["--passfile", password, "--roots", roots, outer],
    ]:
        outcome = run("encrypt-path", *mistake)
        assert (outcome.code, len(outcome.errors)) == (1, 1)
    outcome = run("encrypt-path", *key, "--roots", tmp_path / "missing", outer)
    assert (outcome.code, len(outcome.errors)) == (23, 1)


MISTAKES = [
    (["encrypt-path", "--root", "DIR", "DIR/file"], 1),
    ([], 1),
    (["lss"], 1),
    (["ls"], 1),
    (["ls", "--password", "x", "DIR"], 1),
    (["init", "--scryptn", "40", "EMPTY"], 1),
    (["init", "--longnamemax", "5", "--extpass", "echo x", "EMPTY"], 1),
    (["init", "--plaintextnames", "--longnamemax", "99", "--extpass", "echo x", "EMPTY"], 1),
    (["init", "--xchacha", "--aessiv", "--extpass", "echo x", "EMPTY"], 1),
    (["init", "--extpass", "echo x", "DIR"], 6),
    (["restore", "DIR"], 1),
    (["restore", "--extpass", "echo sample", "DIR", "DIR/f", "EMPTY"], 1),
    (["restore", "--extpass", "echo sample", "DIR", "DIR"], 6),
    (["cat", "--range", "9-1", "DIR/f"], 1),
    (["cat", "--extpass", "echo sample", "DIR"], 11),
    (["cat", "--extpass", "echo sample", "DIR/f", "EMPTY"], 6),
    (["cat", "--extpass", "echo sample", "DIR/g"], 11),
    (["verify", "--extpass", "echo sample", "--against", "/does/not/exist", "DIR"], 6),
    (["verify", "--extpass", "echo sample", "--metadata", "DIR"], 1),
    (["ls", "--passfile", "/does/not/exist", "DIR"], 9),
]


def test_a_number_out_of_range_is_told_with_its_limits(run: Run, directory: Path) -> None:
    """In a line that can be read."""
    outcome = run("init", "--longnamemax", "300", str(directory))
    assert "'300' is not 62 to 255" in outcome.errors[0]
    assert len(outcome.errors[0]) < 120


@pytest.mark.parametrize(
    ("arguments", "code"), MISTAKES, ids=[" ".join(row[0]) for row in MISTAKES]
)
def test_a_mistake_is_one_line(
    run: Run, made: Made, directory: Path, arguments: List[str], code: int
) -> None:
    """No traceback, nothing made, and the exit code that README.md has for it."""
    places = {"DIR": str(made.root), "EMPTY": str(directory)}
    for path in ("f", "g"):
        places[f"DIR/{path}"] = made.at(path)
    outcome = run(*(places.get(word, word) for word in arguments))
    assert (outcome.code, len(outcome.errors)) == (code, 1), outcome
    assert outcome.errors[0].startswith("fusepy-vault")
    assert os.listdir(str(directory)) == []


def test_the_exit_codes_are_one_table() -> None:
    """Those that README.md and --help list are the ones that there are."""
    codes = {getattr(errors, name) for name in dir(errors) if name.startswith("EXIT_")}
    readme = Path(__file__).resolve().parents[1] / "README.md"
    rows = re.findall(r"^\| ([\d, ]+) \| ", readme.read_text(), re.M)
    assert {int(code) for row in rows for code in row.split(", ")} == codes | {0}
    assert {int(code) for code in re.findall(r"(\d+) ", EPILOG)} <= codes | {0}


@pytest.mark.skipif(shutil.which("gocryptfs") is None, reason="gocryptfs is missing")
@pytest.mark.parametrize(
    ("theirs", "ours", "code"),
    [
        (["-nope"], ["--nope"], 1),
        (["-init", "-longnamemax", "5", "EMPTY"], ["init", "--longnamemax", "5", "EMPTY"], 1),
        (["-init", "TREE"], ["init", "TREE"], 6),
        (["-init", "/does/not/exist"], ["init", "/does/not/exist"], 6),
        (["-passwd", "-passfile", "/none", "TREE"], ["passwd", "--passfile", "/none", "TREE"], 9),
        (["-passwd", "-extpass", "false", "TREE"], ["passwd", "--extpass", "false", "TREE"], 9),
        (["-passwd", "-passfile", "LONG", "TREE"], ["passwd", "--passfile", "LONG", "TREE"], 9),
        (["-passwd", "-extpass", "echo x", "TREE"], ["passwd", "--extpass", "echo x", "TREE"], 12),
        (["-passwd", "-masterkey", "x", "TREE"], ["passwd", "--masterkey", "NOKEY", "TREE"], 14),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_the_exit_codes_are_those_of_gocryptfs(
    tmp_path: Path, run: Run, made: Made, theirs: List[str], ours: List[str], code: int
) -> None:
    """Where they mean the same."""
    places = {"TREE": made.root, "EMPTY": tmp_path / "empty"}
    places.update({name: tmp_path / name for name in ("LONG", "NOKEY")})
    places["EMPTY"].mkdir()
    places["LONG"].write_bytes(b"x" * 2049)
    places["NOKEY"].write_bytes(b"x")
    words = [str(places.get(word, word)) for word in theirs]
    command = ["gocryptfs", "-q", "-nosyslog", *words]
    process = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    assert process.returncode == code
    assert run(*(places.get(word, word) for word in ours)).code == code


def test_termination_is_an_interruption(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """SIGTERM ends it with the line and the exit code of Ctrl-C."""
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        monkeypatch.setattr(vault, "measure", lambda: os.kill(os.getpid(), signal.SIGTERM))
        monkeypatch.setattr(sys, "argv", ["fusepy-vault", "speed"])
        os._exit(vault.main())
    assert os.waitpid(pid, 0)[1] == 15 << 8
    assert capfd.readouterr().err == "fusepy-vault: interrupted\n"


def test_an_interruption_has_an_exit_code(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of gocryptfs, and one line."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(vault, "measure", interrupt)
    outcome = run("speed")
    assert (outcome.code, outcome.errors) == (15, ["fusepy-vault: interrupted"])


def test_names_do_nothing_to_a_terminal(tmp_path: Path) -> None:
    """Control characters are shown, not obeyed; through a pipe names are as they are."""
    made = make(tmp_path, {b"\x1b[2Jx\n": b"", "ä".encode(): b""})
    command = ["ls", "--passfile", made.passfile, made.root]
    _, shown = on_terminal([], *command)
    assert shown == b"\\x1b[2Jx\\n\r\n" + "ä".encode() + b"\r\n"


def test_a_reader_that_goes_away_is_no_mistake(made: Made) -> None:
    """ls | head: no traceback."""
    made.add_name(b"", b"big").write_bytes(made.encrypt(bytes(1 << 20)))
    reader, writer = os.pipe()
    os.close(reader)
    command = [*COMMAND, "cat", "--passfile", str(made.passfile), made.at("big")]
    process = subprocess.Popen(command, stdout=writer, stderr=subprocess.PIPE, env=ENVIRONMENT)
    os.close(writer)
    _, errors = process.communicate(timeout=20)
    assert errors == b""


def test_no_standard_output(made: Made) -> None:
    """Nothing is done without, in one line."""
    command = " ".join(map(shlex.quote, [*COMMAND, "info", str(made.root)]))
    process = subprocess.run(
        ["/bin/sh", "-c", f"{command} >&-"], stderr=subprocess.PIPE, env=ENVIRONMENT
    )
    assert process.returncode == 1
    assert process.stderr == b"fusepy-vault: there is no standard output\n"


def test_speed_is_measured(run: Run) -> None:
    """A line for each cipher that there is."""
    lines = run("speed").output.decode().splitlines()
    assert [line.split(":")[0] for line in lines][:2] == ["AES-GCM", "AES-SIV"]


def test_help_says_where_passwords_come_from(run: Run) -> None:
    """And no option takes one."""
    outcome = run("--help")
    assert outcome.code == 0
    assert b"standard input" in outcome.output
    assert PASSWORD not in outcome.output
