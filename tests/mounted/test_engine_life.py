"""The kernel engine while it serves: how it starts and ends itself, what it costs, and what it gives back."""

import contextlib
import ctypes
import errno
import fcntl
import itertools
import mmap
import os
import re
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, Iterator, List, Sequence, Set

import pytest

from tests.mounted.commands import output_of, run, wait_until
from tests.mounted.mounting import (
    PROGRAMS,
    Mirror,
    Mounted,
    Sides,
    is_mounted,
    make_sides,
    passthrough,
    tmpfs,
    unmount,
)

pytestmark = pytest.mark.parametrize("engine", ["kernel"], indirect=True)

CONNECTION_LOST = rf"\[Errno ({errno.ENOTCONN}|{errno.ECONNABORTED})\]"


@contextlib.contextmanager
def opened(path: Path, flags: int) -> Iterator[int]:
    """Open a file for the block; what close(2) says when the server has ended is the kernel's affair."""
    descriptor = os.open(str(path), flags)
    try:
        yield descriptor
    finally:
        with contextlib.suppress(OSError):
            os.close(descriptor)


# Its options


def test_the_writeback_cache(engine: str, sides: Sides) -> None:
    """With -o writeback_cache a part of a page can be written through a descriptor that cannot read."""
    (sides.backing / "file").write_bytes(b"a" * 5000)
    with passthrough(sides.backing, sides.mount, "writeback_cache", engine=engine):
        with opened(sides.mount / "file", os.O_WRONLY) as descriptor:
            assert os.pwrite(descriptor, b"bbb", 100) == 3
        with opened(sides.mount / "file", os.O_WRONLY | os.O_APPEND) as descriptor:
            assert os.write(descriptor, b"c") == 1
    assert (sides.backing / "file").read_bytes() == b"a" * 100 + b"bbb" + b"a" * 4897 + b"c"


def test_what_the_writeback_cache_holds_is_data(engine: str, sides: Sides) -> None:
    """Whoever copies a file by SEEK_DATA misses nothing that the kernel has not written out yet."""
    with passthrough(sides.backing, sides.mount, "writeback_cache", engine=engine):
        descriptor = os.open(str(sides.mount / "file"), os.O_RDWR | os.O_CREAT)
        try:
            os.ftruncate(descriptor, 1 << 20)
            os.fsync(descriptor)
            os.pwrite(descriptor, b"data", 300000)
            assert os.lseek(descriptor, 100000, os.SEEK_DATA) <= 300000
            assert os.lseek(descriptor, 300000, os.SEEK_HOLE) >= 300004
        finally:
            os.close(descriptor)


@pytest.mark.parametrize("option", ["no_kernel_io", "direct_io", "writeback_cache"])
def test_appending_can_be_switched_off_and_on(engine: str, sides: Sides, option: str) -> None:
    """O_APPEND is what the program has said last, fcntl(2), and not what it has opened the file with."""
    (sides.backing / "file").write_bytes(b"0123456789")
    with passthrough(sides.backing, sides.mount, option, engine=engine):
        with opened(sides.mount / "file", os.O_WRONLY | os.O_APPEND) as descriptor:
            fcntl.fcntl(descriptor, fcntl.F_SETFL, 0)
            assert os.pwrite(descriptor, b"ab", 3) == 2
            fcntl.fcntl(descriptor, fcntl.F_SETFL, os.O_APPEND)
            assert os.write(descriptor, b"c") == 1
    assert (sides.backing / "file").read_bytes() == b"012ab56789c"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may widen it")
@pytest.mark.parametrize(
    ("options", "kibibytes"), [((), 512), (("max_readahead=65536",), 64)], ids=["default", "option"]
)
def test_how_far_the_kernel_reads_ahead(
    engine: str, sides: Sides, options: Sequence[str], kibibytes: int
) -> None:
    """512 KiB, more than the kernel gives every filesystem, or what -o max_readahead says."""
    with passthrough(sides.backing, sides.mount, *options, engine=engine):
        device = os.stat(str(sides.mount)).st_dev
        setting = f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb"
        assert int(Path(setting).read_text()) == kibibytes


# Beginning and ending


