"""What happens to the filesystem underneath reaches the program on the mirror, and passes when it does."""

import errno
import mmap
import os
import signal
from pathlib import Path
from typing import Callable, Iterator, Sequence

import pytest

from tests.errnos import raises_errno
from tests.mounted.commands import output_of, run, wait_until
from tests.mounted.mounting import (
    Mirror,
    Sides,
    make_sides,
    passthrough,
    tmpfs,
    unmount,
)
from tests.mounted.old_style import old_style

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts")

SIZE = 1 << 20


@pytest.fixture(params=[(), ("no_kernel_io",)], ids=["kernel I/O", "no_kernel_io"])
def small(request: pytest.FixtureRequest, sides: Sides) -> Iterator[Mirror]:
    """A mirror of a filesystem of one megabyte."""
    with tmpfs(sides.backing, f"size={SIZE}"):
        with passthrough(sides.backing, sides.mount, *request.param) as server:
            yield Mirror(sides.mount, sides.backing, server)


def test_a_full_filesystem(small: Mirror) -> None:
    """ENOSPC for the writer; what was written is there, and with room again writing works."""
    with open(str(small.mount / "large"), "wb", buffering=0) as file:
        with raises_errno(errno.ENOSPC):
            for _ in range(2 * SIZE // 65536):
                file.write(bytes(65536))
        assert os.fstat(file.fileno()).st_size == (small.backing / "large").stat().st_size > 0
    with raises_errno(errno.ENOSPC):
        (small.mount / "other").write_bytes(b"data")
    (small.mount / "large").unlink()
    (small.mount / "other").write_bytes(b"data")
    assert (small.backing / "other").read_bytes() == b"data"


def test_a_full_filesystem_below_a_mapping(sides: Sides) -> None:
    """Without kernel I/O msync says so; with it the kernel sends SIGBUS, as on the filesystem itself."""
    with tmpfs(sides.backing, f"size={SIZE}"):
        with passthrough(sides.backing, sides.mount, "no_kernel_io"):
            with open(str(sides.mount / "mapped"), "w+b") as file:
                file.truncate(2 * SIZE)
                with mmap.mmap(file.fileno(), 2 * SIZE) as mapped:
                    mapped[:] = b"x" * (2 * SIZE)
                    with raises_errno(errno.ENOSPC):
                        mapped.flush()
                    file.truncate(0)


def test_a_filesystem_that_becomes_read_only(small: Mirror) -> None:
    """EROFS for what writes, reading goes on; and back."""
    (small.mount / "file").write_bytes(b"data")
    attempts: Sequence[Callable[[], object]] = (
        lambda: (small.mount / "file").write_bytes(b"more"),
        lambda: (small.mount / "new").write_bytes(b""),
        lambda: (small.mount / "new").mkdir(),
        lambda: (small.mount / "file").unlink(),
        lambda: (small.mount / "file").chmod(0o600),
        lambda: (small.mount / "file").rename(small.mount / "other"),
        lambda: os.setxattr(str(small.mount / "file"), "trusted.name", b"value"),
    )
    # The file is released some time after it was closed, and busy until then.
    wait_until(
        lambda: run(["mount", "-o", "remount,ro", small.backing]).code == 0, "the end of writing"
    )
    for attempt in attempts:
        with raises_errno(errno.EROFS):
            attempt()
    assert (small.mount / "file").read_bytes() == b"data"
    output_of("mount", "-o", "remount,rw", small.backing)
    (small.mount / "file").write_bytes(b"more")
    assert (small.backing / "file").read_bytes() == b"more"


def test_a_filesystem_that_is_unmounted_lazily(small: Mirror) -> None:
    """The mirror holds on to it, as a bind mount would: nothing is written into the directory below it."""
    (small.mount / "file").write_bytes(b"data")
    unmount_lazily(small.backing)
    (small.mount / "file").write_bytes(b"more")
    (small.mount / "new").write_bytes(b"new")
    assert sorted(os.listdir(str(small.mount))) == ["file", "new"]
    assert os.listdir(str(small.backing)) == []


def unmount_lazily(directory: Path) -> None:
    """Take a mount out of sight that is in use."""
    output_of("umount", "-l", directory)


def test_a_filesystem_that_dies(tmp_path: Path) -> None:
    """Its error is the program's, and the mirror lives: ENOTCONN of a FUSE server that was killed."""
    sides = make_sides(tmp_path)
    with old_style("kernel", "memory.py", sides.backing, "allow_other") as below:
        with passthrough(sides.backing, sides.mount, "attr_timeout=0", "entry_timeout=0") as server:
            (sides.mount / "file").write_bytes(b"data")
            below.stop(signal.SIGKILL)
            for _ in range(2):
                for attempt in (
                    lambda: (sides.mount / "file").read_bytes(),
                    lambda: (sides.mount / "new").write_bytes(b""),
                    lambda: os.listdir(str(sides.mount)),
                ):
                    with raises_errno(errno.ENOTCONN):
                        attempt()
            assert server.process.poll() is None
        assert server.returncode == 0
    unmount(sides.backing)
