"""How fast idle CPUs wake up, asked of the kernel while requests arrive.

A program that waits for a reply leaves its CPU idle for some microseconds. A virtual CPU that halts then
goes back to the host, and waking it takes longer than most requests: two processes that passed a byte to
and fro through pipes took 40 to 80 µs for a round trip, and 5 with this (Linux 6.18, KVM, 2 CPUs).

The interface is Documentation/power/pm_qos_interface.rst. A request ends with its descriptor, so also
when the process dies.
"""

import logging
import os
import struct

logger = logging.getLogger(__name__)

UNLIMITED = -1  # microseconds: nothing is asked

_DEVICE = "/dev/cpu_dma_latency"
_DRIVER = "/sys/devices/system/cpu/cpuidle/current_driver"
_MICROSECONDS = struct.Struct("=i")
_ANY = _MICROSECONDS.pack(2000 * 1000 * 1000)  # PM_QOS_CPU_LATENCY_DEFAULT_VALUE, linux/pm_qos.h

_PAUSE = 1e-3  # seconds without a request that end a burst
_BURST = 2e-3  # seconds that a burst has to last; opening one file is not worth keeping CPUs awake
QUIET = 20  # milliseconds of sleep after which the request is taken back


def default_latency(driver: str = _DRIVER) -> int:
    """Return the latency worth asking for on this machine, in microseconds, or UNLIMITED.

    Only the CPUs of a virtual machine halt at once and wake up slowly, and only with this driver does the
    kernel know another way to wait (drivers/cpuidle/cpuidle-haltpoll.c). Real ones rest lightly when they
    expect a short pause; they would burn power for nothing.
    """
    try:
        with open(driver, "rb") as file:
            return 0 if file.read().strip() == b"haltpoll" else UNLIMITED
    except OSError:
        return UNLIMITED


class WakeLatency:
    """The request of one mount, made when requests arrive in a burst.

    Meant for one thread at a time; two would only write the same twice.
    """

    def __init__(self, microseconds: int, device: str = _DEVICE) -> None:
        """Open the device, for which one has to be root; others ask for nothing."""
        self.asked = False
        self._wanted = _MICROSECONDS.pack(microseconds)
        self._descriptor = -1
        self._previous = 0.0
        self._start = 0.0
        if microseconds != UNLIMITED:
            try:
                # Opening it is already a request, for any latency.
                self._descriptor = os.open(device, os.O_WRONLY | os.O_CLOEXEC)
            except OSError as error:
                logger.debug("no wake-up latency can be asked for: %s", error)

    def served(self, now: float) -> None:
        """Take note of a request's end, at `now` by any clock; ask when a burst has lasted long enough."""
        if now - self._previous > _PAUSE:
            self._start = now
        elif now - self._start > _BURST and self._descriptor >= 0 and not self.asked:
            os.write(self._descriptor, self._wanted)
            self.asked = True
        self._previous = now

    def release(self) -> None:
        """Take the request back: CPUs sleep as they like."""
        if self.asked:
            os.write(self._descriptor, _ANY)
            self.asked = False

    def close(self) -> None:
        """Take the request back for good."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1
        self.asked = False
