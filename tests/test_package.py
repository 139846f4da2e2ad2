"""The package from outside: its names, its version, and a `fuse` that is not fuse-python's."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import List, Tuple

import pytest

import fusepy_legacy
from fusepy_legacy import errors
from tests.mounted.commands import REPOSITORY


def run(*arguments: str, path: Tuple[Path, ...] = ()) -> Tuple[int, str]:
    """Run Python with the package, and `path` before it; return exit code and output."""
    search = os.pathsep.join(map(str, (*path, REPOSITORY)))
    process = subprocess.Popen(
        [sys.executable, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
        cwd="/",
        env=dict(os.environ, PYTHONPATH=search, PYTHONWARNINGS="error"),
    )
    output, _ = process.communicate(timeout=30)
    return process.returncode, output


def test_every_public_name_is_there() -> None:
    """Each name of __all__ is an attribute, and the object that its module has."""
    for name in fusepy_legacy.__all__:
        value = getattr(fusepy_legacy, name)
        if isinstance(value, type):
            assert getattr(importlib.import_module(value.__module__), name) is value
    assert issubclass(fusepy_legacy.Passthrough, fusepy_legacy.Filesystem)


def test_names_that_are_not_there_are_attribute_errors() -> None:
    """So that hasattr and `from … import` work as with any module."""
    assert not hasattr(fusepy_legacy, "no_such_name")
    with pytest.raises(ImportError):
        from fusepy_legacy import no_such_name  # noqa: F401


def test_the_version_is_a_version() -> None:
    """Three numbers, as PEP 440 has them."""
    assert re.match(r"\d+\.\d+\.\d+((a|b|rc|\.dev|\.post)\d+)?$", fusepy_legacy.__version__)


@pytest.mark.parametrize(
    ("statement", "imported"),
    [
        ("import fusepy_legacy", False),
        ("import fusepy_legacy.commands.passthrough", False),
        ("from fusepy_legacy import MountError, __version__", False),
        ("from fusepy_legacy import kernel", False),
        ("from fusepy_legacy import Passthrough", True),
        ("from fusepy_legacy import *", True),
        ("import fusepy_legacy; fusepy_legacy.Filesystem", True),
    ],
)
def test_fuse_is_imported_when_it_is_needed(statement: str, imported: bool) -> None:
    """Importing the package does not import `fuse`; using a filesystem class does."""
    code, output = run("-c", f"{statement}\nimport sys; print('fuse' in sys.modules)")
    assert (code, output) == (0, f"{imported}\n")


def test_the_package_is_a_program() -> None:
    """python -m fusepy_legacy is fusepy-passthrough, and says its version on stdout."""
    expected = f"fusepy-passthrough {fusepy_legacy.__version__}\n"
    assert run("-m", "fusepy_legacy", "--version") == (0, expected)


def test_exit_codes_stay_what_they_are() -> None:
    """Scripts rely on them; they are gocryptfs's where they mean the same."""
    codes = {name: code for name, code in vars(errors).items() if name.startswith("EXIT_")}
    assert codes == {
        "EXIT_USAGE": 1,
        "EXIT_ROOT": 6,
        "EXIT_PASSWORD_SOURCE": 9,
        "EXIT_MOUNTPOINT": 10,
        "EXIT_FAILED": 11,
        "EXIT_PASSWORD": 12,
        "EXIT_MASTER_KEY": 14,
        "EXIT_INTERRUPTED": 15,
        "EXIT_FUSE": 19,
        "EXIT_EMPTY_PASSWORD": 22,
        "EXIT_CONFIG": 23,
        "EXIT_CONFIG_WRITE": 24,
        "EXIT_DAMAGE": 26,
    }


FAKES = [
    ("class FUSE: pass", "uninstall fusepy"),
    ("raise OSError('Unable to find libfuse')", "Unable to find libfuse"),
    ("raise ImportError('No module named fuse')", "pip install fuse-python"),
]


@pytest.mark.parametrize(("text", "advice"), FAKES, ids=["fusepy", "fusepy, no libfuse", "broken"])
def test_another_fuse_is_one_line_that_says_what_to_do(
    tmp_path: Path, text: str, advice: str
) -> None:
    """fusepy's module has the same name; without libfuse it does not even import."""
    (tmp_path / "fuse.py").write_text(text)
    code, output = run("-m", "fusepy_legacy", "/mnt", path=(tmp_path,))
    assert_is_one_line(output, advice)
    assert code == errors.EXIT_FAILED


def test_the_line_about_another_fuse_names_its_file(tmp_path: Path) -> None:
    """To find out which environment it is in."""
    (tmp_path / "fuse.py").write_text("class FUSE: pass")
    _, output = run("-m", "fusepy_legacy", "/mnt", path=(tmp_path,))
    assert str(tmp_path / "fuse.py") in output


def test_no_fuse_is_one_line_that_says_what_to_do() -> None:
    """Without the directories of installed packages, the module is missing."""
    code, output = run("-S", "-m", "fusepy_legacy", "/mnt")
    assert_is_one_line(output, "pip install fuse-python")
    assert code == errors.EXIT_FAILED


def test_a_directory_called_fuse_is_no_fuse(tmp_path: Path) -> None:
    """Python takes it for a package without a file, when there is no other."""
    (tmp_path / "fuse").mkdir()
    code, output = run("-S", "-m", "fusepy_legacy", "/mnt", path=(tmp_path,))
    assert_is_one_line(output, "pip install")
    assert code == errors.EXIT_FAILED


def test_a_program_gets_an_import_error(tmp_path: Path) -> None:
    """Who imports a filesystem class gets ImportError with the same line."""
    (tmp_path / "fuse.py").write_text("class FUSE: pass")
    attempt = "try:\n  from fusepy_legacy import Passthrough\nexcept ImportError as e:\n  print(e)"
    code, output = run("-c", attempt, path=(tmp_path,))
    assert code == 0
    assert len(output.splitlines()) == 1
    assert "uninstall fusepy" in output


def assert_is_one_line(output: str, advice: str) -> None:
    lines: List[str] = output.splitlines()
    assert len(lines) == 1, output
    assert lines[0].startswith("fusepy-passthrough: ")
    assert advice in lines[0]
