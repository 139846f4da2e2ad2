"""Invalidate and NotifyPoll reach the mount that they are for, whichever thread calls them."""

import os
import select
from contextlib import ExitStack
from pathlib import Path
from typing import Iterator, List

import pytest

from tests.mounted.commands import wait_until
from tests.mounted.mounting import Mounted, is_mounted, unmount
from tests.mounted.old_style import old_style_command


@pytest.fixture
def twins(tmp_path: Path) -> Iterator[List[Path]]:
    """Two mounts of one process that never ask twice for what they know."""
    mountpoints = [tmp_path / "one", tmp_path / "two"]
    for mountpoint in mountpoints:
        mountpoint.mkdir()
    with ExitStack() as stack:
        for mountpoint in mountpoints:
            stack.callback(unmount, mountpoint)
        server = Mounted(old_style_command("kernel", "twins.py", *mountpoints), mountpoints[0])
        stack.enter_context(server)
        for mountpoint in mountpoints:
            wait_until(lambda mountpoint=mountpoint: is_mounted(mountpoint), "the mount")
        yield mountpoints
        for mountpoint in mountpoints:
            unmount(mountpoint)
        assert server.wait() == 0
        assert server.errors == ""


@pytest.mark.parametrize("thread", ["own", "handler"])
@pytest.mark.parametrize("whose", [0, 1])
def test_of_two_mounts_the_right_one_hears(twins: List[Path], whose: int, thread: str) -> None:
    """The other goes on to believe what it has read, and its poller to wait."""
    for mountpoint in twins:
        assert (mountpoint / "text").read_text() == "old"
    with ExitStack() as stack:
        bells = [stack.enter_context(open(str(path / "bell"), "rb")) for path in twins]
        assert select.select(bells, [], [], 0)[0] == []
        (twins[0] / "button").write_text(f"{whose} {thread}")
        told, other = twins[whose], twins[1 - whose]
        assert select.select(bells, [], [], 5)[0] == [bells[whose]]
        wait_until(lambda: (told / "text").read_text() == "new", "the change")
        assert (other / "text").read_text() == "old"
        assert os.stat(str(other / "text")).st_size == 3
