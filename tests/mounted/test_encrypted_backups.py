"""Backup programs on the encrypted view: the second run finds nothing to do, after a new mount too."""

import json
import os
import shutil
import stat
import time
from pathlib import Path
from typing import Callable, List, Set

import pytest

from tests.mounted.commands import Outcome, output_of, run, wait_until
from tests.mounted.encrypted_views import Source, make_source
from tests.mounted.gocryptfs import fill
from tests.mounted.trees import all_below
from tests.vault_trees import COMMAND as VAULT

MANY = 380  # entries that are not directories


def needs(program: str) -> "pytest.MarkDecorator":
    """Skip a test where a program is not installed."""
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is missing")


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """A plain directory with everything in it; the file `last` was changed last."""
    made = make_source(tmp_path)
    (made.root / "last").write_bytes(b"")
    fill(made.root)
    (made.root / "last").write_bytes(b"x" * 100000)
    return made


def three_runs(source: Source, back_up: Callable[[], List[str]]) -> List[List[str]]:
    """Return what each of three runs had to do: two on one mount, the third on another."""
    found = []
    for runs in (2, 1):
        with source.shown():
            found += [back_up() for _ in range(runs)]
    return found


def verify(source: Source, copy: Path) -> None:
    """Assert that a restored copy of the view authenticates and equals the source."""
    (source.root / ".gocryptfs.reverse.conf").unlink()
    if not any(
        stat.S_ISSOCK(path.lstat().st_mode) for path in all_below(copy)
    ):  # some programs leave them out
        (source.root / "types" / "socket").unlink()
    output_of(*VAULT, "verify", "-q", "--passfile", source.passfile, "--against", source.root, copy)


@needs("restic")
def test_restic(source: Source) -> None:
    """No file is new or changed and no data is added; a restored snapshot equals the source."""
    repository = source.root.parent / "repository"
    environment = {
        "RESTIC_REPOSITORY": str(repository),
        "RESTIC_PASSWORD_FILE": str(source.passfile),
        "RESTIC_CACHE_DIR": str(source.root.parent / "cache"),
    }
    output_of("restic", "init", environment=environment)

    def back_up() -> List[str]:
        output = output_of(
            "restic", "backup", "--json", ".", cwd=source.view, environment=environment
        )
        summary = json.loads(output.splitlines()[-1])
        counts = ("files_new", "files_changed", "data_blobs")
        return [f"{name} {summary[name]}" for name in counts if summary[name]]

    first, *others = three_runs(source, back_up)
    assert first
    assert others == [[], []]
    copy = source.root.parent / "copy"
    output_of("restic", "restore", "latest", "--target", copy, environment=environment)
    verify(source, copy)


@needs("borg")
def test_borg(source: Source) -> None:
    """No file is read again but the newest, which borg never trusts; an extracted archive is equal."""
    repository = source.root.parent / "repository"
    environment = {
        "BORG_REPO": str(repository),
        "BORG_BASE_DIR": str(source.root.parent),
        "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
    }
    output_of("borg", "init", "--encryption=none", environment=environment)
    numbers = iter(range(3))
    with source.shown():
        key = ["encrypt-path", "--passfile", source.passfile, source.root / "last"]
        last = output_of(*VAULT, *key).strip()

    def back_up() -> List[str]:
        command = ["borg", "create", "--list", "--filter=AME", f"::{next(numbers)}", "."]
        outcome = run(command, source.view, environment)
        assert outcome.code == 0, outcome
        return [line for line in outcome.errors.splitlines() if line[2:] != last]

    first, *others = three_runs(source, back_up)
    assert len(first) > MANY
    assert others == [[], []]
    copy = source.root.parent / "copy"
    copy.mkdir()
    output_of("borg", "extract", "::2", cwd=copy, environment=environment)
    verify(source, copy)


@needs("rsync")
def test_rsync(source: Source) -> None:
    """Nothing is itemized, with hard links and attributes; the copy equals the source."""
    copy = source.root.parent / "copy"

    def back_up() -> List[str]:
        return output_of("rsync", "-aHX", "-i", f"{source.view}/", copy).splitlines()

    first, *others = three_runs(source, back_up)
    assert len(first) > MANY
    assert others == [[], []]
    verify(source, copy)


@needs("tar")
def test_tar(source: Source) -> None:
    """An incremental archive has directories only.

    tar takes another device number for another directory; each mount has one, so it is told not to.
    """
    snapshot, archive = source.root.parent / "snapshot", source.root.parent / "archive.tar"

    def back_up() -> List[str]:
        incremental = [f"--listed-incremental={snapshot}", "--no-check-device"]
        outcome = run(["tar", "--sparse", *incremental, "-cf", archive, "."], source.view)
        assert outcome.code == 0, outcome
        if not (source.root.parent / "copy").exists():
            (source.root.parent / "copy").mkdir()
            output_of("tar", "-xf", archive, "-C", source.root.parent / "copy")
        listed = output_of("tar", "-tf", archive).splitlines()
        return [name for name in listed if not name.endswith("/")]

    first, *others = three_runs(source, back_up)
    assert len(first) > MANY
    assert others == [[], []]


@needs("rdiff-backup")
def test_rdiff_backup(source: Source) -> None:
    """No file is new or changed; it wants a second between two runs.

    It compares the device numbers of hard-linked files; each mount has one, so it is told not to.
    """
    repository = source.root.parent / "repository"
    done = [0.0]

    def back_up() -> List[str]:
        wait_until(lambda: int(time.time()) > done[0] + 1, "the next second")
        command = [
            "rdiff-backup",
            "backup",
            "--print-statistics",
            "--no-compare-inode",
            source.view,
            repository,
        ]
        outcome: Outcome = run(command)
        assert outcome.code == 0, outcome
        done[0] = int(time.time())
        counts = dict(
            line.split()[:2]
            for line in outcome.output.splitlines()
            if line.startswith(("NewFiles ", "ChangedFiles ", "DeletedFiles "))
        )
        return [f"{name} {count}" for name, count in counts.items() if int(count)]

    first, *others = three_runs(source, back_up)
    assert first
    assert others == [[], []]


def test_a_change_is_found(source: Source) -> None:
    """What changed in the source, and nothing else, is what rsync finds to do."""
    copy = source.root.parent / "copy"
    with source.shown():
        output_of("rsync", "-aHX", f"{source.view}/", copy)
    (source.root / "types" / "new").write_text("x")
    with open(str(source.root / "last"), "ab") as file:
        file.write(b"more")
    os.utime(str(source.root / "last"), (0, 10**9))
    with source.shown():
        lines = output_of("rsync", "-aHX", "-i", f"{source.view}/", copy).splitlines()
    kinds: Set[str] = {line.split(" ")[0] for line in lines}
    assert kinds == {">f.st......", ".d..t......", ">f..t......", ">f+++++++++"}
    assert len(lines) == 4
    assert os.path.getsize(str(copy / "gocryptfs.conf"))
