"""fusepy_legacy.commands: what they read off a command line before the filesystem's own parser does."""

from typing import List

import pytest

from fusepy_legacy.commands.crypt import _is_forward


@pytest.mark.parametrize(
    ("words", "forward"),
    [
        (["DIR", "MOUNTPOINT", "-o", "forward"], True),
        (["DIR", "MOUNTPOINT", "-oforward"], True),
        (["-o", "root=DIR,forward,ro", "MOUNTPOINT"], True),
        (["DIR", "MOUNTPOINT", "-o", "ro", "-o", "forward"], True),
        (["forward", "MOUNTPOINT"], False),
        (["MOUNTPOINT", "-o", "root=forward"], False),
        (["MOUNTPOINT", "-o", "root=DIR,forwards"], False),
        ([], False),
    ],
)
def test_forward_is_found_among_the_mount_options(words: List[str], forward: bool) -> None:
    """It says which of the two views to make, so it is needed before the view can parse anything."""
    assert _is_forward(words) is forward
