"""fusepy_legacy.commands: what they share, and what they read off a command line before its parser does."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, List

import pytest

from fusepy_legacy.commands.crypt import _is_forward
from fusepy_legacy.errors import EXIT_FAILED
from tests.vault_trees import ENVIRONMENT

COMMANDS = ("crypt", "passthrough", "run", "vault")


def command(name: str, *arguments: str, stdout: Any) -> "subprocess.CompletedProcess[str]":
    """Run the program fusepy-NAME as a shell does, with its output buffered."""
    module = f"fusepy_legacy.commands.{name}"
    code = f"import sys; from {module} import main; sys.exit(main())"
    variables = {key: value for key, value in ENVIRONMENT.items() if key != "PYTHONUNBUFFERED"}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        stdout=stdout,
        stderr=subprocess.PIPE,
        universal_newlines=True,
        timeout=60,
        env=variables,
    )


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("option", ["--help", "--version"])
def test_what_a_full_disk_does_not_take_is_said_once(name: str, option: str) -> None:
    """One line on stderr and exit code 11, with no second complaint when the interpreter ends."""
    with open("/dev/full", "wb") as full:
        done = command(name, option, stdout=full)
    assert done.returncode == EXIT_FAILED
    assert done.stderr.startswith(f"fusepy-{name}: ")
    assert done.stderr.endswith(": No space left on device\n")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("name", COMMANDS)
def test_a_reader_who_has_gone_is_no_news(name: str) -> None:
    """As in `fusepy-vault ls TREE | head`: nothing is said, and the exit code is 11."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = command(name, "--help", stdout=writing)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (EXIT_FAILED, "")


def test_a_full_disk_under_a_roots_report(tmp_path: Path) -> None:
    """What an option prints counts like what the parser prints."""
    file = tmp_path / "roots.ini"
    file.write_text(f"[docs]\npath = {tmp_path}\n")
    with open("/dev/full", "wb") as full:
        done = command("passthrough", "--check-roots", str(file), stdout=full)
    assert done.stderr == "fusepy-passthrough: standard output: No space left on device\n"
    assert done.returncode == EXIT_FAILED


@pytest.mark.parametrize(
    ("words", "forward"),
    [
        (["DIR", "MOUNTPOINT", "-o", "forward"], True),
        (["DIR", "MOUNTPOINT", "-oforward"], True),
        (["-o", "root=DIR,forward,ro", "MOUNTPOINT"], True),
        (["DIR", "MOUNTPOINT", "-o", "ro", "-o", "forward"], True),
        (["MOUNTPOINT", "-fo", "forward"], True),
        (["MOUNTPOINT", "-dforoot=DIR,forward"], True),
        (["MOUNTPOINT", "-o", "root=DIR\\,forward"], False),
        (["-o", "-o", "forward"], False),
        (["forward", "MOUNTPOINT"], False),
        (["MOUNTPOINT", "-o", "root=forward"], False),
        (["MOUNTPOINT", "-o", "root=DIR,forwards"], False),
        ([], False),
    ],
)
def test_forward_is_found_among_the_mount_options(words: List[str], forward: bool) -> None:
    """It says which of the two views to make, so it is needed before the view can parse anything."""
    assert _is_forward(words) is forward
