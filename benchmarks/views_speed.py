"""The encrypted and the decrypted view beside gocryptfs and encfs, each freshly mounted for each loop.

usage: python -m benchmarks.views_speed [--rounds N] [--rows TEXT,…] [--only NAME,…] [--quick]

So the kernel and the view have cached nothing, while the files below were just written and are in memory:
what is measured is the view. Candidates take turns in changing order, each turn a process of its own on a
machine at rest; medians are reported. Each shows the same directories, only encfs does not decrypt
gocryptfs's. gocryptfs and encfs are Debian's packages; what is not installed is left out.
"""

import argparse
import contextlib
import functools
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from benchmarks.candidates import HANGS, REPOSITORY, Candidate, Serving, StartError
from benchmarks.idle_cpus import IdleCpus
from benchmarks.turns import in_own_process, shuffled

BLOCK = 1 << 20
PAGE = 4096
_LARGEST_SMALL = 16384  # bytes

VAULT = "vault"  # the encrypted directory; the others are plain


class Sizes(NamedTuple):
    """How much is measured: MiB of the large file, small files, names, random reads."""

    blocks: int
    small: int
    names: int
    accesses: int


FULL = Sizes(256, 5000, 100000, 4000)
QUICK = Sizes(32, 500, 5000, 500)


def _files(top: Path) -> List[str]:
    found = [
        os.path.join(directory, name) for directory, _, names in os.walk(str(top)) for name in names
    ]
    return [path for path in found if "gocryptfs." not in os.path.basename(path)]


def sequential(mountpoint: Path, sizes: Sizes, scratch: Path) -> float:
    """MB/s of reading one large file by 1 MiB."""
    path = max(_files(mountpoint), key=os.path.getsize)
    buffers, read = [bytearray(BLOCK)], 0
    descriptor = os.open(path, os.O_RDONLY)
    begin = time.perf_counter()
    while True:
        count = os.readv(descriptor, buffers)
        if not count:
            break
        read += count
    seconds = time.perf_counter() - begin
    os.close(descriptor)
    assert read >= sizes.blocks * BLOCK
    return read / seconds / 1e6


