"""fusepy-crypt: what it says and with which exit code, who sees what, and how it ends."""

# ruff: noqa: F811 - fixtures are imported

import os
import pwd
from pathlib import Path

import pytest

from fusepy_legacy.crypt.config import FORWARD, REVERSE_CONFIG_FILE, create
from fusepy_legacy.vault.config_file import write_config
from tests.mounted.commands import Outcome, Word, output_of, run, server_environment, wait_until
from tests.mounted.encrypted_views import CRYPT, ENVIRONMENT, PASSWORD, Source, make_source
from tests.mounted.mounting import PROGRAMS, Mounted, is_mounted, mount_types, unmount
from tests.mounted.test_users import Desk, as_user, desk, user  # noqa: F401
from tests.mounted.trees import all_below
from tests.test_vault_commands import on_terminal
from tests.vault_trees import COMMAND as VAULT


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """A plain directory with a config and a file."""
    made = make_source(tmp_path)
    (made.root / "file").write_text("content")
    return made


def crypt(source: Source, *options: str, switches: "tuple[Word, ...]" = ()) -> Outcome:
    """Run fusepy-crypt in the foreground with these options only."""
    words = ["-o", ",".join(options)] if options else []
    environment = server_environment(ENVIRONMENT)
    return run([*CRYPT, source.view, "-f", *switches, *words], environment=environment)


def test_a_wrong_password_is_12(source: Source) -> None:
    """One line, and nothing is mounted."""
    source.passfile.write_text("wrong\n")
    outcome = crypt(source, f"root={source.root}", f"passfile={source.passfile}")
    assert outcome == Outcome(12, "", "fusepy-crypt: the password is wrong\n")
    assert not is_mounted(source.view)


def test_an_empty_password_is_22(source: Source) -> None:
    """From a file, or from standard input at its end."""
    source.passfile.write_text("\n")
    for options in ([f"passfile={source.passfile}"], []):
        outcome = crypt(source, f"root={source.root}", *options)
        assert outcome == Outcome(22, "", "fusepy-crypt: the password is empty\n")


@pytest.mark.parametrize(("typed", "code"), [(b"\x04", 22), (b"\x03", 15)], ids=["^D", "^C"])
def test_a_prompt_that_gets_no_password(source: Source, typed: bytes, code: int) -> None:
    """Ended or interrupted: one line and its exit code, and nothing is mounted."""
    found, shown = on_terminal([typed], source.root, source.view, command=CRYPT)
    assert (found, shown.count(b"\n")) == (code, 1), shown
    assert not is_mounted(source.view)


def test_a_missing_or_broken_config_is_23(source: Source) -> None:
    """It says which file, and how one is made; of another one that was named, only which."""
    config = source.root / ".gocryptfs.reverse.conf"
    config.chmod(0o600)
    config.write_text("{}")
    words = [f"root={source.root}", f"passfile={source.passfile}"]
    outcome = crypt(source, *words)
    assert (outcome.code, outcome.errors.count("\n")) == (23, 1)
    assert str(config) in outcome.errors
    config.unlink()
    missing = "No such file or directory"
    for options, name, command in (
        ([], config, "fusepy-vault init --reverse DIR"),
        (["forward"], source.root / "gocryptfs.conf", "fusepy-vault init DIR"),
    ):
        outcome = crypt(source, *words, *options)
        assert (outcome.code, outcome.errors.count("\n")) == (23, 1)
        assert outcome.errors.startswith(f"fusepy-crypt: {name}: {missing}; ")
        assert f"make one with: {command}" in outcome.errors
    outcome = crypt(source, *words, "config=/nowhere")
    assert outcome == Outcome(23, "", f"fusepy-crypt: /nowhere: {missing}\n")
    assert crypt(source, *words, f"config={source.root}").code == 23