def test_several_mounts_in_one_process(engine: str, tmp_path: Path) -> None:
    """Threads that call main serve one mount each; the end of one is not that of another."""
    all_sides = []
    for name in "one", "two", "three":
        (tmp_path / name).mkdir()
        all_sides.append(make_sides(tmp_path / name))
        (all_sides[-1].backing / "name").write_text(name)
    words = [str(side) for sides in all_sides for side in (sides.backing, sides.mount)]
    command = [sys.executable, PROGRAMS / "several.py", *words]
    with contextlib.ExitStack() as cleanup:
        for sides in all_sides:
            cleanup.callback(unmount, sides.mount)
        server = cleanup.enter_context(Mounted(command, all_sides[0].mount))
        for sides in all_sides:
            wait_until(lambda sides=sides: is_mounted(sides.mount), "the mount")
        for name, sides in zip(("one", "two", "three"), all_sides):
            assert (sides.mount / "name").read_text() == name
            (sides.mount / "new").write_text(name)
            assert (sides.backing / "new").read_text() == name
        for number, sides in enumerate(all_sides, 1):
            output_of("umount", sides.mount)
            wait_until(lambda sides=sides: f"end of {sides.mount}\n" in server.errors, "its end")
            for other in all_sides[number:]:
                assert os.listdir(str(other.mount)) == os.listdir(str(other.backing))
        assert server.wait() == 0
    assert server.errors.count("\n") == 3


@pytest.mark.parametrize("name", ["handler", "thread"])
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_the_filesystem_ends_itself(engine: str, sides: Sides, name: str, busy: bool) -> None:
    """exit() works in a handler, whose request is still answered, and in another thread; main returns."""
    for file in "handler", "thread", "open":
        (sides.backing / file).write_text("data")
    program = [PROGRAMS / "exiting.py"]
    with contextlib.ExitStack() as cleanup:
        server = cleanup.enter_context(
            passthrough(sides.backing, sides.mount, engine=engine, program=program)
        )
        if busy:
            cleanup.enter_context(opened(sides.mount / "open", os.O_RDONLY))
        (sides.mount / name).unlink()
        assert server.wait() == 0
        assert not is_mounted(sides.mount)
    assert server.errors == "main has returned\n"
    assert name not in os.listdir(str(sides.backing))


@pytest.mark.parametrize("switches", [[], ["-s"], ["-o", "workers=1"]], ids=" ".join)
def test_a_handler_that_leaves_the_program(engine: str, sides: Sides, switches: List[str]) -> None:
    """sys.exit is the end with its exit code, in whatever thread; the request is not answered."""
    (sides.backing / "exit").write_text("data")
    program = [PROGRAMS / "exiting.py"]
    with passthrough(
        sides.backing, sides.mount, engine=engine, program=program, switches=switches
    ) as server:
        with pytest.raises(OSError, match=CONNECTION_LOST):
            (sides.mount / "exit").unlink()
        assert server.wait() == 3
        assert not is_mounted(sides.mount)


@pytest.mark.parametrize(
    ("options", "switches"), [(["single"], []), ([], ["-s"])], ids=["multithreaded = False", "-s"]
)
def test_one_thread(engine: str, sides: Sides, options: List[str], switches: List[str]) -> None:
    """With multithreaded = False or -s, requests are served in the thread that called main."""
    (sides.backing / "file").write_text("MainThread")
    for chosen, used, expected in (options, switches, True), ([], [], False):
        with passthrough(
            sides.backing,
            sides.mount,
            *chosen,
            engine=engine,
            switches=used,
            program=[PROGRAMS / "thread_name.py"],
        ):
            assert ((sides.mount / "file").read_text() == "MainThread") is expected


SIGNALLED_WHILE_MOUNTING = """
import os, signal, sys
from fusepy_legacy.kernel import session
from fusepy_legacy.passthrough import Passthrough
class Mount(session.Mount):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        os.kill(os.getpid(), signal.SIGTERM)
session.Mount = Mount
mirror = Passthrough()
mirror.root = sys.argv.pop(1)
sys.exit(mirror.run())
"""


def test_a_signal_while_mounting(engine: str, sides: Sides) -> None:
    """A signal between mount(2) and the first request ends the mount too; nothing dead stays behind."""
    command = [sys.executable, "-c", SIGNALLED_WHILE_MOUNTING, str(sides.backing)]
    try:
        ended = subprocess.run(
            [*command, str(sides.mount), "-f"], timeout=20, stderr=subprocess.PIPE
        )
        assert (ended.returncode, ended.stderr) == (0, b"")
        assert not is_mounted(sides.mount)
    finally:
        unmount(sides.mount)


