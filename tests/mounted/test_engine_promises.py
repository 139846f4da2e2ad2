"""Why there are two engines: what the kernel engine does, and the stock engine is known to fail."""

import contextlib
import errno
import fcntl
import mmap
import os
import signal
import sys
import time
from pathlib import Path
from typing import Callable, List

import pytest

from tests.errnos import raises_errno
from tests.mounted.commands import output_of, wait_until
from tests.mounted.conformance.libc import (
    FALLOC_FL_KEEP_SIZE,
    FALLOC_FL_PUNCH_HOLE,
    RENAME_EXCHANGE,
    copy_file_range,
    fallocate,
    renameat2,
)
from tests.mounted.mounting import PROGRAMS, Mirror, Mounted, Sides, make_sides, passthrough
from tests.mounted.old_style import old_style, old_style_command
from tests.mounted.test_life import in_background
from tests.mounted.test_run import fails_on_stock, without_c_module

# Times


@fails_on_stock("fuse-python 1.0.9 takes whole seconds from st_mtime")
def test_nanoseconds(mirror: Mirror) -> None:
    """Times are shown and set to the nanosecond."""
    times = (10**18 + 123456789, 10**18 + 987654321)
    for target in mirror.backing / "below", mirror.mount / "above":
        target.touch()
        os.utime(str(target), ns=times)
    for name in "below", "above":
        status = (mirror.mount / name).stat()
        assert (status.st_atime_ns, status.st_mtime_ns) == times


@fails_on_stock("fuse-python 1.0.9 takes a negative int for an error, and answers EINVAL")
def test_a_time_before_1970(engine: str, tmp_path: Path) -> None:
    """A file of 1960 can be looked at; the handler gives its time as an int, as fuse-python's examples."""
    with old_style(engine, "memory.py", tmp_path):
        (tmp_path / "file").touch()
        with contextlib.suppress(OSError):  # utime(2) looks at the file afterwards
            os.utime(str(tmp_path / "file"), (-315619200, -315619200))
        assert (tmp_path / "file").stat().st_mtime == -315619200


@fails_on_stock("fuse-python 1.0.9 cuts the seconds of utimens to 32 bits")
def test_a_time_after_2038(mirror: Mirror) -> None:
    """A file can be dated to 2200."""
    (mirror.mount / "file").touch()
    os.utime(str(mirror.mount / "file"), (7258118400, 7258118400))
    assert (mirror.backing / "file").stat().st_mtime == 7258118400


@fails_on_stock("libfuse 2.9 has no UTIME_OMIT: setting one time alone is dropped")
@pytest.mark.parametrize("switch", ["-a", "-m"])
def test_one_time_alone(mirror: Mirror, switch: str) -> None:
    """`touch -a` and `touch -m` set one time to now, and leave the other as it is."""
    file = mirror.backing / "file"
    file.touch()
    os.utime(str(file), (10**9, 10**9))
    before = time.time()
    output_of("touch", switch, mirror.mount / "file")
    status = file.stat()
    changed, kept = status.st_atime, status.st_mtime
    if switch == "-m":
        changed, kept = kept, changed
    assert kept == 10**9
    assert changed > before - 1


# Attributes, objects, errors


@fails_on_stock("fuse-python 1.0.9 hands on extended attributes as UTF-8 text only")
def test_binary_attributes(mirror: Mirror) -> None:
    """Any bytes are a value, in both directions."""
    value = bytes(range(256))
    (mirror.mount / "file").touch()
    os.setxattr(str(mirror.mount / "file"), "user.above", value)
    os.setxattr(str(mirror.backing / "file"), "user.below", value)
    assert os.getxattr(str(mirror.backing / "file"), "user.above") == value
    assert os.getxattr(str(mirror.mount / "file"), "user.below") == value


@fails_on_stock("fuse-python 1.0.9 hands on extended attributes as UTF-8 text only")
def test_access_control_lists(mirror: Mirror) -> None:
    """setfacl works, and who is named in the list gets in."""
    (mirror.mount / "file").write_text("data")
    output_of("setfacl", "--modify", "u:12345:rw", mirror.mount / "file")
    assert "user:12345:rw-" in output_of("getfacl", "-n", "-p", mirror.backing / "file")


@fails_on_stock("the C module never releases the tuple that create returns")
def test_created_files_leak_nothing(engine: str, sides: Sides) -> None:
    """After the close, a created file's object is gone."""
    program = [PROGRAMS / "counting.py"]
    with passthrough(sides.backing, sides.mount, engine=engine, program=program):
        for number in range(50):
            (sides.mount / f"file-{number}").write_text("data")
        objects = str(sides.mount)
        wait_until(
            lambda: int(os.getxattr(objects, "user.objects")) == 0, "the end of the objects", 2
        )


@fails_on_stock("the C module prints the exception and answers EINVAL")
def test_an_exception_in_a_handler(engine: str, tmp_path: Path) -> None:
    """It is logged with a traceback, and the program gets EIO."""
    with old_style(engine, "broken.py", tmp_path) as server:
        with raises_errno(errno.EIO):
            (tmp_path / "broken").read_bytes()
        wait_until(lambda: "ValueError: this file is broken" in server.errors, "the log", 3)


