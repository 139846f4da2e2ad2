"""What idle CPUs do, halt or poll: a matter of the whole machine, and of what ran on it before.

A candidate may ask for CPUs that wake at once (fusepy_legacy/kernel/latency.py), and does for some
milliseconds longer than it works. Afterwards a CPU without work still polls at first, 4 ms long and then
half as long each time that nothing came (Linux, drivers/cpuidle/governors/haltpoll.c). Who has the next turn
would be helped, so that begins when the machine is as it was at first.
"""

import os
import struct
import threading
import time
from typing import Dict, Optional

from benchmarks.candidates import wait_until

_DEVICE = "/dev/cpu_dma_latency"
_MICROSECONDS = struct.Struct("=i")
_CPUS = "/sys/devices/system/cpu"  # admin-guide/pm/cpuidle.rst
_NAP = 0.005  # seconds; longer than a CPU polls
_NAPS = 20  # at most; 4 ms have been halved to nothing long before, unless others keep the CPU busy


class IdleCpus:
    """The idle CPUs of this machine, at rest or kept awake for all candidates.

    Only root may look at what is asked for, or ask; the candidates of others get no latency either, and for
    them `latency` is None.
    """

    def __init__(self, awake: bool = False, device: str = _DEVICE, cpus: str = _CPUS) -> None:
        """`awake`: ask for no latency until `close`; raises OSError as open(2)."""
        self.awake = awake
        self.latency: Optional[int] = None  # microseconds
        self._descriptor = -1
        self._usages = polling_usages(cpus)
        try:
            self._descriptor = os.open(device, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            if awake:
                raise
            return
        if awake:
            os.write(self._descriptor, _MICROSECONDS.pack(0))
        self.latency = self._in_force()

    def settle(self) -> None:
        """Wait until nobody asks for more than at first, and until CPUs without work halt."""
        if self._descriptor >= 0:
            wait_until(lambda: self._in_force() == self.latency)
        if not self.awake:
            threads = [threading.Thread(target=_halt, args=item) for item in self._usages.items()]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    def close(self) -> None:
        """Take back what was asked for."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _in_force(self) -> int:
        """Return the lowest latency that anybody asks for: kernel/power/qos.c, cpu_latency_qos_read."""
        latency: int = _MICROSECONDS.unpack(os.pread(self._descriptor, _MICROSECONDS.size, 0))[0]
        return latency


def polling_usages(cpus: str) -> Dict[int, str]:
    """Return the files that count how often a CPU polled, by its number; none where no governor lets it."""
    usages: Dict[int, str] = {}
    try:
        if _read(f"{cpus}/cpuidle/current_governor") == "haltpoll":
            for number in os.sched_getaffinity(0):
                state = f"{cpus}/cpu{number}/cpuidle/state0"
                if _read(f"{state}/name") == "POLL":
                    usages[number] = f"{state}/usage"
    except FileNotFoundError:
        pass
    return usages


def _halt(cpu: int, usage: str) -> None:
    """Leave a CPU without work until it does not poll."""
    os.sched_setaffinity(0, {cpu})  # of this thread
    for _ in range(_NAPS):
        before = _read(usage)
        time.sleep(_NAP)
        if _read(usage) == before:
            break


def _read(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read().strip()
