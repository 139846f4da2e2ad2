"""Wake-up latency: asked for in bursts, taken back in silence, and never an error."""

import os
import struct
import threading
from pathlib import Path
from typing import Iterator, List, Optional

import pytest

from fusepy_legacy.kernel.device import Device
from fusepy_legacy.kernel.latency import UNLIMITED, WakeLatency, default_latency
from tests.mounted.commands import wait_until

ANY = 2000000000  # PM_QOS_CPU_LATENCY_DEFAULT_VALUE: as if nobody asked


@pytest.fixture
def control(tmp_path: Path) -> Path:
    """A file in the place of /dev/cpu_dma_latency; it collects what is written."""
    path = tmp_path / "cpu_dma_latency"
    path.touch()
    return path


def written(control: Path) -> List[int]:
    """Return what was asked for, in microseconds."""
    return [number for (number,) in struct.iter_unpack("=i", control.read_bytes())]


def burst(latency: WakeLatency, start: float, milliseconds: int) -> None:
    """Serve a request each half millisecond."""
    for half in range(2 * milliseconds + 1):
        latency.served(start + half * 0.5e-3)


@pytest.fixture
def latency(control: Path) -> Iterator[WakeLatency]:
    """A request for 5 µs that can be made."""
    latency = WakeLatency(5, str(control))
    yield latency
    latency.close()


def test_a_few_requests_ask_for_nothing(latency: WakeLatency, control: Path) -> None:
    """Opening a file now and then keeps no CPU awake."""
    for second in range(1, 10):
        burst(latency, second, 1)
    assert not latency.asked
    assert written(control) == []


def test_a_burst_asks_once(latency: WakeLatency, control: Path) -> None:
    """Requests that keep coming for some milliseconds are worth it."""
    burst(latency, 1, 50)
    assert latency.asked
    assert written(control) == [5]


def test_released_and_asked_again(latency: WakeLatency, control: Path) -> None:
    """Taking the request back is asking for any latency; the next burst asks again."""
    burst(latency, 1, 10)
    latency.release()
    latency.release()
    burst(latency, 2, 10)
    assert written(control) == [5, ANY, 5]


def test_minus_one_asks_for_nothing(control: Path) -> None:
    """`-o cpu_latency=-1` leaves the CPUs alone."""
    latency = WakeLatency(UNLIMITED, str(control))
    burst(latency, 1, 10)
    latency.release()
    latency.close()
    assert written(control) == []


def test_who_may_not_ask_does_not_fail(tmp_path: Path) -> None:
    """An ordinary user's mount works without."""
    latency = WakeLatency(0, str(tmp_path / "missing"))
    burst(latency, 1, 10)
    latency.release()
    latency.close()
    assert not latency.asked


@pytest.mark.parametrize(
    ("driver", "microseconds"), [("haltpoll\n", 0), ("intel_idle\n", UNLIMITED), (None, UNLIMITED)]
)
def test_default_depends_on_how_cpus_rest(
    tmp_path: Path, driver: Optional[str], microseconds: int
) -> None:
    """Only virtual CPUs that can poll instead of halting are asked for anything."""
    current = tmp_path / "current_driver"
    if driver is not None:
        current.write_text(driver)
    assert default_latency(str(current)) == microseconds


def test_a_sleeping_reader_takes_it_back(latency: WakeLatency, control: Path) -> None:
    """Without requests the CPUs rest as they like, while the reader goes on waiting."""
    burst(latency, 1, 10)
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    device = Device(reader, 0.0, latency)
    thread = threading.Thread(target=device.read, args=(bytearray(8),))
    thread.start()
    try:
        wait_until(lambda: written(control) == [5, ANY], "taking the request back")
        assert thread.is_alive()
    finally:
        device.stop()
        thread.join()
        device.close()
        os.close(reader)
        os.close(writer)


def test_waiting_for_a_lock_takes_it_back(latency: WakeLatency, control: Path) -> None:
    """A single thread that looks for a lock again and again keeps no CPU awake meanwhile."""
    burst(latency, 1, 10)
    reader, writer = os.pipe()
    device = Device(reader, 0.0, latency)
    try:
        assert not device.is_ready(0.01)
        assert written(control) == [5, ANY]
    finally:
        device.close()
        os.close(reader)
        os.close(writer)
