"""What the tests on real mounts share: the engine, the two directories, and that nothing stays behind."""

import os
import shutil
import signal
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Iterator, List, Optional

import pytest

from tests.mounted.commands import processes_with, wait_until
from tests.mounted.mounting import (
    ENGINES,
    Mirror,
    Sides,
    make_sides,
    mounts_below,
    passthrough,
    roots_mount,
    unmount,
    write_roots,
)


@pytest.fixture(params=ENGINES, scope="session")
def engine(request: pytest.FixtureRequest) -> str:
    """The engine to mount with."""
    return str(request.param)


@pytest.fixture
def sides(tmp_path: Path) -> Sides:
    """Two empty directories, nothing mounted yet."""
    return make_sides(tmp_path)


@pytest.fixture
def mirror(engine: str, sides: Sides) -> Iterator[Mirror]:
    """A freshly mounted Passthrough that lets all users in."""
    with passthrough(sides.backing, sides.mount, engine=engine) as server:
        yield Mirror(sides.mount, sides.backing, server)


class Shared:
    """A mirror for many tests, each in a subdirectory of its own; a new one when a test has killed it."""

    def __init__(self, engine: str, layout: str, directories: pytest.TempPathFactory) -> None:
        self.engine = engine
        self.layout = layout
        self.directories = directories
        self.mounts = ExitStack()
        self.current: Optional[Mirror] = None

    def mirror(self) -> Mirror:
        """Return a mirror that is alive."""
        if self.current is None or self.current.server.process.poll() is not None:
            sides = make_sides(self.directories.mktemp(f"shared-{self.engine}-{self.layout}-"))
            self.current = self._mounted(sides)
        return self.current

    def _mounted(self, sides: Sides) -> Mirror:
        if self.layout == "root":
            server = passthrough(sides.backing, sides.mount, engine=self.engine)
            return Mirror(sides.mount, sides.backing, self.mounts.enter_context(server))
        first = sides.mount.parent / "first"
        first.mkdir()
        file = write_roots(sides.mount.parent / "roots.ini", first=[first], second=[sides.backing])
        server = roots_mount(file, sides.mount, engine=self.engine)
        return Mirror(sides.mount / "second", sides.backing, self.mounts.enter_context(server))


@pytest.fixture(scope="session")
def layout() -> str:
    """What is mounted: a root. A test with the parameter `roots` works in the second of two."""
    return "root"


@pytest.fixture(scope="session")
def shared(engine: str, layout: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    """The mirror of an engine that tests share."""
    shared = Shared(engine, layout, tmp_path_factory)
    with shared.mounts:
        yield shared


@pytest.fixture
def shared_mirror(shared: Shared) -> Mirror:
    """A mounted Passthrough with other tests' subdirectories in it."""
    return shared.mirror()


@pytest.fixture
def public_path() -> Iterator[Path]:
    """An empty directory that every user can reach, which pytest's own are not."""
    path = Path(tempfile.mkdtemp(prefix="fusepy-legacy-test-", dir="/tmp"))
    path.chmod(0o755)
    try:
        yield path
        assert clear(path) == []
    finally:
        shutil.rmtree(str(path))


@pytest.fixture(autouse=True)
def nothing_stays(tmp_path: Path) -> Iterator[None]:
    """No mount and no process of a test outlives it, and one that does is the test's failure."""
    yield
    assert clear(tmp_path) == []


def clear(directory: Path) -> List[str]:
    """Take away the mounts below a directory and the processes that were given it; say what there was."""
    mounts = mounts_below(directory)
    if not mounts:
        with suppress(AssertionError):
            wait_until(lambda: not processes_with(directory), "the end of what a test started", 5)
    left = [f"mounted: {point}" for point in mounts]
    # First the processes: a server that does not answer would keep umount waiting.
    for pid in processes_with(directory):
        with suppress(FileNotFoundError, ProcessLookupError):
            left.append(f"running: {Path(f'/proc/{pid}/cmdline').read_bytes()!r}")
            os.kill(pid, signal.SIGKILL)
    for point in mounts:
        unmount(point)
    return left
