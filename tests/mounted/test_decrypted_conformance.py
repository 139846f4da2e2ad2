"""The decrypted view keeps the promises of a mirror, as far as the format can.

What the checks call the backing side is another mount of the same encrypted tree.
"""

import os
import shutil
from typing import Iterator

import pytest

from tests.mounted.conformance import Check, all_checks
from tests.mounted.encrypted_trees import make_encrypted
from tests.mounted.mounting import Mirror, write_roots
from tests.mounted.test_conformance import name_of

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="allow_other needs root")

FORMAT_CANNOT = {
    "links.symlink_targets_of_4095_bytes_are_kept": "an encrypted target is longer: 3039 bytes fit",
    "xattrs.names_of_255_bytes_work": "an encrypted name is longer: 175 bytes fit",
}
# Two values of 2,000 bytes, each 32 bytes longer when encrypted, do not fit into a block of ext4.
BLOCK_CANNOT = "xattrs.a_long_value_is_kept"
# `gocryptfs -fsck` counts a path longer than PATH_MAX as a damaged file.
BEYOND_GOCRYPTFS = ("names.paths_longer_than_path_max_work_step_by_step",)


@pytest.fixture(scope="module", params=["root", "roots"])
def views(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mirror]:
    """One encrypted tree mounted twice, the second time without caches in the kernel.

    The first is also one of several, below its label.
    """
    directory = tmp_path_factory.mktemp("decrypted")
    tree = make_encrypted(directory)
    mount, other = directory / "mount", directory / "other"
    shown = mount
    source = f"root={tree.root}"
    if request.param == "roots":
        shown = mount / "label"
        source = f"roots={write_roots(directory / 'roots.ini', label=[tree.root])}"
    with tree.shown(other, "attr_timeout=0", "entry_timeout=0"):
        with tree.shown(mount, source=source) as server:
            yield Mirror(shown, other, server)
            for name in BEYOND_GOCRYPTFS:
                shutil.rmtree(str(shown / name), ignore_errors=True)
    tree.check()


def test_the_exceptions_are_checks() -> None:
    """What is expected to fail is in the list."""
    assert {*FORMAT_CANNOT, BLOCK_CANNOT, *BEYOND_GOCRYPTFS} <= {
        name_of(check) for check in all_checks()
    }


@pytest.mark.parametrize("check", all_checks(), ids=name_of)
def test_check(check: Check, views: Mirror, request: pytest.FixtureRequest) -> None:
    """A check holds in a fresh directory."""
    name = name_of(check)
    if name in FORMAT_CANNOT:
        request.applymarker(pytest.mark.xfail(strict=True, reason=FORMAT_CANNOT[name]))
    if name == BLOCK_CANNOT:
        request.applymarker(pytest.mark.xfail(raises=OSError, reason="the filesystem underneath"))
    (views.mount / name).mkdir()
    check(views.mount / name, views.backing / name)
