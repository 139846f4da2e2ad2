"""Every test leaves the process's descriptors as they were."""

import gc
import os
import signal
from typing import Dict, Iterator, Tuple

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker of tests that may leave descriptors behind, and let SIGTERM be as Ctrl-C.

    Then what a test has started and mounted is taken away before the run ends. What nohup or a shell's &
    has left ignored, every program that a test starts would ignore too (execve(2)): a handler is not
    inherited.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    config.addinivalue_line(
        "markers", "leaks_descriptors(reason): descriptors may be left open, for this reason"
    )


@pytest.fixture(autouse=True)
def _no_descriptor_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a descriptor open, or closes one that it did not open."""
    marker = request.node.get_closest_marker("leaks_descriptors")
    before = _descriptors()
    yield
    if marker is not None:
        assert marker.kwargs.get("reason"), "leaks_descriptors needs a reason"
        return
    after = _descriptors()
    if after != before:
        gc.collect()
        after = _descriptors()
    left = {descriptor: after[descriptor][1] for descriptor in after.keys() - before.keys()}
    gone = {descriptor: before[descriptor][1] for descriptor in before.keys() - after.keys()}
    assert not left, f"left open: {left}"
    assert not gone, f"closed, but opened by others: {gone}"
    changed = [number for number in after if after[number][0] != before[number][0]]
    assert not changed, f"closed, and opened anew: {[(before[n], after[n]) for n in changed]}"


def _descriptors() -> Dict[int, Tuple[Tuple[int, int], str]]:
    """Return each open descriptor's (device, inode) and target."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            status = os.fstat(int(name))
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:  # the listing's own descriptor
            continue
        found[int(name)] = ((status.st_dev, status.st_ino), target)
    return found
