"""The benchmarks measure what they say: each loop on a plain directory, the report on made-up numbers."""

import json
import os
import resource
from pathlib import Path
from typing import List, Optional, Tuple

import pytest

from benchmarks import crypt_speed
from benchmarks.__main__ import main
from benchmarks.candidates import (
    Candidate,
    Serving,
    StartError,
    candidates,
    filesystem_type,
    parse_candidate,
)
from benchmarks.ground import BLOCK, PAGE, Ground, Sizes, Stopwatch
from benchmarks.memory import Memory, make_tree, measure_memory, walk
from benchmarks.report import Measurement, Results, document, table, write_chart, write_json
from benchmarks.rows import ROWS, Row

TINY = Sizes(files=3, scanned=5, blocks=1, accesses=4)
OPERATIONS = {
    "scandir+stat, per file": TINY.scanned,
    "random read 4 KiB": TINY.accesses,
    "random write 4 KiB": TINY.accesses,
    "sequential read": TINY.blocks,
    "sequential write": TINY.blocks,
}
LEFT = {
    "create+close": ["file000000", "file000001", "file000002"],
    "cold stat": ["file000000", "file000001", "file000002"],
    "open+read 4 KiB+close": ["file000000", "file000001", "file000002"],
    "scandir+stat, per file": [f"file00000{number}" for number in range(TINY.scanned)],
    "rename": ["new000000", "new000001", "new000002"],
    "cp -a, per file": ["copy", "tree"],
    "find -size, per file": ["tree"],
    "tar, per file": ["tree"],
    "git status, per file": ["tree"],
}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_row_does_its_operations_and_times_them(row: Row, tmp_path: Path) -> None:
    """A loop leaves what its operations leave, says how many they were, and was timed."""
    stopwatch = Stopwatch(iter([1.0, 3.5]).__next__)
    operations = row.measure(Ground(str(tmp_path), str(tmp_path)), TINY, stopwatch)
    assert operations == OPERATIONS.get(row.name, TINY.files)
    assert sorted(os.listdir(str(tmp_path))) == LEFT.get(row.name, [])
    assert stopwatch.seconds > 0
    assert stopwatch.daemon_seconds == 2.5


def test_files_are_made_beneath_and_used_through_the_mount(tmp_path: Path) -> None:
    """What a row finds cold was made in the backing directory, and is named below the mount point."""
    backing = tmp_path / "backing"
    backing.mkdir()
    ground = Ground("/mounted", str(backing))
    assert ground.make_files(2, b"x" * PAGE) == ["/mounted/file000000", "/mounted/file000001"]
    assert ground.make_large_file(2) == "/mounted/data"
    assert (backing / "file000001").stat().st_size == PAGE
    assert (backing / "data").stat().st_size == 2 * BLOCK


def test_memory_is_the_growth_of_a_walk(tmp_path: Path) -> None:
    """Bytes per node come from the memory before, after the walk, and after dropping."""
    make_tree(str(tmp_path / "small"), 1)
    make_tree(str(tmp_path / "tree"), 1001)
    resident = iter([1000, 101300, 101300, 5012, 2003, 2003, 2003, 2003])
    drops: List[int] = []
    memory = measure_memory(
        str(tmp_path / "small"),
        str(tmp_path / "tree"),
        resident.__next__,
        lambda: drops.append(1),
        pause=0,
    )
    assert memory == Memory(nodes=1003, before=1000, walked=101300, forgotten=2003)
    assert memory.per_node == 100
    assert memory.kept_per_node == 1
    assert len(drops) == 5
    assert walk(str(tmp_path)) == 1003 + 2 + 2


def results() -> Results:
    """Three rounds of two rows: medians of 2 ms and 10 ms, for 10 operations and 5 blocks."""
    measurements = []
    for candidate, factor in (("native", 1), ("bindfs", 2), ("kernel", 3)):
        for number, milliseconds in enumerate((1, 2, 9)):
            seconds = milliseconds / 1000 * factor
            measurements += [
                Measurement("tmpfs", "create+close", candidate, number, 10, seconds, seconds / 2),
                Measurement("tmpfs", "sequential read", candidate, number, 5, seconds * 5, seconds),
            ]
    return Results(
        machine={"Linux": "6.18", "CPUs": 2},
        places={"tmpfs": "tmpfs"},
        candidates=["native", "bindfs", "kernel"],
        measurements=measurements,
        memory={"kernel": Memory(1000, BLOCK, BLOCK + 400000, BLOCK + 7000)},
        idle={"kernel": 0.0025},
    )


def cells(text: str) -> List[str]:
    """Return each line with single blanks."""
    return [" ".join(line.split()) for line in text.splitlines()]


def test_the_table_shows_medians_and_ratios_of_time() -> None:
    """Times in µs, rates in MB/s, and in both the ratio of the times; then the serving process."""
    lines = cells(table(results()))
    assert "native bindfs kernel kernel/bindfs kernel/native" in lines
    assert "create+close µs 200 400 600 1.50 3.00" in lines
    assert "sequential read MB/s 524 262 175 1.50 3.00" in lines
    assert "create+close 200 300" in lines
    assert "walked 400" in lines
    assert "forgotten 7.0" in lines
    assert "idle 2.5" in lines


def test_the_table_has_a_dash_for_what_failed() -> None:
    """A row that one candidate could not do in every round says so, in its ratio too."""
    whole = results()
    failed = [m for m in whole.measurements if m[1:4] != ("create+close", "bindfs", 2)]
    lines = cells(table(whole._replace(measurements=failed)))
    assert "create+close µs 200 - 600 - 3.00" in lines


