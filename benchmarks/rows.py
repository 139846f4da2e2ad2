"""The lines of the table, in their order."""

from typing import Callable, NamedTuple

from benchmarks import loops, programs
from benchmarks.ground import Ground, Sizes, Stopwatch


class Row(NamedTuple):
    """A line of the table."""

    name: str
    measure: Callable[[Ground, Sizes, Stopwatch], int]  # returns the number of operations
    megabytes: bool = False  # an operation is a block of 1 MiB, and the result is MB/s


ROWS = (
    Row("create+close", loops.create),
    Row("cold stat", loops.cold_stat),
    Row("open+read 4 KiB+close", loops.open_read_close),
    Row("scandir+stat, per file", loops.scan),
    Row("unlink", loops.unlink),
    Row("rename", loops.rename),
    Row("mkdir+rmdir", loops.mkdir_rmdir),
    Row("random read 4 KiB", loops.random_read),
    Row("random write 4 KiB", loops.random_write),
    Row("sequential read", loops.sequential_read, megabytes=True),
    Row("sequential write", loops.sequential_write, megabytes=True),
    Row("cp -a, per file", programs.copy),
    Row("find -size, per file", programs.find),
    Row("tar, per file", programs.tar),
    Row("git status, per file", programs.git_status),
    Row("rm -r, per file", programs.remove),
)
