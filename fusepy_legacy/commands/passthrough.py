"""fusepy-passthrough: mirror a directory, or several, at a mount point."""

import optparse
import sys
from typing import List, Optional

from fusepy_legacy import __version__
from fusepy_legacy.errors import EXIT_FAILED

PROGRAM = "fusepy-passthrough"
USAGE = """%prog MOUNTPOINT -o root=DIR [options]
       %prog MOUNTPOINT -o roots=FILE [options]
       %prog DIR MOUNTPOINT [options]
       %prog --check-roots FILE

Mirror DIR at MOUNTPOINT until it is unmounted: fusermount -u MOUNTPOINT. With
roots=FILE, mirror the directories listed there, each under its label."""


def main(arguments: Optional[List[str]] = None) -> int:
    """Mount, serve, and return an exit code: 0, or one of fusepy_legacy.errors."""
    try:
        from fusepy_legacy.passthrough import Passthrough
    except ImportError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return EXIT_FAILED
    filesystem = Passthrough(prog=PROGRAM, usage=USAGE, version=f"%prog {__version__}")
    filesystem.parser.add_option(
        "--check-roots",
        action="callback",
        type="string",
        metavar="FILE",
        callback=_check_roots,
        help="show what the roots file would mount, and exit",
    )
    return filesystem.run(arguments)


def _check_roots(
    option: optparse.Option, name: str, file: str, parser: optparse.OptionParser
) -> None:
    """Print the report and exit, as -h does; the MountError of a wrong file is for `run` to print."""
    from fusepy_legacy.commands.check_roots import report

    for line in report(file):
        print(line)
    sys.exit(0)  # FuseOptParse.exit goes on