def test_the_table_without_the_kernel_engine_has_no_ratios() -> None:
    """Any choice of candidates can be shown."""
    text = table(results()._replace(candidates=["native", "bindfs"]))
    assert "create+close µs 200 400" in cells(text)
    assert "kernel/" not in text


def test_json_holds_each_measurement_and_the_medians(tmp_path: Path) -> None:
    """The file is the document, and nothing of a run is missing from it."""
    path = tmp_path / "results.json"
    write_json(results(), str(path))
    read = json.loads(path.read_text(encoding="utf-8"))
    assert read == json.loads(json.dumps(document(results())))
    assert len(read["measurements"]) == 18
    assert read["medians"]["tmpfs"]["create+close"]["bindfs"] == {
        "seconds_per_operation": 0.0004,
        "daemon_seconds_per_operation": 0.0002,
        "µs": pytest.approx(400),
    }
    assert read["memory"]["kernel"]["per_node"] == 400
    assert read["idle"] == {"seconds": 2.0, "daemon_seconds": {"kernel": 0.0025}}


@pytest.mark.leaks_descriptors(reason="matplotlib keeps its fonts open")
def test_the_chart_is_a_png(tmp_path: Path) -> None:
    """Whatever was measured can be drawn, also with a hole in it."""
    pytest.importorskip("matplotlib")
    path = tmp_path / "chart.png"
    holes = results()
    write_chart(holes._replace(measurements=holes.measurements[:-7]), str(path))
    assert path.read_bytes().startswith(b"\x89PNG")


def test_candidates_can_be_added() -> None:
    """A path makes passthrough_hp one, NAME=COMMAND any program."""
    assert list(candidates(None)) == [
        "native",
        "bindfs",
        "stock",
        "stock_pages",
        "kernel",
        "no_kernel_io",
        "roots",
        "deeper",
    ]
    assert candidates("hp")["passthrough_hp"].command[0] == os.path.abspath("hp")
    parsed = parse_candidate("mine=run 'a b' {root} {mountpoint}")
    assert parsed == Candidate("mine", ("run", "a b", "{root}", "{mountpoint}"))
    with pytest.raises(ValueError, match="not NAME=COMMAND"):
        parse_candidate("mine=run")


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (("/nonexistent/program",), "No such file or directory"),
        (("sh", "-c", "echo no such option >&2; exit 1"), "no such option"),
    ],
)
def test_a_candidate_that_cannot_start_says_why(
    command: Tuple[str, ...], reason: str, tmp_path: Path
) -> None:
    """The reason is the program's own last line, or the operating system's."""
    with pytest.raises(StartError, match=reason):
        with Serving(Candidate("broken", command), tmp_path, tmp_path / "mountpoint"):
            pass


def test_a_candidate_may_open_as_many_files_as_can_be(tmp_path: Path) -> None:
    """Whatever the limit of who measures: the hard limit at least, which root raises too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
    command = ("sh", "-c", "echo soft $(ulimit -Sn) hard $(ulimit -Hn); exit 1")
    try:
        with pytest.raises(StartError) as raised:
            with Serving(Candidate("limited", command), tmp_path, tmp_path / "mountpoint"):
                pass
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    _, _, allowed, _, most = str(raised.value).split()
    assert allowed == most
    assert int(most) >= hard


def test_the_filesystem_type_is_that_of_the_mount() -> None:
    """A directory belongs to the nearest mount point above it."""
    assert filesystem_type(Path("/proc/self")) == "proc"


def test_a_run_leaves_out_what_cannot_start_and_leaves_nothing_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From options to files, with the one candidate that needs no mount and one that does not exist."""
    work = tmp_path / "work"
    work.mkdir()
    arguments = ["--quick", "--rounds", "1", "--nodes", "0", "--rows", "rename", "--chart", ""]
    arguments += ["--places", "disk", "--disk", str(work), "--json", str(tmp_path / "out.json")]
    arguments += [
        "--only",
        "native,broken",
        "--candidate",
        "broken=/nonexistent {root} {mountpoint}",
    ]
    assert main(arguments) == 0
    output, errors = capsys.readouterr()
    assert "left out: broken: /nonexistent: No such file or directory" in errors
    assert "native" in cells(output)
    assert len(json.loads((tmp_path / "out.json").read_text())["measurements"]) == 1
    assert os.listdir(str(work)) == []


@pytest.mark.parametrize(("theirs", "code"), [(1e-3, 0), (1e9, 1), (None, 0)])
def test_the_ciphers_are_measured_beside_gocryptfs(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    theirs: Optional[float],
    code: int,
) -> None:
    """A goal that is missed is said, and is the exit code; without gocryptfs there is none."""
    peer = {} if theirs is None else {"AES-GCM": theirs, "AES-SIV": theirs}
    monkeypatch.setattr(crypt_speed, "gocryptfs", lambda: peer)
    monkeypatch.setattr(crypt_speed, "SIZES", (1 << 12,))
    monkeypatch.setattr(crypt_speed, "seconds", lambda call, rounds: (call(), 0.001)[1])
    assert crypt_speed.main() == code
    output = capsys.readouterr().out
    assert output.count("AES-") == 4
    assert output.count("missed") == 4 * code
    assert output.count("ratio") == (0 if theirs is None else 4)
    assert "names of 12 bytes" in output
