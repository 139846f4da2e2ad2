"""What a process needs to remember a tree, and what it does when nobody asks: once per candidate.

Each has a process of its own here, so that what the other rows have left behind does not count.
"""

import os
import time
from typing import Callable, Dict, List, NamedTuple

DIRECTORY_SIZE = 1000
IDLE_SECONDS = 2.0
SETTLE_SECONDS = 10.0  # at most, for a process to hear that its nodes are forgotten


class Memory(NamedTuple):
    """Resident bytes of a serving process around a walk."""

    nodes: int
    before: int
    walked: int
    forgotten: int  # after the kernel has dropped its entries

    @property
    def per_node(self) -> float:
        """Return the growth of a walk, in bytes per node."""
        return (self.walked - self.before) / self.nodes

    @property
    def kept_per_node(self) -> float:
        """Return what is left of that growth when the kernel has forgotten all nodes."""
        return (self.forgotten - self.before) / self.nodes


def make_tree(directory: str, files: int) -> None:
    """Make empty files, 1,000 in a directory."""
    for number in range(files):
        if number % DIRECTORY_SIZE == 0:
            branch = f"{directory}/{number // DIRECTORY_SIZE:04}"
            os.makedirs(branch)
        os.close(os.open(f"{branch}/{number:08}", os.O_CREAT | os.O_WRONLY, 0o644))


def walk(directory: str) -> int:
    """Ask for the attributes of everything below a directory; return how many nodes there are."""
    nodes = 0
    with os.scandir(directory) as entries:
        for entry in entries:
            entry.stat()
            nodes += 1
            if entry.is_dir():
                nodes += walk(entry.path)
    return nodes


def measure_memory(
    small: str,
    tree: str,
    resident_bytes: Callable[[], int],
    drop_caches: Callable[[], None],
    pause: float = 0.5,
) -> Memory:
    """Walk a tree, then drop and poll with a pause in seconds until the memory shrinks no more.

    `small` is another tree, walked before for all that a first request needs. The kernel spares entries
    that were used since it last dropped some, and sends the FORGETs while we wait.
    """
    walk(small)
    before = resident_bytes()
    nodes = walk(tree)
    walked = resident_bytes()
    deadline = time.monotonic() + SETTLE_SECONDS
    recent = [walked]
    while time.monotonic() < deadline and not (len(recent) > 3 and recent[-1] >= recent[-3]):
        drop_caches()
        time.sleep(pause)
        recent.append(resident_bytes())
    return Memory(nodes, before, walked, recent[-1])


def drop_caches() -> None:
    """Let the kernel forget names and inodes that nobody has open: proc(5), drop_caches. For root."""
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
        file.write("2\n")


def measure_idle(cpu_seconds: Dict[str, Callable[[], float]]) -> Dict[str, float]:
    """Return the CPU seconds that processes use in two seconds without a request."""
    names: List[str] = list(cpu_seconds)
    before = {name: cpu_seconds[name]() for name in names}
    time.sleep(IDLE_SECONDS)
    return {name: cpu_seconds[name]() - before[name] for name in names}
