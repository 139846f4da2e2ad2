"""What fanotify tells of changes underneath: names, files, and nothing of our own doing."""

import errno
import itertools
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Iterator, List, Optional, Tuple

import pytest

from fusepy_legacy import syscalls
from fusepy_legacy.watch import LOST, UNWATCHED, Change, Watch
from tests.mounted.commands import wait_until

FileId = Tuple[int, int]


class Told:
    """A watch on a directory's filesystem, and what it told so far."""

    def __init__(self, root: Path) -> None:
        self.changes: List[Change] = []
        self.watch = Watch()
        self.add(root)
        self.watch.start(self.changes.append)

    def add(self, directory: Path) -> None:
        """Watch a directory's filesystem too."""
        descriptor = os.open(str(directory), os.O_PATH | os.O_DIRECTORY)
        try:
            self.watch.add(descriptor)
        finally:
            os.close(descriptor)

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


@pytest.mark.parametrize("failures", [11, None])
def test_a_handle_that_cannot_be_opened_is_tried_again(
    told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: Optional[int]
) -> None:
    """ext4 says ENOMEM for a moment; where that stays, all that is cached may be wrong."""
    real, tries = syscalls.open_by_handle_at, itertools.count()

    def opened(mount: int, handle: bytes, flags: int) -> int:
        if failures is None or next(tries) < failures:
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
        return real(mount, handle, flags)

    monkeypatch.setattr(syscalls, "open_by_handle_at", opened)
    subprocess.check_call(["touch", str(tmp_path / "new")])
    if failures is None:
        wait_until(lambda: LOST in told.changes, "the loss")
    else:
        told.await_entry(tmp_path, "new")
        assert LOST not in told.changes


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


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A directory on another filesystem than the test's."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        yield Path(directory)


def test_several_filesystems(told: Told, tmp_path: Path, elsewhere: Path) -> None:
    """Each is watched from when it was added, until it was taken back as often."""
    if elsewhere.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs two filesystems")
    by_others("os.mkdir('before')", elsewhere)
    told.add(elsewhere)
    told.add(elsewhere)
    by_others("os.mkdir('new')", elsewhere)
    told.await_entry(elsewhere, "new")
    told.watch.remove(elsewhere.stat().st_dev)
    by_others("os.mkdir('newer')", elsewhere)
    told.await_entry(elsewhere, "newer")
    told.watch.remove(elsewhere.stat().st_dev)
    by_others("os.mkdir('after')", elsewhere)
    by_others("os.mkdir('last')", tmp_path)
    told.await_entry(tmp_path, "last")
    names = {said.name for said in told.changes}
    assert "before" not in names
    assert "after" not in names
    told.add(elsewhere)
    by_others("os.mkdir('again')", elsewhere)
    told.await_entry(elsewhere, "again")


def test_what_cannot_be_watched(told: Told, tmp_path: Path) -> None:
    """It is said why, and the others are watched as before."""
    with pytest.raises(OSError, match=r"-o watch: .*; it takes root's rights, Linux 5.9, and"):
        told.add(Path("/proc"))
    told.watch.remove(Path("/proc").stat().st_dev)
    by_others("os.mkdir('new')", tmp_path)
    told.await_entry(tmp_path, "new")


def test_changes_known_from_elsewhere(told: Told, tmp_path: Path) -> None:
    """They are told as the others are, a second time too."""
    change = Change((0, 1), "label", None)
    told.watch.say([change])
    wait_until(lambda: told.changes.count(change) >= 2, "both times")


def test_what_is_missing_is_looked_for() -> None:
    """Every second as long as it is missing, and after what was said; not otherwise."""
    looks: List[float] = []
    answers = [True, True, False]

    def look() -> bool:
        looks.append(time.monotonic())
        return answers.pop(0) if answers else False

    watch = Watch()
    try:
        watch.start(lambda change: None, look)
        wait_until(lambda: len(looks) == 3, "the third look")
        assert looks[2] - looks[0] >= 1.9
        watch.say([])
        wait_until(lambda: len(looks) == 4, "one more")
    finally:
        watch.close()
    assert len(looks) == 4
    watch.remove(1)  # nothing is watched any more


def test_a_change_that_cannot_be_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged with its traceback, and those after it are told as ever."""
    changes: List[Change] = []

    def tell(change: Change) -> None:
        changes.append(change)
        if change.name == "bad":
            raise ValueError("a defect")

    watch = Watch()
    try:
        watch.start(tell)
        bad, good = Change((0, 1), "bad", None), Change((0, 1), "good", None)
        watch.say([bad])
        wait_until(lambda: changes.count(bad) >= 2, "both times")
        watch.say([good])
        wait_until(lambda: changes.count(good) >= 2, "both times")
    finally:
        watch.close()
    assert caplog.text.count("ValueError: a defect") == 2
    assert UNWATCHED not in changes


def test_the_end_of_the_thread_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """Who relies on it learns that it cannot go on, and the log has why."""
    changes: List[Change] = []

    def look() -> bool:
        raise ValueError("a defect")

    watch = Watch()
    try:
        watch.start(changes.append, look)
        wait_until(lambda: changes, "the word")
    finally:
        watch.close()
    assert changes == [UNWATCHED]
    assert "changes underneath are not noticed any more" in caplog.text
    assert "ValueError: a defect" in caplog.text


def test_a_watch_that_was_never_started_is_closed(tmp_path: Path) -> None:
    """A mount may fail before it serves; the filesystems that were added are let go."""
    watch = Watch()
    descriptor = os.open(str(tmp_path), os.O_RDONLY)
    try:
        watch.add(descriptor)
        watch.add(descriptor)
        watch.remove(os.fstat(descriptor).st_dev)
        watch.remove(os.fstat(descriptor).st_dev)
        watch.add(descriptor)
    finally:
        os.close(descriptor)
        watch.close()
