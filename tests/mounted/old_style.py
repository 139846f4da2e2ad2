"""Start the programs in programs/ that are written for fuse-python alone, on either engine."""

import sys
from pathlib import Path
from typing import Dict, List, Optional, Sequence

from tests.mounted.commands import Word
from tests.mounted.mounting import PROGRAMS, Mounted

_RUN = "import sys; from fusepy_legacy.commands.run import main; sys.exit(main())"


def old_style_command(engine: str, program: str, *arguments: Word) -> List[Word]:
    """Return the command that runs a program: with fusepy-run, or with plain Python on the stock engine."""
    runner: Sequence[Word] = ("-c", _RUN) if engine == "kernel" else ()
    return [sys.executable, *runner, PROGRAMS / program, *arguments]


def old_style(
    engine: str,
    program: str,
    mountpoint: Path,
    *options: str,
    switches: Sequence[str] = ("-f",),
    environment: Optional[Dict[str, str]] = None,
) -> Mounted:
    """Mount a program's filesystem; `options` are those of -o."""
    chosen = ["-o", ",".join(options)] if options else []
    command = old_style_command(engine, program, mountpoint, *switches, *chosen)
    return Mounted(command, mountpoint, environment)
