"""What fanotify tells of changes underneath: names, files, and nothing of our own doing."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Iterator, List, Tuple

import pytest

from fusepy_legacy.watch import Change, Watch
from tests.mounted.commands import wait_until

FileId = Tuple[int, int]


class Told:
    """A watch on a directory's filesystem, and what it told so far."""

    def __init__(self, root: Path) -> None:
        self.changes: List[Change] = []
        self.watch = Watch(str(root))
        self.watch.start(self.changes.append)

    def await_entry(self, directory: Path, name: str) -> None:
        """Wait until a name in a directory was told of."""
        wanted = file_id(directory)
        wait_until(
            lambda: any((said.directory, said.name) == (wanted, name) for said in self.changes),
            f"the change of {name}",
        )

    def await_file(self, wanted: FileId) -> None:
        """Wait until a file was told of."""
        wait_until(lambda: any(said.file == wanted for said in self.changes), "the file's change")


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    """A watch on the test's directory."""
    told = Told(tmp_path)
    yield told
    told.watch.close()


def file_id(path: Path) -> FileId:
    """Return what identifies a file."""
    status = os.stat(str(path))
    return status.st_dev, status.st_ino


def by_others(statement: str, directory: Path) -> None:
    """Run a Python statement in another process, in a directory."""
    subprocess.run(
        [sys.executable, "-c", f"import os; {statement}"], cwd=str(directory), check=True
    )


@pytest.mark.parametrize(
    ("statement", "names"),
    [
        ("open('new', 'w')", ["new"]),
        ("os.mkdir('new')", ["new"]),
        ("os.symlink('x', 'new')", ["new"]),
        ("os.unlink('file')", ["file"]),
        ("os.rename('file', 'other')", ["file", "other"]),
        ("os.link('file', 'other')", ["other"]),
    ],
)
def test_names(told: Told, tmp_path: Path, statement: str, names: List[str]) -> None:
    """A name that appears or goes is told of with its directory."""
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "file").write_text("data")
    by_others(statement, tmp_path / "below")
    for name in names:
        told.await_entry(tmp_path / "below", name)


@pytest.mark.parametrize(
    "statement",
    ["open('file', 'a').write('x')", "os.truncate('file', 1)", "os.chmod('file', 0o600)"],
)
def test_files(told: Told, tmp_path: Path, statement: str) -> None:
    """A file whose data or attributes change is told of."""
    (tmp_path / "file").write_text("data")
    by_others(statement, tmp_path)
    told.await_file(file_id(tmp_path / "file"))


def test_directories(told: Told, tmp_path: Path) -> None:
    """A directory whose own attributes change is told of."""
    (tmp_path / "directory").mkdir()
    by_others("os.chmod('directory', 0o700)", tmp_path)
    told.await_file(file_id(tmp_path / "directory"))


def test_own_changes_are_no_news(told: Told, tmp_path: Path) -> None:
    """What this process does itself is not told of."""
    (tmp_path / "own").write_text("data")
    own = file_id(tmp_path / "own")
    by_others("open('others', 'w')", tmp_path)
    told.await_entry(tmp_path, "others")
    assert all(said.name != "own" and said.file != own for said in told.changes)


def test_each_change_is_said_again(told: Told, tmp_path: Path) -> None:
    """An answer that was under way may come after the first time."""
    by_others("os.mkdir('new')", tmp_path)
    where = file_id(tmp_path)
    wait_until(
        lambda: sum(said.directory == where and said.name == "new" for said in told.changes) >= 2,
        "the second time",
    )
