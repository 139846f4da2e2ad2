"""fusepy-passthrough: mirror a directory at a mount point."""

import sys
from typing import List, Optional

from fusepy_legacy import __version__
from fusepy_legacy.errors import EXIT_FAILED

PROGRAM = "fusepy-passthrough"
USAGE = """%prog MOUNTPOINT -o root=DIR [options]
       %prog DIR MOUNTPOINT [options]

Mirror DIR at MOUNTPOINT until it is unmounted: fusermount -u MOUNTPOINT."""


def main(arguments: Optional[List[str]] = None) -> int:
    """Mount, serve, and return an exit code: 0, or one of fusepy_legacy.errors."""
    try:
        from fusepy_legacy.passthrough import Passthrough
    except ImportError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return EXIT_FAILED
    filesystem = Passthrough(prog=PROGRAM, usage=USAGE, version=f"%prog {__version__}")
    return filesystem.run(arguments)