def test_a_signal_leaves_alone_what_is_mounted_there_by_now(engine: str, tmp_path: Path) -> None:
    """Who was unmounted while it was in use ends without a word, and takes no other mount away."""
    roots = [tmp_path / "one", tmp_path / "two"]
    mountpoint = tmp_path / "mount point"
    for directory in (*roots, mountpoint):
        directory.mkdir()
    with passthrough(roots[0], mountpoint, engine=engine) as first:
        descriptor = os.open(str(mountpoint), os.O_DIRECTORY)
        try:
            subprocess.check_call(["umount", "-l", str(mountpoint)])
            with passthrough(roots[1], mountpoint, engine=engine):
                first.stop()
                (mountpoint / "file").write_text("data")
                assert (roots[1] / "file").read_text() == "data"
        finally:
            os.close(descriptor)
        assert first.errors == ""


@pytest.mark.parametrize("options", [(), ("auto_unmount",)], ids=["root", "helper"])
def test_a_signal_unmounts_what_has_been_moved(
    engine: str, tmp_path: Path, options: Sequence[str]
) -> None:
    """Whoever renames what the mount point lies in takes the mount along; a signal ends it there."""
    mountpoint = tmp_path / "above" / "mount point"
    mountpoint.mkdir(parents=True)
    moved = tmp_path / "moved" / "mount point"
    with passthrough(tmp_path, mountpoint, *options, engine=engine) as server:
        assert "above" in os.listdir(str(mountpoint))  # it serves
        mountpoint.parent.rename(moved.parent)
        try:
            assert server.stop() == 0
            assert not is_mounted(moved)
        finally:
            unmount(moved)
    assert server.errors == ""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_signal_writes_back_what_is_mapped(mirror: Mirror, name: str) -> None:
    """Dirty pages of a shared mapping reach the backing file before the process ends, which it does."""
    length = 1 << 20
    data = os.urandom(length)
    (mirror.backing / "file").write_bytes(bytes(length))
    with opened(mirror.mount / "file", os.O_RDWR) as descriptor:
        mapping = mmap.mmap(descriptor, length)
        try:
            mapping[:] = data
            assert mirror.server.stop(getattr(signal, name)) == 0
            assert not is_mounted(mirror.mount)
            assert (mirror.backing / "file").read_bytes() == data
        finally:
            mapping.close()
    assert mirror.server.errors == ""


