"""Measure the mirror next to the plain directory and to others' mirrors: `make bench`.

Every round goes through all rows; in each row every candidate has its turn, in changing order, so that what
else the machine does meets all alike. A turn is a process of its own, on a machine at rest: what one
candidate does to the CPUs is not to help the next. Reported are medians.
"""

import argparse
import contextlib
import importlib.util
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Set, Tuple

from benchmarks.candidates import (
    HANGS,
    REPOSITORY,
    Candidate,
    Serving,
    StartError,
    candidates,
    filesystem_type,
    parse_candidate,
)
from benchmarks.ground import FULL, QUICK, WARM_UP, Ground, Sizes, Stopwatch
from benchmarks.idle_cpus import IdleCpus
from benchmarks.memory import Memory, drop_caches, make_tree, measure_idle, measure_memory
from benchmarks.report import Measurement, Results, table, write_chart, write_json
from benchmarks.rows import ROWS, Row
from benchmarks.turns import in_own_process, shuffled

INTERRUPTED = 130  # what a shell says of a program ended by SIGINT
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Measure and report; return an exit code, 1 when a candidate that started has failed a row."""
    options = _parse(arguments)
    try:
        idle_cpus = IdleCpus(options.awake)
    except OSError as error:
        print(f"--awake: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    before = {number: signal.signal(number, signal.default_int_handler) for number in SIGNALS}
    try:
        benchmark = Benchmark(options, idle_cpus)
        results = benchmark.run()
    except KeyboardInterrupt:
        print("interrupted; everything is unmounted", file=sys.stderr)
        return INTERRUPTED
    finally:
        idle_cpus.close()
        for number, handler in before.items():
            signal.signal(number, handler)
    if not results.measurements:
        print("nothing was measured", file=sys.stderr)
        return 1
    print(table(results), end="")
    for path, write in ((options.json, write_json), (options.chart, write_chart)):
        if path:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            write(results, path)
            print(f"written: {path}")
    return 1 if benchmark.failed else 0


def _parse(arguments: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    build = REPOSITORY / "build"
    names = ", ".join(row.name for row in ROWS)
    parser.add_argument("--only", metavar="NAME,…", help="measure these candidates")
    parser.add_argument(
        "--rows", metavar="TEXT,…", help=f"rows with one of these texts in: {names}"
    )
    parser.add_argument("--places", default="tmpfs,disk", help="default: %(default)s")
    parser.add_argument("--tmpfs", default="/dev/shm", metavar="DIR", help="default: %(default)s")
    parser.add_argument(
        "--disk", default=tempfile.gettempdir(), metavar="DIR", help="default: %(default)s"
    )
    parser.add_argument(
        "--passthrough-hp", metavar="PATH", help="libfuse's example, to measure too"
    )
    parser.add_argument(
        "--candidate",
        action="append",
        default=[],
        type=parse_candidate,
        metavar="NAME=COMMAND",
        help="one more, or another command for one; it stays in the foreground and shows {root} at "
        "{mountpoint}",
    )
    parser.add_argument("--rounds", type=int, help="default: 9, with --quick 3")
    parser.add_argument("--nodes", type=int, help="in the tree for the memory; 0: leave that out")
    parser.add_argument("--quick", action="store_true", help="small numbers, for trying")
    parser.add_argument(
        "--json", default=str(build / "benchmarks.json"), metavar="FILE", help="'': none"
    )
    parser.add_argument(
        "--chart", default=str(build / "benchmarks.png"), metavar="FILE", help="'': none"
    )
    parser.add_argument(
        "--awake",
        action="store_true",
        help="keep idle CPUs from halting, for all candidates; only root can",
    )
    options = parser.parse_args(arguments)
    if options.rounds is None:
        options.rounds = 3 if options.quick else 9
    if options.nodes is None:
        options.nodes = 5000 if options.quick else 100000
    options.places = options.places.split(",")
    options.candidates = _choose(parser, options)
    options.rows = [
        row for row in ROWS if any(text in row.name for text in (options.rows or "").split(","))
    ]
    if not set(options.places) <= {"tmpfs", "disk"}:
        parser.error("--places: tmpfs, disk or both")
    if not options.rows:
        parser.error("--rows: no row has that in its name")
    if options.chart and importlib.util.find_spec("matplotlib") is None:
        parser.error("the chart needs matplotlib: pip install matplotlib, or --chart ''")
    return options


def _choose(parser: argparse.ArgumentParser, options: argparse.Namespace) -> List[Candidate]:
    table = candidates(options.passthrough_hp)
    table.update({candidate.name: candidate for candidate in options.candidate})
    names = options.only.split(",") if options.only else list(table)
    for name in names:
        if name not in table:
            parser.error(f"--only: {name} is none of {', '.join(table)}")
    return [table[name] for name in names]


class Benchmark:
    """One run."""

    def __init__(self, options: argparse.Namespace, idle_cpus: IdleCpus) -> None:
        self.idle_cpus = idle_cpus
        self.rows: List[Row] = options.rows
        self.rounds: int = options.rounds
        self.nodes: int = options.nodes
        self.sizes = QUICK if options.quick else FULL
        self.candidates: List[Candidate] = options.candidates
        self.directories = {place: Path(getattr(options, place)) for place in options.places}
        self.measurements: List[Measurement] = []
        self.memory: Dict[str, Memory] = {}
        self.idle: Dict[str, float] = {}
        self.failed: Set[Tuple[str, str, str]] = set()

    def run(self) -> Results:
        """Measure everything, and leave nothing behind."""
        for number, (place, directory) in enumerate(self.directories.items()):
            with _undone_undisturbed() as stack:
                base = tempfile.TemporaryDirectory(prefix="benchmarks-", dir=str(directory))
                self._measure_place(place, Path(stack.enter_context(base)), first=number == 0)
        names = [candidate.name for candidate in self.candidates]
        measured = {measurement.candidate for measurement in self.measurements}
        return Results(
            machine_facts(names, self.idle_cpus.awake),
            {place: filesystem_type(directory) for place, directory in self.directories.items()},
            [name for name in names if name in measured],
            self.measurements,
            self.memory,
            self.idle,
        )

    def _measure_place(self, place: str, base: Path, first: bool) -> None:
        """Memory and idling are a matter of the program, not of the place: once, at the first."""
        root = base / "above" / "root"
        root.mkdir(parents=True)
        _spread_directories(root)
        with _undone_undisturbed() as stack:
            serving = list(self._serve(root, base, stack))
            for row in self.rows:
                for each in serving:
                    self._measure(place, row, each, root, WARM_UP)
            for number in range(self.rounds):
                _say(f"{place}: round {number + 1} of {self.rounds}")
                for index, row in enumerate(self.rows):
                    for each in shuffled(serving, number * len(ROWS) + index):
                        self._measure(place, row, each, root, self.sizes, number)
                for each in serving:
                    with _killed_when_hanging(each):
                        each.forget()
            if first:
                self._measure_idle(serving)
        if first and self.nodes:
            self._measure_memory(root, base)

    def _serve(self, root: Path, base: Path, stack: contextlib.ExitStack) -> Iterator[Serving]:
        for candidate in list(self.candidates):
            try:
                yield stack.enter_context(Serving(candidate, root, base / candidate.name))
            except StartError as error:
                _say(f"left out: {error}")
                self.candidates.remove(candidate)

    def _measure(
        self,
        place: str,
        row: Row,
        serving: Serving,
        root: Path,
        sizes: Sizes,
        number: Optional[int] = None,
    ) -> None:
        """Run a loop once; without a round's number it only warms up.

        The files stay until the place is done: see _spread_directories.
        """
        if serving.ended or (place, row.name, serving.name) in self.failed:
            return
        backing = Path(tempfile.mkdtemp(prefix=f"{serving.name}-", dir=str(root)))
        ground = Ground(f"{serving.directory}/{backing.name}", str(backing))

        def measure() -> Tuple[int, float, float]:
            stopwatch = Stopwatch(serving.cpu_seconds)
            operations = row.measure(ground, sizes, stopwatch)
            return operations, stopwatch.seconds, stopwatch.daemon_seconds

        self.idle_cpus.settle()
        try:
            operations, *times = in_own_process(measure, HANGS, serving.kill)
        except OSError as error:
            self.failed.add((place, row.name, serving.name))
            end = f"; {serving.last_words()}" if serving.ended else ""
            _say(f"{place}: {serving.name} failed: {row.name}: {error}{end}")
        else:
            if number is not None:
                self.measurements.append(
                    Measurement(place, row.name, serving.name, number, operations, *times)
                )

    def _measure_idle(self, serving: List[Serving]) -> None:
        clocks = {each.name: each.cpu_seconds for each in serving if each.running}
        if not clocks:
            return
        time.sleep(0.5)  # for what the last row left to do
        try:
            self.idle = measure_idle(clocks)
        except OSError as error:
            _say(f"not measured: idling: {error}")

    def _measure_memory(self, root: Path, base: Path) -> None:
        _say(f"memory of {self.nodes} nodes")
        make_tree(str(root / "small"), 100)
        make_tree(str(root / "tree"), self.nodes)
        for candidate in self.candidates:
            if not candidate.command:
                continue
            try:
                with _undone_undisturbed() as stack:
                    mountpoint = base / f"{candidate.name}-memory"
                    serving = stack.enter_context(Serving(candidate, root, mountpoint))
                    with _killed_when_hanging(serving):
                        self.memory[candidate.name] = measure_memory(
                            str(serving.directory / "small"),
                            str(serving.directory / "tree"),
                            serving.resident_bytes,
                            drop_caches,
                        )
            except (OSError, StartError) as error:
                _say(f"not measured: memory of {candidate.name}: {error}")


@contextlib.contextmanager
def _undone_undisturbed() -> Iterator[contextlib.ExitStack]:
    """Give an ExitStack whose undoing no signal interrupts: one that comes waits until it is done."""
    stack = contextlib.ExitStack()
    try:
        yield stack
    finally:
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            stack.close()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@contextlib.contextmanager
def _killed_when_hanging(serving: Serving) -> Iterator[None]:
    """A request that is never answered would wait forever, and Ctrl-C with it: fuse aborts only on a kill."""
    watchdog = threading.Timer(HANGS, serving.kill)
    watchdog.daemon = True
    watchdog.start()
    try:
        yield
    finally:
        watchdog.cancel()


def machine_facts(names: Sequence[str], awake: bool) -> Dict[str, Any]:
    """Return what a reader needs to judge the numbers, and nothing that tells whose machine it was."""
    facts: Dict[str, Any] = {
        "Linux": platform.release(),
        "CPUs": os.cpu_count(),
        "Python": platform.python_version(),
    }
    if awake:
        facts["idle CPUs"] = "awake"
    if "bindfs" in names and shutil.which("bindfs"):
        version = subprocess.run(["bindfs", "--version"], stdout=subprocess.PIPE).stdout
        facts["bindfs"] = version.decode().split()[-1]
    return facts


def _spread_directories(root: Path) -> None:
    """Have ext4 give each directory in `root` a block group of its own: chattr(1), T.

    ext4 does not reuse an inode for a minute after it was deleted, but at each create goes through all
    of those that are in the block group (fs/ext4/ialloc.c, recently_deleted). Neighbours that delete
    made native's 7 µs for a create 20 to 100. Other filesystems need none of this.
    """
    with contextlib.suppress(FileNotFoundError):
        subprocess.run(["chattr", "+T", str(root)], stderr=subprocess.DEVNULL)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