def random_reads(mountpoint: Path, sizes: Sizes, scratch: Path) -> float:
    """Microseconds for 4 KiB at a random place of a large file."""
    path = max(_files(mountpoint), key=os.path.getsize)
    pages = range(sizes.blocks * BLOCK // PAGE)
    offsets = [page * PAGE for page in random.Random(1).sample(pages, sizes.accesses)]
    descriptor = os.open(path, os.O_RDONLY)
    begin = time.perf_counter()
    for offset in offsets:
        os.pread(descriptor, PAGE, offset)
    seconds = time.perf_counter() - begin
    os.close(descriptor)
    return seconds / len(offsets) * 1e6


def small_files(mountpoint: Path, sizes: Sizes, scratch: Path) -> float:
    """Seconds to walk a tree of small files and to read each."""
    begin = time.perf_counter()
    count = 0
    for directory, _, names in os.walk(str(mountpoint)):
        for name in names:
            descriptor = os.open(os.path.join(directory, name), os.O_RDONLY)
            while os.read(descriptor, BLOCK):
                pass
            os.close(descriptor)
            count += 1
    assert count >= sizes.small
    return time.perf_counter() - begin


def _find(mountpoint: Path, least: int) -> float:
    begin = time.perf_counter()
    output = subprocess.check_output(["find", str(mountpoint), "-printf", "%s "])
    seconds = time.perf_counter() - begin
    assert output.count(b" ") >= least
    return seconds


def find(mountpoint: Path, sizes: Sizes, scratch: Path) -> float:
    """Seconds of find(1), asking for the size of each file of many."""
    return _find(mountpoint, sizes.names)


def find_small_files(mountpoint: Path, sizes: Sizes, scratch: Path) -> float:
    """Seconds of find(1), asking for the size of each file of a tree of small files."""
    return _find(mountpoint, sizes.small)


def second_tar(mountpoint: Path, sizes: Sizes, scratch: Path) -> float:
    """Seconds of a second pass of tar(1) --listed-incremental, which finds nothing to do."""
    snapshot = scratch / "snapshot"
    with contextlib.suppress(FileNotFoundError):
        snapshot.unlink()
    command = ["tar", "-C", str(mountpoint), "-cf", str(scratch / "archive.tar")]
    command += [f"--listed-incremental={snapshot}", "."]
    subprocess.check_call(command)
    begin = time.perf_counter()
    subprocess.check_call(command)
    return time.perf_counter() - begin


def sequential_write(mountpoint: Path, sizes: Sizes, scratch: Path) -> float:
    """MB/s of writing one large file by 1 MiB, to its close."""
    path, content = mountpoint / "written", os.urandom(BLOCK)
    descriptor = os.open(str(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    begin = time.perf_counter()
    for _ in range(sizes.blocks):
        os.write(descriptor, content)
    os.close(descriptor)
    seconds = time.perf_counter() - begin
    path.unlink()
    return sizes.blocks * BLOCK / seconds / 1e6


def create_and_remove(mountpoint: Path, sizes: Sizes) -> Tuple[float, float]:
    """Return the seconds of writing a tree of small files, and those of removing it."""
    content = os.urandom(_LARGEST_SMALL)
    top = mountpoint / "made"
    begin = time.perf_counter()
    top.mkdir()
    write_small_files(top, sizes.small, content)
    middle = time.perf_counter()
    shutil.rmtree(str(top))
    return middle - begin, time.perf_counter() - middle


def create_small_files(mountpoint: Path, sizes: Sizes, scratch: Path) -> float:
    """Seconds to write a tree of small files."""
    return create_and_remove(mountpoint, sizes)[0]


def remove_small_files(mountpoint: Path, sizes: Sizes, scratch: Path) -> float:
    """Seconds to remove a tree of small files."""
    return create_and_remove(mountpoint, sizes)[1]


class Row(NamedTuple):
    """A line of the table: which directory it shows, and whether more is better."""

    name: str
    root: str
    measure: Callable[[Path, Sizes, Path], float]
    unit: str
    more_is_better: bool = False


ROWS = (
    Row("sequential read", "large", sequential, "MB/s", True),
    Row("random read, 4 KiB", "large", random_reads, "µs"),
    Row("tree of small files", "small", small_files, "s"),
    Row("find with stat", "names", find, "s"),
    Row("second pass of tar", "small", second_tar, "s"),
    Row("decrypted: sequential read", VAULT, sequential, "MB/s", True),
    Row("decrypted: sequential write", VAULT, sequential_write, "MB/s", True),
    Row("decrypted: tree of small files", VAULT, small_files, "s"),
    Row("decrypted: find with stat", VAULT, find_small_files, "s"),
    Row("decrypted: creating one", VAULT, create_small_files, "s"),
    Row("decrypted: removing it", VAULT, remove_small_files, "s"),
)


def decrypting(passfile: Path) -> List[Candidate]:
    """Return the programs that show an encrypted tree plain, ours first."""
    ours = (sys.executable, "-m", "fusepy_legacy.commands.crypt", "-f", "{mountpoint}", "-o")
    gocryptfs = ("gocryptfs", "-fg", "-q", "-nosyslog", "-passfile", str(passfile))
    return [
        Candidate("fusepy-crypt", (*ours, f"root={{root}},forward,passfile={passfile}")),
        Candidate("gocryptfs", (*gocryptfs, "{root}", "{mountpoint}")),
    ]


def encrypting(passfile: Path) -> List[Candidate]:
    """Return the programs that show a plain tree encrypted, ours first."""
    ours = (sys.executable, "-m", "fusepy_legacy.commands.crypt", "-f", "{mountpoint}", "-o")
    gocryptfs = ("gocryptfs", "-reverse", "-fg", "-q", "-nosyslog", "-passfile", str(passfile))
    encfs = ("encfs", "--reverse", "--standard", "-f", f"--extpass=cat {passfile}")
    return [
        Candidate("fusepy-crypt", (*ours, f"root={{root}},passfile={passfile}")),
        Candidate("gocryptfs", (*gocryptfs, "{root}", "{mountpoint}")),
        Candidate("encfs", (*encfs, "{root}", "{mountpoint}")),
    ]


def write_large_file(path: Path, blocks: int, content: bytes) -> None:
    """Write a file of so many times the same content."""
    with open(str(path), "wb") as file:
        for _ in range(blocks):
            file.write(content)


def write_small_files(top: Path, count: int, content: bytes) -> None:
    """Write files of all sizes up to 16 KiB, a hundred to a directory."""
    for number in range(count):
        directory = top / f"directory {number // 100}"
        if number % 100 == 0:
            directory.mkdir()
        (directory / f"file {number}.txt").write_bytes(content[: number % _LARGEST_SMALL])


def make_roots(base: Path, passfile: Path, sizes: Sizes) -> Dict[str, Path]:
    """Make the plain directories and the encrypted one, each with a config."""
    roots = {name: base / name for name in ("large", "small", "names", VAULT)}
    for root in roots.values():
        root.mkdir()
    content = os.urandom(BLOCK)
    write_large_file(roots["large"] / "data", sizes.blocks, content)
    write_small_files(roots["small"], sizes.small, content)
    for number in range(sizes.names):
        directory = roots["names"] / f"directory {number // 1000}"
        if number % 1000 == 0:
            directory.mkdir()
        os.close(os.open(f"{directory}/file {number}.jpeg", os.O_CREAT | os.O_WRONLY))
    command = "import sys; from fusepy_legacy.commands.vault import main; sys.exit(main())"
    for name, root in roots.items():
        words = ["init", "--scryptn", "10", "--passfile", str(passfile), str(root)]
        words += [] if name == VAULT else ["--reverse"]
        subprocess.check_output([sys.executable, "-c", command, *words], cwd=str(REPOSITORY))
    mountpoint = base / "mount"
    with Serving(decrypting(passfile)[0], roots[VAULT], mountpoint):
        write_large_file(mountpoint / "data", sizes.blocks, content)
        write_small_files(mountpoint, sizes.small, content)
    return roots


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Measure and print a table; 1 when nothing could be measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.views_speed", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", default="", metavar="TEXT,…")
    parser.add_argument("--only", default="", metavar="NAME,…")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(arguments)
    rows = [row for row in ROWS if any(text in row.name for text in options.rows.split(","))]
    with tempfile.TemporaryDirectory(prefix="benchmarks-views-") as directory:
        views = Views(Path(directory), options.only, QUICK if options.quick else FULL)
        try:
            for number in range(options.rounds):
                for index, row in enumerate(rows):
                    views.measure(row, number * len(ROWS) + index)
        finally:
            views.idle_cpus.close()
    for row in rows:
        print(line(row, views.results[row.name]))
    return 0 if any(views.results.values()) else 1


class Views:
    """The candidates, the directories that they show, and what was measured, by row and candidate."""

    def __init__(self, base: Path, only: str, sizes: Sizes) -> None:
        """`only` are the names of candidates to measure, at commas; "" for all."""
        passfile = base / "password"
        passfile.write_text("password\n")
        self.base = base
        self.sizes = sizes
        self.idle_cpus = IdleCpus()
        self.results: Dict[str, Dict[str, List[float]]] = {row.name: {} for row in ROWS}
        self._roots = make_roots(base, passfile, sizes)
        self._encrypting = _installed(encrypting(passfile), only)
        self._decrypting = _installed(decrypting(passfile), only)

    def measure(self, row: Row, number: int) -> None:
        """Let each candidate have a turn; the `number` makes their order."""
        candidates = self._decrypting if row.root == VAULT else self._encrypting
        for candidate in shuffled(candidates, number):
            try:
                value = self._measure_one(row, candidate)
            except (OSError, StartError) as error:
                print(f"left out: {candidate.name}, {row.name}: {error}", file=sys.stderr)
            else:
                self.results[row.name].setdefault(candidate.name, []).append(value)

    def _measure_one(self, row: Row, candidate: Candidate) -> float:
        mountpoint = self.base / "mount"
        with Serving(candidate, self._roots[row.root], mountpoint) as serving:
            self.idle_cpus.settle()
            measure = functools.partial(row.measure, mountpoint, self.sizes, self.base)
            value: float = in_own_process(measure, HANGS, serving.kill)
            return value


def _installed(candidates: List[Candidate], only: str) -> List[Candidate]:
    return [
        candidate
        for candidate in candidates
        if shutil.which(candidate.command[0]) and (not only or candidate.name in only.split(","))
    ]


def line(row: Row, values: Dict[str, List[float]]) -> str:
    """Return one line: each median, and how many times better the first is than each other."""
    medians = {name: statistics.median(found) for name, found in values.items()}
    ours = medians.get("fusepy-crypt")
    parts = []
    for name, median in medians.items():
        part = f"{name} {median:.3g}"
        if ours is not None and name != "fusepy-crypt":
            ratio = ours / median if row.more_is_better else median / ours
            part += f" (x{ratio:.2f})"
        parts.append(part)
    return f"{row.name + ', ' + row.unit:34}" + "  ".join(sorted(parts, reverse=True))


if __name__ == "__main__":
    sys.exit(main())
