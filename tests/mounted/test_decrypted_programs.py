"""Programs that people use work on the decrypted view, and what they did is seen by another mount."""

import os
from pathlib import Path
from typing import Iterator

import pytest

from tests.mounted.encrypted_trees import make_encrypted
from tests.mounted.mounting import Mirror
from tests.mounted.test_concurrency import test_many_processes_at_once
from tests.mounted.test_programs import (
    test_a_build_with_make,
    test_cp_archive,
    test_cp_sparse,
    test_dd_appends,
    test_dd_changes_a_part,
    test_git_clones,
    test_git_commits_merges_and_collects,
    test_rsync_both_ways,
    test_rsync_in_place,
    test_sqlite_locks_out_the_other_side,
    test_sqlite_with_two_processes_on_the_mount,
    test_tar_creates_and_extracts,
)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="allow_other needs root")

__all__ = [
    "test_a_build_with_make",
    "test_cp_archive",
    "test_cp_sparse",
    "test_dd_appends",
    "test_dd_changes_a_part",
    "test_git_clones",
    "test_git_commits_merges_and_collects",
    "test_many_processes_at_once",
    "test_rsync_both_ways",
    "test_rsync_in_place",
    "test_sqlite_locks_out_the_other_side",
    "test_sqlite_with_two_processes_on_the_mount",
    "test_tar_creates_and_extracts",
]


@pytest.fixture
def engine() -> str:
    """The engine of the view."""
    return "kernel"


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[Mirror]:
    """An encrypted tree mounted twice; "backing" is the mount without caches in the kernel.

    Afterwards no block of it is damaged, and no name lost.
    """
    tree = make_encrypted(tmp_path)
    mount, other = tmp_path / "mount", tmp_path / "backing"
    with tree.shown(other, "attr_timeout=0", "entry_timeout=0"), tree.shown(mount) as server:
        yield Mirror(mount, other, server)
    tree.check()
