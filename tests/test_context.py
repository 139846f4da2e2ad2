"""fusepy_legacy.kernel.context: what is to be known of who asks."""

import os
import subprocess
from typing import Callable, Iterator, List

import pytest

from fusepy_legacy.kernel.context import process_groups


@pytest.fixture
def process() -> Iterator[Callable[[List[int]], int]]:
    """Start processes with given supplementary groups; returns their process ids."""
    started: List[subprocess.Popen[bytes]] = []

    def start(groups: List[int]) -> int:
        started.append(
            subprocess.Popen(
                ["cat"], stdin=subprocess.PIPE, preexec_fn=lambda: os.setgroups(groups)
            )
        )
        return started[-1].pid

    yield start
    for child in started:
        child.communicate()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can choose groups")
def test_supplementary_groups_are_those_of_the_process(
    process: Callable[[List[int]], int],
) -> None:
    """None, one and many, up to the largest number."""
    many = list(range(1000, 3000)) + [4294967294]
    for groups in ([], [5], many):
        assert process_groups(process(groups)) == groups


def test_a_process_that_is_gone_has_no_groups() -> None:
    """Neither has 0, which stands for a process of another PID namespace."""
    child = subprocess.Popen(["true"])
    child.wait()
    assert process_groups(child.pid) == []
    assert process_groups(0) == []
