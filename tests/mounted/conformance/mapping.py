"""mmap and running programs."""

import functools
import mmap
import os
import shutil
import subprocess
import time

from .descriptors import opened
from .expectations import eventually
from .processes import run
from .registry import stock_cannot

_RDWR = os.O_CREAT | os.O_RDWR


def _in_another_process(check):
    """Run the check where SIGBUS, the answer to a page that cannot be had, ends a child only."""

    @functools.wraps(check)
    def checking(mount, backing):
        run(lambda: check(mount, backing))

    return checking


@_in_another_process
def a_shared_mapping_reads_the_file(mount, backing):
    """mmap for reading shows the content, whole and in odd places."""
    data = os.urandom(100001)
    (backing / "file").write_bytes(data)
    with opened(str(mount / "file")) as descriptor, mmap.mmap(
        descriptor, 0, mmap.MAP_SHARED, mmap.PROT_READ
    ) as mapping:
        assert mapping[:] == data
        assert mapping[4095:4099] == data[4095:4099]


@_in_another_process
def a_shared_mapping_writes_the_file_when_flushed(mount, backing):
    """msync brings what was stored in memory to both sides."""
    (mount / "file").write_bytes(b"." * 10000)
    with opened(str(mount / "file"), os.O_RDWR) as descriptor, mmap.mmap(descriptor, 0) as mapping:
        mapping[5000:5007] = b"content"
        mapping.flush()
        expected = b"." * 5000 + b"content" + b"." * 4993
        assert (backing / "file").read_bytes() == expected
        assert (mount / "file").read_bytes() == expected


@_in_another_process
def a_shared_mapping_writes_the_file_when_closed(mount, backing):
    """What was stored is there after unmapping and closing, without msync."""
    (mount / "file").write_bytes(b"." * 10000)
    with opened(str(mount / "file"), os.O_RDWR) as descriptor, mmap.mmap(descriptor, 0) as mapping:
        mapping[9990:10000] = b"0123456789"
    assert (backing / "file").read_bytes() == b"." * 9990 + b"0123456789"


@stock_cannot("fuse-python 1.0 passes whole seconds", always=False)
@_in_another_process
def writing_through_a_mapping_sets_the_times(mount, backing):
    """mmap(2): mtime and ctime change at the latest with msync, also where they have just been asked for."""
    (mount / "file").write_bytes(b"." * 10000)
    with opened(str(mount / "file"), os.O_RDWR) as descriptor, mmap.mmap(descriptor, 0) as mapping:
        for place in (0, 5000):
            mapping.flush()
            os.utime(str(mount / "file"), (0, 0))
            before = (mount / "file").stat()
            assert before.st_mtime == 0
            tick = before.st_ctime + 0.02
            assert eventually(lambda tick=tick: time.time() > tick)
            mapping[place : place + 7] = b"content"
            mapping.flush()
            after = (mount / "file").stat()
            assert after.st_mtime > 0
            assert after.st_ctime > before.st_ctime
            assert after.st_mtime_ns == (backing / "file").stat().st_mtime_ns


@_in_another_process
def a_shared_mapping_and_write_see_each_other(mount, backing):
    """Memory and file are one."""
    with opened(str(mount / "file"), _RDWR) as descriptor:
        os.ftruncate(descriptor, 8192)
        with mmap.mmap(descriptor, 0) as mapping:
            os.pwrite(descriptor, b"written", 4090)
            assert mapping[4090:4097] == b"written"
            mapping[10:16] = b"mapped"
            assert os.pread(descriptor, 6, 10) == b"mapped"


@_in_another_process
def two_shared_mappings_see_each_other(mount, backing):
    """Two opens, two mappings, one memory."""
    (mount / "file").write_bytes(b"." * 8192)
    with opened(str(mount / "file"), os.O_RDWR) as descriptor:
        writer = mmap.mmap(descriptor, 0)
    with opened(str(mount / "file"), os.O_RDONLY) as descriptor:
        reader = mmap.mmap(descriptor, 0, mmap.MAP_SHARED, mmap.PROT_READ)
    with writer, reader:
        writer[4094:4100] = b"mapped"
        assert reader[4094:4100] == b"mapped"


@_in_another_process
def a_private_mapping_keeps_its_changes_to_itself(mount, backing):
    """MAP_PRIVATE is copied on writing."""
    (mount / "file").write_bytes(b"." * 5000)
    with opened(str(mount / "file"), os.O_RDONLY) as descriptor, mmap.mmap(
        descriptor, 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE
    ) as mapping:
        mapping[:7] = b"private"
        assert mapping[:8] == b"private."
        assert os.pread(descriptor, 7, 0) == b"." * 7
    assert (mount / "file").read_bytes() == (backing / "file").read_bytes() == b"." * 5000


@_in_another_process
def a_mapping_outlives_descriptor_and_name(mount, backing):
    """What is mapped stays readable and writable when the file was closed and unlinked."""
    (mount / "file").write_bytes(b"." * 5000)
    with opened(str(mount / "file"), os.O_RDWR) as descriptor:
        mapping = mmap.mmap(descriptor, 0)
    with mapping:
        (mount / "file").unlink()
        mapping[:7] = b"content"
        mapping.flush()
        assert mapping[:8] == b"content."
    assert eventually(lambda: os.listdir(str(backing)) == [])


def a_program_on_the_mount_runs(mount, backing):
    """The kernel maps and executes a binary."""
    shutil.copy(shutil.which("true"), str(mount / "program"))
    (mount / "program").chmod(0o755)
    assert subprocess.call([str(mount / "program")]) == 0


def a_script_on_the_mount_runs(mount, backing):
    """The kernel reads the interpreter line, the interpreter the rest."""
    (mount / "script").write_bytes(b"#!/bin/sh\nexit 42\n")
    (mount / "script").chmod(0o755)
    assert subprocess.call([str(mount / "script")]) == 42
