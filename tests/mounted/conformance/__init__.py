"""What a mirror filesystem promises, as plain functions that any mount of one can be held to.

A check takes two views of one empty directory of its own: `mount`, on the mirror, and `backing`,
in the filesystem that is mirrored. What is done through the mount must be there at once on both
sides. What is done on the backing side may show up to a second late where the mount has looked
before, so checks poll for that. A check leaves files in its directory and nothing anywhere else.

The checks need root for other users' calls, ownership and device nodes, and skip those without.
"""

import importlib
from typing import List

import pytest

from .registry import Check, checks_of, stock_cannot

__all__ = ["SUBJECTS", "Check", "all_checks", "stock_cannot"]

SUBJECTS = (
    "attributes",
    "times",
    "names",
    "directories",
    "listing",
    "opening",
    "files",
    "mapping",
    "handles",
    "links",
    "rename",
    "special",
    "xattrs",
    "acls",
    "locks",
    "deadlocks",
    "flocks",
    "space",
    "errors",
    "permissions",
    "ownership",
    "concurrency",
    "freshness",
)


def all_checks() -> List[Check]:
    """Every check, by subject and within a subject as it is written."""
    names = [f"{__name__}.{subject}" for subject in SUBJECTS]
    pytest.register_assert_rewrite(*names)
    return [check for name in names for check in checks_of(importlib.import_module(name))]
