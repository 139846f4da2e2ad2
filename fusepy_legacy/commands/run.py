"""fusepy-run: run a fuse-python program, unchanged, on the kernel engine.

fuse-python calls its C module by the names that it imported from it. They are replaced before the program
starts.
"""

import os
import runpy
import sys
from typing import List, Optional

from fusepy_legacy import __version__
from fusepy_legacy.errors import EXIT_FAILED, EXIT_USAGE
from fusepy_legacy.kernel import entry
from fusepy_legacy.kernel.daemon import open_standard_descriptors
from fusepy_legacy.output import complete_output

PROGRAM = "fusepy-run"
USAGE = f"""Usage: {PROGRAM} PROGRAM.py [ARGUMENTS…]

Run a program that is written for fuse-python on this package's own engine, without libfuse."""
ABOUT = {"-h": USAGE, "--help": USAGE, "--version": f"{PROGRAM} {__version__}"}


def main(arguments: Optional[List[str]] = None) -> int:
    """Run the program in this process; its exit code is this one's, if it has one."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments:
        print(USAGE, file=sys.stderr)
        return EXIT_USAGE
    if arguments[0] in ABOUT:
        return _print(ABOUT[arguments[0]])
    open_standard_descriptors()  # before the program opens anything
    program = arguments[0]
    if not os.path.isfile(program):
        print(f"{PROGRAM}: no such program: {program}", file=sys.stderr)
        return EXIT_USAGE
    try:
        install()
    except ImportError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return EXIT_FAILED
    sys.argv = arguments
    sys.path.insert(0, os.path.dirname(os.path.abspath(program)))
    try:
        runpy.run_path(program, run_name="__main__")
    except entry.FuseError as error:
        print(f"{os.path.basename(program)}: {error}", file=sys.stderr)
        return EXIT_FAILED
    return 0


def _print(text: str) -> int:
    try:
        with complete_output():
            print(text)
    except BrokenPipeError:
        return EXIT_FAILED  # nobody reads any more
    except OSError as error:
        print(f"{PROGRAM}: standard output: {error.strerror}", file=sys.stderr)
        return EXIT_FAILED
    return 0


def install() -> None:
    """Put the engine's entry points where fuse-python calls them; raises ImportError without fuse-python."""
    from fusepy_legacy.binding import fuse

    for name in entry.NAMES:
        setattr(fuse, name, getattr(entry, name))