def test_a_config_without_aes_siv_is_1(source: Source) -> None:
    """Its cipher would break when nonces repeat, which in this view they do."""
    (source.root / ".gocryptfs.reverse.conf").unlink()
    config, _ = create(PASSWORD, FORWARD, scrypt_n=1024)
    write_config(str(source.root), config.to_bytes(), REVERSE_CONFIG_FILE)
    outcome = crypt(source, f"root={source.root}", f"passfile={source.passfile}")
    assert (outcome.code, outcome.errors.count("\n")) == (1, 1)
    assert "AESSIV" in outcome.errors


@pytest.mark.parametrize("place", ["", "inside"])
def test_a_mount_point_in_the_root_is_10(source: Source, place: str) -> None:
    """The view would show itself, or hide its source."""
    point = source.root / place
    point.mkdir(exist_ok=True)
    words = [f"root={source.root}", f"passfile={source.passfile}", "nonempty"]
    outcome = run([*CRYPT, point, "-f", "-o", ",".join(words)], environment=ENVIRONMENT)
    assert (outcome.code, outcome.errors.count("\n")) == (10, 1)


def test_usage_is_1(source: Source) -> None:
    """No root, an unknown option, an impossible time to be idle."""
    assert crypt(source).code == 1
    words = [f"root={source.root}", f"passfile={source.passfile}"]
    for option in ("nonsense", "idle=0", "idle=-1", "idle=nan", "idle=soon"):
        outcome = crypt(source, *words, option)
        assert (outcome.code, outcome.errors.count("\n")) == (1, 1), option


@pytest.mark.parametrize(
    ("options", "refused"),
    [
        ("watch", "watch"),
        ("forward,watch", "watch"),
        ("forward,relative_symlinks", "relative_symlinks"),
    ],
)
def test_what_the_views_cannot_do_is_refused(source: Source, options: str, refused: str) -> None:
    """Options of the mirror that would do nothing here, or something wrong."""
    outcome = crypt(source, f"root={source.root}", f"passfile={source.passfile}", options)
    assert (outcome.code, outcome.errors.count("\n")) == (1, 1)
    assert f"-o {refused} " in outcome.errors


def test_a_missing_passfile_is_9(source: Source) -> None:
    """It says which."""
    outcome = crypt(source, f"root={source.root}", "passfile=/nowhere")
    assert outcome == Outcome(9, "", "fusepy-crypt: /nowhere: No such file or directory\n")


def test_the_password_can_come_from_a_program(source: Source) -> None:
    """Run without a shell."""
    words = f"root={source.root},extpass=cat {source.passfile}"
    with Mounted([*CRYPT, source.view, "-f", "-o", words], source.view, ENVIRONMENT):
        assert len(os.listdir(str(source.view))) == 3


def test_the_root_can_be_the_first_argument(source: Source) -> None:
    """As mount(8) calls its helpers."""
    words = ["-o", f"passfile={source.passfile}"]
    with Mounted([*CRYPT, source.root, source.view, "-f", *words], source.view, ENVIRONMENT):
        assert len(os.listdir(str(source.view))) == 3


def test_the_stock_engine_shows_the_same(source: Source) -> None:
    """But for what it cannot: docs/handlers.md."""
    (source.root / ("n" * 200)).mkdir()
    with source.shown():
        expected = sorted(os.listdir(str(source.view)))
        data = [(source.view / name).read_bytes() for name in expected if "long" not in name]
    with source.shown("engine=stock"):
        assert sorted(os.listdir(str(source.view))) == expected
        assert [(source.view / n).read_bytes() for n in expected if "long" not in n] == data


def test_the_background(source: Source) -> None:
    """The command returns when the view is there; the mount is read-only and says what it is."""
    words = f"root={source.root},passfile={source.passfile}"
    output_of(*CRYPT, source.view, "-o", words, environment=server_environment(ENVIRONMENT))
    try:
        assert len(os.listdir(str(source.view))) == 3
        assert mount_types()[str(source.view)] == "fuse.fusepy-crypt"
        assert os.statvfs(str(source.view)).f_flag & os.ST_RDONLY
    finally:
        unmount(source.view)


