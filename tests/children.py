"""Run a function in a forked child, for what must not happen to the test process itself."""

import os
import signal
import traceback
import warnings
from typing import Callable

PATIENCE = 30  # seconds


def in_child(function: Callable[[], None]) -> None:
    """Call `function` in a child process; AssertionError with its traceback when it raises there."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        # Python 3.12 warns when other threads run at a fork; the only one is faulthandler's watchdog.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        signal.alarm(PATIENCE)
        problem = ""
        try:
            function()
        except BaseException:
            problem = traceback.format_exc()
        finally:
            with os.fdopen(writer, "w") as report:
                report.write(problem)
            os._exit(bool(problem))
    os.close(writer)
    with os.fdopen(reader) as report:
        problem = report.read()
    _, status = os.waitpid(pid, 0)
    assert status == 0, problem or f"the child ended with wait status {status}"