@fails_on_stock("the C module ignores what fsinit raises")
def test_an_error_of_fsinit(engine: str, sides: Sides) -> None:
    """It fails the mount, and the starter says why."""
    command = old_style_command(
        engine, "broken.py", sides.mount, "-o", f"unfinished,fsname={sides.mount}"
    )
    with in_background(command, sides) as outcome:
        assert outcome.code != 0
        assert "no room for the index" in outcome.errors


# What libfuse 2 has no request for


def tally(mountpoint: Path, name: str) -> int:
    """Return what tallying.py has counted."""
    return int(os.getxattr(str(mountpoint), f"user.{name}"))


@fails_on_stock("libfuse 2.9 has no READDIRPLUS")
def test_listing_with_attributes(engine: str, sides: Sides) -> None:
    """A listing brings the attributes along: looking at each entry asks for nothing more."""
    for number in range(100):
        (sides.backing / f"file-{number}").touch()
    program = [PROGRAMS / "tallying.py"]
    options = ("attr_timeout=60", "entry_timeout=60")
    with passthrough(sides.backing, sides.mount, *options, engine=engine, program=program):
        before = tally(sides.mount, "getattr")
        with os.scandir(str(sides.mount)) as entries:
            assert sum(entry.stat().st_size == 0 for entry in entries) == 100
        assert tally(sides.mount, "getattr") - before < 10


@fails_on_stock("libfuse 2.9 writes 128 KiB at a time")
def test_large_requests(engine: str, sides: Sides) -> None:
    """A write of 1 MiB arrives in one piece."""
    program = [PROGRAMS / "tallying.py"]
    with passthrough(sides.backing, sides.mount, engine=engine, program=program):
        with (sides.mount / "file").open("wb", buffering=0) as file:
            file.write(b"x" * (1 << 20))
        assert tally(sides.mount, "write") == 1 << 20


@fails_on_stock("libfuse 2.9 has no COPY_FILE_RANGE: the kernel reads and writes instead")
def test_copy_file_range(engine: str, sides: Sides) -> None:
    """Copying within the mount is handed down, where the backing filesystem may share the blocks."""
    program = [PROGRAMS / "tallying.py"]
    with passthrough(sides.backing, sides.mount, engine=engine, program=program):
        (sides.mount / "source").write_bytes(b"0123456789")
        with (sides.mount / "source").open("rb") as source, (sides.mount / "copy").open("wb") as to:
            assert copy_file_range(source.fileno(), 2, to.fileno(), 0, 5) == 5
        assert (sides.backing / "copy").read_bytes() == b"23456"
        assert tally(sides.mount, "copy") == 5


@pytest.mark.parametrize("how", ["direct_io", "fileno"])
def test_opens_with_and_without_kernel_io(how: str, sides: Sides) -> None:
    """Of one file at once: each is served as its object wants it."""
    (sides.backing / "file").write_text("text")
    program = [PROGRAMS / "asking.py"]
    with passthrough(sides.backing, sides.mount, f"how={how}", program=program) as server:
        for order in ((0, os.O_SYNC), (os.O_SYNC, 0)):
            opened = []
            try:
                opened = [os.open(str(sides.mount / "file"), os.O_RDONLY | flag) for flag in order]
                read = {flag: os.pread(each, 9, 0) for flag, each in zip(order, opened)}
            finally:
                for descriptor in opened:
                    os.close(descriptor)
            assert read[os.O_SYNC] == b"TEXT"
    assert "Traceback" not in server.errors


@fails_on_stock("fuse-python 1.0.9 does not say which writes are the kernel's own")
def test_a_mapping_of_a_file_that_is_appended_to(engine: str, sides: Sides) -> None:
    """Pages changed through mmap stay where they are, and what is written still goes to the end."""
    (sides.backing / "file").write_bytes(b"a" * 10000)
    options = ("no_kernel_io",) if engine == "kernel" else ()
    with passthrough(sides.backing, sides.mount, *options, engine=engine):
        descriptor = os.open(str(sides.mount / "file"), os.O_RDWR | os.O_APPEND)
        try:
            with mmap.mmap(descriptor, 10000) as mapping:
                mapping[5000:5003] = b"bbb"
                mapping.flush()
                with (sides.backing / "file").open("ab") as other:
                    other.write(b"c")
                os.write(descriptor, b"d")
        finally:
            os.close(descriptor)
    expected = b"a" * 5000 + b"bbb" + b"a" * 4997 + b"cd"
    assert (sides.backing / "file").read_bytes() == expected


@fails_on_stock("libfuse 2.9 has no LSEEK: the kernel shows every file without holes")
def test_holes_are_found(mirror: Mirror) -> None:
    """SEEK_DATA finds where the data begins."""
    with (mirror.backing / "file").open("wb") as file:
        file.seek(1 << 20)
        file.write(b"data")
    with (mirror.backing / "file").open("rb") as below, (mirror.mount / "file").open("rb") as above:
        expected = os.lseek(below.fileno(), 0, os.SEEK_DATA)
        if expected == 0:
            pytest.skip("the backing filesystem has no holes")
        assert os.lseek(above.fileno(), 0, os.SEEK_DATA) == expected