def test_a_view_that_nobody_uses_ends(source: Source) -> None:
    """After -o idle=MINUTES, but not while a file is open."""
    with source.shown("idle=0.005") as server:
        path = next(path for path in source.view.iterdir() if "." not in path.name)
        with open(str(path), "rb"):
            start = os.times().elapsed
            wait_until(lambda: os.times().elapsed > start + 1, "more than the time to be idle")
            assert is_mounted(source.view)
        assert server.wait() == 0
        assert not is_mounted(source.view)
        assert "not used for" in server.errors


def test_a_view_that_is_a_working_directory_goes_on(source: Source) -> None:
    """It has no handle; the view ends so long after the program has left it."""
    with source.shown("idle=0.005") as server:
        before = os.getcwd()
        os.chdir(str(source.view))
        try:
            wait_until(lambda: "not unmounted: " in server.errors, "an attempt to unmount")
            assert len(os.listdir(".")) == 3
        finally:
            os.chdir(before)
        assert server.wait() == 0
        assert not is_mounted(source.view)


def test_both_views_at_once(source: Source) -> None:
    """The decrypted view over the encrypted one is the source."""
    (source.root / ("n" * 200)).mkdir()
    (source.root / ("n" * 200) / "below").write_bytes(b"x" * 100000)
    point = source.root.parent / "round trip"
    point.mkdir()
    with source.shown():
        words = f"root={source.view},passfile={source.passfile},forward,ro"
        with Mounted([*CRYPT, point, "-f", "-o", words], point, ENVIRONMENT):
            for path in all_below(source.root):
                if path.name == ".gocryptfs.reverse.conf":
                    continue
                shown = point / path.relative_to(source.root)
                assert shown.lstat().st_mode == path.lstat().st_mode
                assert shown.lstat().st_mtime_ns == path.lstat().st_mtime_ns
                if path.is_file():
                    assert shown.read_bytes() == path.read_bytes()


def test_other_users_see_nothing(public_path: Path, user: pwd.struct_passwd) -> None:
    """Without allow_other: EACCES; with it, what the modes allow."""
    source = make_source(public_path)
    (source.root / "file").write_text("x")
    (source.root / "file").chmod(0o600)
    with source.shown():
        assert as_user(user.pw_uid, "ls", source.view)[0] != 0
    with source.shown("allow_other"):
        shown = next(path for path in source.view.iterdir() if "." not in path.name)
        assert as_user(user.pw_uid, "ls", source.view)[0] == 0
        assert as_user(user.pw_uid, "cat", shown)[0] != 0


def test_an_ordinary_user_s_view(desk: Desk) -> None:
    """It works though not even its user may look into the process: attributes go by /proc/self/fd."""
    source = make_source(desk.sides.backing)
    path = source.root / "file"
    path.write_text("x")
    os.setxattr(str(path), "user.name", b"value")
    for owned in (*source, path, *source.root.iterdir()):
        os.chown(str(owned), desk.user.pw_uid, desk.user.pw_gid)
    command = desk.command(PROGRAMS / "crypt.py", *source.command()[len(CRYPT) :])
    with Mounted(command, source.view, ENVIRONMENT) as server:
        code, output = as_user(desk.user.pw_uid, "getfattr", "-R", "-d", source.view)
        assert code == 0
        assert "user.gocryptfs." in output
        assert os.stat(f"/proc/{server.pid}/mem").st_uid == 0
        code, _ = as_user(desk.user.pw_uid, "cat", f"/proc/{server.pid}/environ")
        assert code != 0


def test_restoring_without_a_mount(source: Source) -> None:
    """fusepy-vault reads a single file from a mounted view as from a copy."""
    with source.shown():
        words = ["cat", "--passfile", source.passfile, source.view / "file"]
        assert output_of(*VAULT, *words) == "content"
