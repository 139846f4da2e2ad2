"""A candidate's turn in the benchmarks begins on a machine at rest, and is a process of its own."""

import os
import signal
import struct
import threading
from pathlib import Path
from typing import List

import pytest

from benchmarks import idle_cpus
from benchmarks.__main__ import main
from benchmarks.idle_cpus import IdleCpus, polling_usages
from benchmarks.turns import in_own_process, shuffled

LATENCY = struct.Struct("=i")
ANY = 2000000000


@pytest.fixture
def device(tmp_path: Path) -> Path:
    """A file in the place of /dev/cpu_dma_latency, in which nobody asks for anything."""
    path = tmp_path / "cpu_dma_latency"
    path.write_bytes(LATENCY.pack(ANY))
    return path


def ask(device: Path, latency: int) -> None:
    """Have this be the lowest latency that anybody asks for."""
    with device.open("r+b") as file:
        file.write(LATENCY.pack(latency))


@pytest.fixture
def cpus(tmp_path: Path) -> Path:
    """This machine's CPUs as sysfs shows them, of which the first may poll."""
    first = min(os.sched_getaffinity(0))
    (tmp_path / "cpuidle").mkdir()
    (tmp_path / "cpuidle" / "current_governor").write_text("haltpoll\n")
    for number in os.sched_getaffinity(0):
        state = tmp_path / f"cpu{number}" / "cpuidle" / "state0"
        state.mkdir(parents=True)
        (state / "name").write_text("POLL\n" if number == first else "C1\n")
        (state / "usage").write_text("7\n")
    return tmp_path


def test_a_turn_waits_until_nobody_asks_for_latency(device: Path, tmp_path: Path) -> None:
    """What the one before has asked of the CPUs is taken back first."""
    machine = IdleCpus(device=str(device), cpus=str(tmp_path / "none"))
    assert machine.latency == ANY
    ask(device, 0)
    waiting = threading.Thread(target=machine.settle)
    waiting.start()
    waiting.join(0.05)
    assert waiting.is_alive()
    ask(device, ANY)
    waiting.join()
    machine.close()


def test_a_turn_waits_until_idle_cpus_halt(
    device: Path, cpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as a nap was a time of polling, the CPU is given another; affinity is as it was."""
    usage = Path(polling_usages(str(cpus))[min(os.sched_getaffinity(0))])
    polled = ["8\n", "9\n", "9\n", "10\n"]
    naps: List[float] = []

    def sleep(seconds: float) -> None:
        usage.write_text(polled[len(naps)])
        naps.append(seconds)

    before = os.sched_getaffinity(0)
    machine = IdleCpus(device=str(device), cpus=str(cpus))
    monkeypatch.setattr(idle_cpus.time, "sleep", sleep)
    machine.settle()
    machine.close()
    assert len(naps) == 3
    assert os.sched_getaffinity(0) == before


def test_where_no_cpu_polls_there_is_nothing_to_wait_for(cpus: Path) -> None:
    """Another governor, or a kernel without one."""
    (cpus / "cpuidle" / "current_governor").write_text("menu\n")
    assert polling_usages(str(cpus)) == {}
    assert polling_usages(str(cpus / "none")) == {}


def test_awake_asks_for_no_latency_until_the_end(device: Path, cpus: Path) -> None:
    """Then no turn waits: the machine is the same for all."""
    machine = IdleCpus(awake=True, device=str(device), cpus=str(cpus))
    assert LATENCY.unpack(device.read_bytes()) == (0,)
    machine.settle()
    machine.close()
    machine.close()


def test_who_may_not_ask_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without --awake it is nothing to speak of: the candidates may not ask either."""
    missing = tmp_path / "missing"
    machine = IdleCpus(device=str(missing), cpus=str(missing))
    machine.settle()
    machine.close()
    monkeypatch.setattr(idle_cpus.IdleCpus.__init__, "__defaults__", (False, str(missing), "none"))
    assert main(["--awake", "--only", "native", "--json", "", "--chart", ""]) == 2
    assert capsys.readouterr().err == f"--awake: {missing}: No such file or directory\n"


def test_everyone_comes_after_everyone() -> None:
    """The order of turns changes, and is the same in each run."""
    orders = [tuple(shuffled("abc", number)) for number in range(30)]
    assert len(set(orders)) == 6
    assert orders[7] == tuple(shuffled("abc", 7))


def never() -> None:
    """Fail: nothing hangs."""
    raise AssertionError("called")


def test_a_loop_runs_in_a_process_of_its_own() -> None:
    """What it returns comes back, and so does the error it raises."""
    assert in_own_process(lambda: (os.getppid(), "result"), 60, never) == (os.getpid(), "result")
    with pytest.raises(FileNotFoundError, match="/missing"):
        in_own_process(lambda: os.stat("/missing"), 60, never)


def test_a_loop_that_dies_is_an_error() -> None:
    """Nobody waits for what will not come."""
    with pytest.raises(ChildProcessError, match="ended early"):
        in_own_process(lambda: os.kill(os.getpid(), signal.SIGKILL), 60, never)


def test_a_loop_that_hangs_is_freed() -> None:
    """Ending what it waits for ends the waiting."""
    reader, writer = os.pipe()
    assert in_own_process(lambda: os.read(reader, 1), 0.01, lambda: os.write(writer, b"x")) == b"x"
    os.close(reader)
    os.close(writer)


def test_who_is_ended_has_no_handler_of_ours() -> None:
    """Its parent's would print a traceback when it is ended on its way out."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        handler = in_own_process(lambda: signal.getsignal(signal.SIGTERM), 20, lambda: None)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert handler == signal.SIG_DFL