@fails_on_stock("fuse-python 1.0.9 has no fallocate")
def test_holes_are_punched(mirror: Mirror) -> None:
    """fallocate(2) reaches the backing file."""
    (mirror.mount / "file").write_bytes(b"x" * 65536)
    with (mirror.mount / "file").open("r+b") as file:
        fallocate(file.fileno(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096)
    assert (mirror.backing / "file").read_bytes() == bytes(4096) + b"x" * 61440


@fails_on_stock("libfuse 2.9 has no rename flags")
def test_renaming_with_flags(mirror: Mirror) -> None:
    """RENAME_EXCHANGE swaps two names."""
    for name in "one", "two":
        (mirror.mount / name).write_text(name)
    renameat2(mirror.mount / "one", mirror.mount / "two", RENAME_EXCHANGE)
    assert (mirror.backing / "one").read_text() == "two"
    assert (mirror.backing / "two").read_text() == "one"


@fails_on_stock("fuse-python 1.0.9 has no flock: the kernel keeps the locks to the mount")
def test_flock(mirror: Mirror) -> None:
    """A lock taken through the mount is there for who uses the backing file."""
    (mirror.mount / "file").touch()
    with (mirror.mount / "file").open("rb") as above, (mirror.backing / "file").open("rb") as below:
        fcntl.flock(above, fcntl.LOCK_EX)
        with raises_errno(errno.EAGAIN):
            fcntl.flock(below, fcntl.LOCK_EX | fcntl.LOCK_NB)


# Names and nodes


@fails_on_stock("libfuse 2.9 renames an open file that is unlinked")
def test_an_unlinked_open_file_is_gone(mirror: Mirror) -> None:
    """It leaves nothing in the backing directory, and is still usable through its file object."""
    with (mirror.mount / "file").open("w+b", buffering=0) as file:
        file.write(b"before")
        (mirror.mount / "file").unlink()
        assert os.listdir(str(mirror.backing)) == []
        file.write(b" and after")
        assert os.pread(file.fileno(), 100, 0) == b"before and after"
        assert os.fstat(file.fileno()).st_nlink == 0


@fails_on_stock("to libfuse 2.9 each path is a node with a cache of its own")
def test_hard_links_are_one_inode(mirror: Mirror) -> None:
    """What is done through one name is seen at once through the other."""
    one, two = mirror.mount / "one", mirror.mount / "two"
    one.write_bytes(b"data")
    assert one.stat().st_nlink == 1
    os.link(str(one), str(two))
    assert one.stat().st_nlink == 2
    assert two.stat().st_size == 4
    with one.open("ab", buffering=0) as file:
        file.write(b" and more")
        assert two.stat().st_size == 13
    two.chmod(0o600)
    assert one.stat().st_mode & 0o777 == 0o600


# The process


@fails_on_stock("Python has a handler for SIGINT, so libfuse leaves the signal alone")
def test_ctrl_c_ends_a_program(engine: str, tmp_path: Path) -> None:
    """SIGINT unmounts, and the program ends with 0."""
    with old_style(engine, "memory.py", tmp_path) as server:
        server.process.send_signal(signal.SIGINT)
        try:
            wait_until(lambda: server.process.poll() is not None, "the end", 2)
        finally:
            server.process.terminate()
        assert server.wait() == 0


@fails_on_stock("it is libfuse 2")
def test_no_libfuse(engine: str, sides: Sides) -> None:
    """The mirror works where the C module and libfuse 2 are not there, nor any program that mounts."""
    programs = sides.mount.parent / "programs"
    programs.mkdir()
    environment = without_c_module(sides.mount.parent / "python")
    command = [sys.executable, "-m", "fusepy_legacy", sides.mount, "-f"]
    command += ["-o", f"engine={engine},root={sides.backing}"]
    with Mounted(command, sides.mount, {"PATH": str(programs), **environment}) as server:
        (sides.mount / "file").write_text("data")
        assert (sides.backing / "file").read_text() == "data"
        assert "libfuse" not in Path(f"/proc/{server.pid}/maps").read_text()
        assert server.stop() == 0
    assert server.errors == ""


def best_of(rounds: int, work: Callable[[], object]) -> float:
    """Return the shortest time of several rounds in seconds."""
    times: List[float] = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def test_creating_is_faster(tmp_path: Path) -> None:
    """Creating and removing files takes less time; how much less, and what else, is for `make bench`."""
    times = {}
    for engine in "kernel", "stock":
        (tmp_path / engine).mkdir()
        sides = make_sides(tmp_path / engine)

        def create(path: str = str(sides.mount / "file")) -> None:
            for number in range(100):
                os.close(os.open(f"{path}-{number}", os.O_WRONLY | os.O_CREAT | os.O_EXCL))
            for number in range(100):
                os.unlink(f"{path}-{number}")

        with passthrough(sides.backing, sides.mount, engine=engine):
            times[engine] = best_of(7, create)
    assert times["kernel"] < times["stock"], times