class Writer(threading.Thread):
    """Appends to a file until it is told to stop, or cannot; `written` bytes were acknowledged."""

    def __init__(self, path: Path, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.path = path
        self.stop = stop
        self.written = 0

    def run(self) -> None:
        with contextlib.suppress(OSError), opened(self.path, os.O_WRONLY | os.O_CREAT) as file:
            while not self.stop.wait(0.0002):
                self.written += os.write(file, b"x" * 100)


def test_a_signal_under_many_users(mirror: Mirror) -> None:
    """SIGTERM ends the server also while programs write; what was acknowledged is there."""
    stop = threading.Event()
    writers = [Writer(mirror.mount / name, stop) for name in ("one", "two", "three")]
    for writer in writers:
        writer.start()
    try:
        wait_until(lambda: min(writer.written for writer in writers) > 5000, "writing")
        assert mirror.server.stop(signal.SIGTERM) == 0
        assert not is_mounted(mirror.mount)
    finally:
        stop.set()
        for writer in writers:
            writer.join(20)
    for writer in writers:
        assert (mirror.backing / writer.path.name).read_bytes() == b"x" * writer.written


def lingering(sides: Sides, *options: str) -> Mounted:
    """Mount the mirror whose handlers take their time; "link" is there to be read."""
    (sides.backing / "link").symlink_to("text")
    return passthrough(sides.backing, sides.mount, *options, program=[PROGRAMS / "lingering.py"])


@contextlib.contextmanager
def reading_links(sides: Sides, server: Mounted, count: int = 1) -> Iterator[List[Any]]:
    """Have programs read the link, and wait until handlers do."""
    programs: List[Any] = []
    try:
        for _ in range(count):
            command = ["readlink", str(sides.mount / "link")]
            programs.append(subprocess.Popen(command, stdout=subprocess.PIPE))
        wait_until(lambda: server.errors.count("readlink begins") == count, "the handlers")
        yield programs
    finally:
        for program in programs:
            end(program)


def test_what_is_served_at_the_end_is_answered(engine: str, sides: Sides) -> None:
    """A signal lets handlers return, and who waits for them gets the answer; others get none."""
    with lingering(sides, "seconds=0.5") as server:
        with reading_links(sides, server) as [program]:
            server.process.send_signal(signal.SIGTERM)
            wait_until(lambda: not is_mounted(sides.mount), "the end of the mount")
            assert program.communicate(timeout=20)[0] == b"text\n"
        assert server.wait() == 0
    assert server.errors == "readlink begins\nreadlink ends\ndestroyed\n"


def test_a_handler_that_waits_for_its_own_mount(engine: str, sides: Sides) -> None:
    """What it asks after the end is refused, so that it returns."""
    door = sides.mount.parent / "door"  # into the mount, also when that is out of sight
    with lingering(sides, "seconds=0.3", f"asks={door}") as server:
        with opened(sides.mount, os.O_RDONLY) as top, reading_links(sides, server):
            door.symlink_to(f"/proc/{os.getpid()}/fd/{top}/missing")
            assert server.stop(signal.SIGTERM) == 0
    ending = "asked: Transport endpoint is not connected\ndestroyed\n"
    assert server.errors.endswith(ending)


@pytest.mark.parametrize("handlers", [1, 2], ids=["one thread is left", "none is left"])
def test_who_insists_on_the_end(engine: str, sides: Sides, handlers: int) -> None:
    """Handlers that do not return keep the process, until signals that come later say so again.

    The first of these ends the attempt to write back, for which there may be no thread any more.
    """
    with lingering(sides, "seconds=100", "workers=2") as server:
        with reading_links(sides, server, handlers):
            for number in signal.SIGTERM, signal.SIGTERM, signal.SIGHUP:
                server.process.send_signal(number)
                time.sleep(0.1)  # Python may sleep over two at the same moment
            if handlers == 2:
                time.sleep(1.1)
                server.process.send_signal(signal.SIGINT)
            word = "waiting for handlers that still run; another SIGINT or SIGTERM ends that"
            wait_until(lambda: word in server.errors, "the word")
            server.process.send_signal(signal.SIGHUP)
            time.sleep(0.1)
            assert server.process.poll() is None
            assert "destroyed" not in server.errors
            assert server.stop(signal.SIGINT) == 0
        assert not is_mounted(sides.mount)
    assert server.errors.endswith("handlers that still run are cut off\ndestroyed\n")


def test_a_signal_after_an_unmount(engine: str, sides: Sides) -> None:
    """The first asks for the end that has begun already; the second insists on it."""
    with lingering(sides, "seconds=100") as server:
        (sides.mount / "file").write_text("data")
        wait_until(lambda: "release begins" in server.errors, "the release")
        wait_until(lambda: run(["umount", sides.mount]).code == 0, "umount")
        wait_until(lambda: "; a second SIGINT or SIGTERM ends that" in server.errors, "the word")
        server.process.send_signal(signal.SIGTERM)
        time.sleep(1.1)
        assert server.process.poll() is None
        assert server.stop(signal.SIGTERM) == 0
    assert server.errors.endswith("handlers that still run are cut off\ndestroyed\n")


# What it costs


def ticks(pid: int) -> int:
    """Return the processor time of a process in clock ticks: utime and stime of proc_pid_stat(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def wakeups(pid: int) -> int:
    """Return how often the threads of a process have given up the processor to wait."""
    found = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        for line in (task / "status").read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches"):
                found += int(line.split()[1])
    return found


def test_idle_costs_nothing(mirror: Mirror) -> None:
    """Soon after the last request the server sleeps: no tick and no wakeup in 2 seconds."""
    for number in range(100):
        (mirror.mount / f"file-{number}").write_text("data")
    quiet_since = time.monotonic()
    last = (ticks(mirror.server.pid), wakeups(mirror.server.pid))

    def slept() -> bool:
        nonlocal quiet_since, last
        now = (ticks(mirror.server.pid), wakeups(mirror.server.pid))
        if now != last:
            last = now
            quiet_since = time.monotonic()
        return time.monotonic() - quiet_since > 2

    wait_until(slept, "two seconds of sleep", 7)


def resident(pid: int) -> int:
    """Return the resident memory of a process in bytes: proc_pid_status(5)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")


def mixed_operations(directory: Path, numbers: Iterator[int], count: int) -> None:
    """Make about `count` system calls that make, use and remove names, each name a new one."""
    base = str(directory)
    for number in itertools.islice(numbers, count // 10):
        name, other = f"{base}/file-{number}", f"{base}/other-{number}"
        descriptor = os.open(name, os.O_RDWR | os.O_CREAT)
        os.write(descriptor, b"data")
        os.pread(descriptor, 4, 0)
        os.close(descriptor)
        os.rename(name, other)
        os.stat(other)
        os.listdir(base)
        os.mkdir(name)
        os.rmdir(name)
        os.unlink(other)


def test_memory_stays_flat(engine: str, sides: Sides) -> None:
    """20,000 mixed operations on ever new names leave the server no larger than the first 5,000 did."""
    numbers = itertools.count()
    # One worker: each further one, started when there is much to do, has a buffer of its own.
    with passthrough(sides.backing, sides.mount, "workers=1", engine=engine) as server:
        mixed_operations(sides.mount, numbers, 5000)
        before = resident(server.pid)
        descriptors = len(server.descriptors())
        mixed_operations(sides.mount, numbers, 20000)
        assert resident(server.pid) - before < 1 << 20
        wait_until(lambda: len(server.descriptors()) <= descriptors, "the descriptors")


def known(mountpoint: Path) -> int:
    """Return how many nodes the server of knowing.py keeps."""
    return int(os.getxattr(str(mountpoint), "user.nodes"))


def test_nodes_are_given_back(engine: str, sides: Sides) -> None:
    """What a walk has made known is forgotten when the kernel drops its caches."""
    for number in range(3000):
        (sides.backing / f"file-{number}").touch()
    program = [PROGRAMS / "knowing.py"]
    with passthrough(sides.backing, sides.mount, engine=engine, program=program):
        with os.scandir(str(sides.mount)) as entries:
            assert sum(entry.stat().st_size == 0 for entry in entries) == 3000
        assert known(sides.mount) > 3000
        for _ in range(20):  # the kernel spares what was used lately, a few times
            Path("/proc/sys/vm/drop_caches").write_text("2")
            with contextlib.suppress(AssertionError):
                wait_until(lambda: known(sides.mount) < 10, "FORGET", 0.5)
                break
        assert known(sides.mount) < 10
        assert (sides.mount / "file-7").exists()


# Large directories, and notice of changes


def test_a_directory_that_changes_while_it_is_listed(engine: str, sides: Sides) -> None:
    """Of 100,000 entries each that stays is seen once, while others come and go."""
    count = 100000
    with tmpfs(sides.backing, "size=256m"):
        for number in range(count):
            os.mknod(str(sides.backing / f"stays-{number}"))
        with passthrough(sides.backing, sides.mount, engine=engine):
            end = threading.Event()
            changes: List[int] = []
            changer = threading.Thread(target=come_and_go, args=(sides.mount, end, changes))
            changer.start()
            try:
                wait_until(lambda: changes, "a change")
                with os.scandir(str(sides.mount)) as entries:
                    names = [entry.name for entry in entries]
            finally:
                end.set()
                changer.join(20)
        seen = [name for name in names if name.startswith("stays-")]
        assert len(seen) == count
        assert len(set(seen)) == count
        assert len(changes) > 20


def come_and_go(directory: Path, end: threading.Event, changes: List[int]) -> None:
    """Add and remove entries, and remember that, until the end."""
    for number in itertools.count():
        if end.is_set():
            return
        os.mknod(str(directory / f"comes-{number}"))
        if number >= 10:
            os.unlink(str(directory / f"comes-{number - 10}"))
        changes.append(number)


IN_MODIFY, IN_MOVED_FROM, IN_MOVED_TO, IN_CREATE, IN_DELETE = 0x2, 0x40, 0x80, 0x100, 0x200


def test_inotify(mirror: Mirror) -> None:
    """What programs do through the mount is noticed by who watches a directory of it (inotify(7))."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
    assert descriptor >= 0
    try:
        wanted = IN_MODIFY | IN_MOVED_FROM | IN_MOVED_TO | IN_CREATE | IN_DELETE
        assert libc.inotify_add_watch(descriptor, os.fsencode(str(mirror.mount)), wanted) >= 0
        with (mirror.mount / "file").open("wb", buffering=0) as file:
            file.write(b"data")
        os.rename(str(mirror.mount / "file"), str(mirror.mount / "moved"))
        (mirror.mount / "moved").unlink()
        found = list(events(os.read(descriptor, 65536)))
    finally:
        os.close(descriptor)
    assert found == [
        (IN_CREATE, "file"),
        (IN_MODIFY, "file"),
        (IN_MOVED_FROM, "file"),
        (IN_MOVED_TO, "moved"),
        (IN_DELETE, "moved"),
    ]


def events(data: bytes) -> Iterator[object]:
    """Yield the mask and the name of each inotify event."""
    position = 0
    while position < len(data):
        _, mask, _, length = struct.unpack_from("iIII", data, position)
        position += 16
        yield mask, data[position : position + length].rstrip(b"\0").decode()
        position += length


# Locks that are waited for

WAIT_FOR_LOCK = """
import fcntl, signal, sys
class Alarm(Exception): ...
def ring(*arguments): raise Alarm
signal.signal(signal.SIGALRM, ring)
with open(sys.argv[2], "r+b") as file:
    print("waiting", flush=True)
    try:
        getattr(fcntl, sys.argv[1])(file, fcntl.LOCK_EX)
    except Alarm:
        print("interrupted", flush=True)
    else:
        print("locked", flush=True)
"""


@pytest.mark.parametrize("function", ["lockf", "flock"])
@pytest.mark.parametrize("number", [signal.SIGALRM, signal.SIGKILL], ids=["SIGALRM", "SIGKILL"])
def test_interrupted_lock_waits(mirror: Mirror, function: str, number: int) -> None:
    """A wait ends at once with a signal; as many waits as there are workers, and more, block nobody else."""
    lock: Callable[[object, int], object] = getattr(fcntl, function)
    path = mirror.mount / "file"
    path.write_bytes(b"data")
    waiters: Set[subprocess.Popen[str]] = set()
    try:
        with path.open("r+b") as holder:
            lock(holder, fcntl.LOCK_EX)
            for _ in range(14):
                command = [sys.executable, "-c", WAIT_FOR_LOCK, function, str(path)]
                waiters.add(
                    subprocess.Popen(command, stdout=subprocess.PIPE, universal_newlines=True)
                )
            for waiter in waiters:
                assert waiter.stdout is not None
                assert waiter.stdout.readline() == "waiting\n"
            for waiter in waiters:
                wait_until(lambda waiter=waiter: is_blocked(waiter.pid), "the wait for the lock")
            (mirror.mount / "other").write_text("served")
            assert (mirror.mount / "other").read_text() == "served"
            for waiter in waiters:
                waiter.send_signal(number)
            for waiter in waiters:
                output, _ = waiter.communicate(timeout=20)
                assert output == ("" if number == signal.SIGKILL else "interrupted\n")
        with path.open("r+b") as file:  # nobody got it in the end
            wait_until(lambda: taken(lock, file), "the lock", 5)
    finally:
        for waiter in waiters:
            end(waiter)
    assert mirror.server.errors == ""


def end(process: "subprocess.Popen[str]") -> None:
    """End a process whose output was perhaps read to its end."""
    process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def is_blocked(pid: int) -> bool:
    """Tell whether a process waits for an answer of a FUSE filesystem."""
    return "request_wait_answer" in Path(f"/proc/{pid}/stack").read_text()


def taken(lock: Callable[[object, int], object], file: object) -> bool:
    """Try to take the lock."""
    try:
        lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@pytest.mark.parametrize("function", ["flock", "lockf"])
def test_a_signal_ends_waits_for_locks(mirror: Mirror, function: str) -> None:
    """SIGTERM ends the server also while someone waits for a lock; the wait ends with an error."""
    path = mirror.mount / "file"
    path.write_bytes(b"data")
    with opened(path, os.O_RDWR) as holder:
        getattr(fcntl, function)(holder, fcntl.LOCK_EX)
        command = [sys.executable, "-c", WAIT_FOR_LOCK, function, str(path)]
        waiter = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            wait_until(lambda: is_blocked(waiter.pid), "the wait for the lock")
            assert mirror.server.stop(signal.SIGTERM) == 0
            _, errors = waiter.communicate(timeout=20)
            # The first is the wait's, and another may be what closing the file then says.
            assert re.match(CONNECTION_LOST, re.findall(r"Error: (.*)", errors.decode())[0])
        finally:
            end(waiter)
    assert not path.exists()
