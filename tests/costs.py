"""What a call costs, measured so that other work on the machine hardly counts."""

import sys
import time
from types import FrameType, ModuleType
from typing import Any, Callable, Optional


def lines_run(function: Callable[[], Any], module: ModuleType) -> int:
    """Return how many lines of a module's code a call runs: a measure that no machine changes."""
    count = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Optional[Callable[..., Any]]:
        nonlocal count
        if frame.f_code.co_filename != module.__file__:
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
    return count


def cpu_seconds(function: Callable[[], Any]) -> float:
    """Return the process's CPU time of a call: for what the interpreter does within one line."""
    before = time.process_time()
    function()
    return time.process_time() - before
