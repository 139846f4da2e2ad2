"""borg and restic take a mount of several roots, find nothing changed the next time, and restore it equal."""

import json
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Dict, Iterator, NamedTuple

import pytest

from tests.mounted.commands import output_of, run
from tests.mounted.mounting import Mounted, roots_mount, tmpfs, write_roots
from tests.mounted.trees import make_tree, snapshot


class Source(NamedTuple):
    """Three roots on two filesystems, to be mounted as often as is wanted."""

    file: Path
    mount: Path

    def mounted(self) -> Mounted:
        """Mount them."""
        return roots_mount(self.file, self.mount)


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Source]:
    """A tree with everything in it on the disk, and two smaller ones in memory; some names are hidden."""
    disk, memory, mount = (tmp_path / name for name in ("disk", "memory", "mount"))
    for directory in disk, memory, mount:
        directory.mkdir()
    with ExitStack() as mounts:
        mounts.enter_context(tmpfs(memory, "size=16m,mode=755"))
        make_tree(disk)
        for name in "photos", "notes":
            tree = memory / name
            (tree / "deeper" / "cache").mkdir(parents=True)
            for number in range(50):
                (tree / "deeper" / f"file-{number}").write_text(f"{name} {number}\n" * number)
            (tree / "deeper" / "cache" / "large").write_bytes(bytes(1 << 20))
            (tree / "file.tmp").write_text("hidden")
            os.link(str(tree / "deeper" / "file-7"), str(tree / "same"))
            os.utime(str(tree / "same"), ns=(1500000000123456789, 1500000000123456789))
        (disk / "newest").write_text("borg reads the newest file again, whatever its times say")
        excludes = ("exclude =", "    *.tmp", "    cache/")
        file = tmp_path / "roots.ini"
        write_roots(
            file,
            disk=[disk],
            photos=[memory / "photos", *excludes],
            notes=[memory / "notes", "read_only = yes", *excludes],
        )
        yield Source(file, mount)


def assert_restored(restored: Path, source: Source) -> None:
    """What was restored is what the mount shows, which is all but what is hidden."""
    with source.mounted():
        expected = snapshot(source.mount)
        assert snapshot(restored) == expected
    assert len(expected) > 110
    assert not any(".tmp" in name or "cache" in name for name in expected)


def test_borg(source: Source, tmp_path: Path) -> None:
    """The second archive, made on another mount, has no file added or modified."""
    environment = {
        "BORG_BASE_DIR": str(tmp_path / "borg"),
        "BORG_REPO": str(tmp_path / "repository"),
        "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
    }

    def borg(*arguments: str, cwd: Path) -> str:
        outcome = run(["borg", *arguments], cwd, environment)
        assert outcome.code == 0, outcome
        return outcome.errors  # where borg lists to

    borg("init", "--encryption=none", cwd=tmp_path)
    listed = {}
    for archive in "first", "second":
        with source.mounted():
            lines = borg("create", "--list", "--filter=AM", f"::{archive}", ".", cwd=source.mount)
            listed[archive] = [line[2:] for line in lines.splitlines()]
    assert len(listed["first"]) > 100
    assert set(listed["second"]) <= {"disk/newest"}
    restored = tmp_path / "restored"
    restored.mkdir()
    borg("extract", "::second", cwd=restored)
    assert_restored(restored, source)


def test_restic(source: Source, tmp_path: Path) -> None:
    """The second snapshot, made on another mount, finds no file new or changed, and no directory."""
    environment = {
        "RESTIC_PASSWORD": "password",
        "RESTIC_REPOSITORY": str(tmp_path / "repository"),
        "RESTIC_CACHE_DIR": str(tmp_path / "cache"),
    }

    def restic(*arguments: str, cwd: Path) -> str:
        return output_of("restic", *arguments, cwd=cwd, environment=environment)

    restic("init", cwd=tmp_path)
    summaries: Dict[str, Dict[str, int]] = {}
    devices = []
    for name in "first", "second":
        with source.mounted():
            devices.append(source.mount.stat().st_dev)
            report = restic("backup", "--json", ".", cwd=source.mount)
            summaries[name] = json.loads(report.splitlines()[-1])
    first, second = summaries["first"], summaries["second"]
    # restic notes the mount's device number, which may be another the next time, with each name.
    kinds = ["files", "dirs"] if devices[0] == devices[1] else ["files"]
    for kind in kinds:
        assert second[f"{kind}_new"] == second[f"{kind}_changed"] == 0
        assert second[f"{kind}_unmodified"] == first[f"{kind}_new"] > 5
    restored = tmp_path / "restored"
    restic("restore", second["snapshot_id"], "--target", str(restored), cwd=tmp_path)
    assert_restored(restored, source)
