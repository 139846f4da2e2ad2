"""What the benchmarks need of a mount: that it can be made as if nobody had asked it yet."""

import os
import re
from pathlib import Path

import pytest

from benchmarks import views_speed
from benchmarks.candidates import Candidate, Serving, candidates
from tests.mounted.commands import wait_until
from tests.mounted.mounting import Sides

CACHING = ",entry_timeout=3600,attr_timeout=3600"


@pytest.fixture
def caching() -> Candidate:
    """The mirror, whose names and attributes the kernel may keep for an hour."""
    mirror = candidates(None)["kernel"]
    return mirror._replace(command=(*mirror.command[:-1], mirror.command[-1] + CACHING))


def test_what_the_kernel_knows_of_a_mount_can_be_forgotten(
    sides: Sides, caching: Candidate
) -> None:
    """A round starts as the first did, whatever is cached; what was mounted stays so, with its flags."""
    (sides.backing / "gone").touch()
    with Serving(caching, sides.backing, sides.mount) as serving:
        before = mount_line(sides.mount)
        assert os.listdir(str(serving.directory)) == ["gone"]
        os.stat(str(sides.mount / "gone"))
        (sides.backing / "gone").unlink()
        os.stat(str(sides.mount / "gone"))  # from the cache
        serving.forget()
        with pytest.raises(FileNotFoundError):
            os.stat(str(sides.mount / "gone"))
        assert mount_line(sides.mount) == before
        assert serving.running


def test_nothing_is_to_be_forgotten_when_nothing_serves(sides: Sides, caching: Candidate) -> None:
    """Neither the plain directory nor a candidate that has ended in a row is an error."""
    with Serving(Candidate("native", ()), sides.backing, sides.mount) as native:
        native.forget()
    with Serving(caching, sides.backing, sides.mount) as serving:
        serving.kill()
        wait_until(lambda: serving.ended, "its end")
        serving.forget()


def mount_line(mountpoint: Path) -> str:
    """Return what the mount table says of a mount point."""
    with open("/proc/self/mounts", encoding="utf-8") as table:
        return next(line for line in table if f" {mountpoint} " in line)


@pytest.mark.parametrize("row", ["tree of small files", "decrypted: sequential write"])
def test_the_views_are_measured(row: str, capfd: pytest.CaptureFixture) -> None:  # type: ignore[type-arg]
    """A line says how fast the view was."""
    assert views_speed.main(["--quick", "--rounds=1", f"--rows={row}", "--only=fusepy-crypt"]) == 0
    shown = capfd.readouterr().out.splitlines()
    assert any(re.match(rf"{row}, \S+ +fusepy-crypt [0-9.e+]+$", line) for line in shown)
