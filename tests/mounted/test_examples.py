"""Each example in examples/ does what the README says of it."""

import os
import subprocess
import sys
from pathlib import Path

from tests.mounted.mounting import REPOSITORY, Mounted, wait_until


def example(name: str, mountpoint: Path, *options: str) -> Mounted:
    """Mount an example in the foreground."""
    command = [sys.executable, str(REPOSITORY / "examples" / name), str(mountpoint), "-f"]
    if options:
        command += ["-o", ",".join(options)]
    return Mounted(command, mountpoint, {"PYTHONPATH": str(REPOSITORY)})


def test_hello_is_short_and_shows_one_file(tmp_path: Path) -> None:
    """hello.py has fewer than 40 lines, and a file that reads and lists as promised."""
    assert len((REPOSITORY / "examples" / "hello.py").read_text().splitlines()) < 40
    with example("hello.py", tmp_path):
        assert os.listdir(str(tmp_path)) == ["hello"]
        assert (tmp_path / "hello").read_bytes() == b"Hello, world!\n"
        assert (tmp_path / "hello").stat().st_size == 14
        assert not (tmp_path / "other").exists()


def test_uppercase_shouts_and_leaves_the_source_alone(tmp_path: Path) -> None:
    """uppercase.py gives every byte read through its file class; what is written is stored as it is."""
    backing, mountpoint = tmp_path / "backing", tmp_path / "mount"
    backing.mkdir()
    mountpoint.mkdir()
    (backing / "old").write_text("quiet")
    with example("uppercase.py", mountpoint, f"root={backing}"):
        assert (mountpoint / "old").read_text() == "QUIET"
        (mountpoint / "new").write_text("also quiet")
        assert (backing / "new").read_text() == "also quiet"
        grep = ["grep", "-c", "ALSO", str(mountpoint / "new")]
        assert subprocess.check_output(grep) == b"1\n"
        # Programs that let the kernel copy get what the file class reads, too.
        subprocess.check_call(["cp", str(mountpoint / "old"), str(mountpoint / "copy")])
        assert (backing / "copy").read_text() == "QUIET"


def test_journal_notes_each_open_that_wrote(tmp_path: Path) -> None:
    """journal.py writes one line at release: who, how many bytes, which file; nothing for readers."""
    backing, mountpoint, journal = tmp_path / "backing", tmp_path / "mount", tmp_path / "journal"
    backing.mkdir()
    mountpoint.mkdir()
    with example("journal.py", mountpoint, f"root={backing}", f"journal={journal}"):
        (mountpoint / "one").write_bytes(b"x" * 100000)
        (mountpoint / "one").read_bytes()
        with (mountpoint / "two").open("wb") as first, (mountpoint / "two").open("ab") as second:
            first.write(b"12345")
            first.flush()
            second.write(b"678")
        wait_until(lambda: journal.read_text().count("\n") == 3, "three lines of journal")
    lines = sorted(line.split(" ", 1)[1] for line in journal.read_text().splitlines())
    uid = os.getuid()
    assert lines == [
        f"uid {uid} wrote 100000 bytes to /one",
        f"uid {uid} wrote 3 bytes to /two",
        f"uid {uid} wrote 5 bytes to /two",
    ]


def test_the_demonstration_runs(tmp_path: Path) -> None:
    """examples/demo.sh exits 0, says what it saw, and leaves nothing behind."""
    environment = dict(
        os.environ,
        PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        TMPDIR=str(tmp_path),
    )
    demo = subprocess.run(
        ["sh", str(REPOSITORY / "examples" / "demo.sh")],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
    )
    assert demo.returncode == 0, demo.stdout
    assert demo.stdout.count("equal on both sides") == 2
    assert "equal to the source" in demo.stdout
    assert os.listdir(str(tmp_path)) == []
