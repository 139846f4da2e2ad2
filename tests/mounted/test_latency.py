"""The engine keeps CPUs easy to wake while a program works on the mount."""

import os
import struct

from tests.mounted.commands import wait_until
from tests.mounted.mounting import Sides, passthrough

CONTROL = "/dev/cpu_dma_latency"


def asked_for() -> int:
    """Return the lowest latency that any process asks for, in microseconds."""
    with open(CONTROL, "rb", buffering=0) as control:
        number: int = struct.unpack("=i", control.read(4))[0]
    return number


def test_asked_for_while_busy_and_no_longer(sides: Sides) -> None:
    """Requests without a pause ask the kernel for what the option says; silence takes it back."""
    with passthrough(sides.backing, sides.mount, "attr_timeout=0", "cpu_latency=7"):

        def asked_while_working() -> bool:
            for _ in range(200):
                os.stat(sides.mount)
            return asked_for() <= 7

        wait_until(asked_while_working, "a request for low latency")
        wait_until(lambda: asked_for() > 7, "its end")
