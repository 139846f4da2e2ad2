"""A plain directory with a config, and its encrypted view mounted by fusepy-crypt."""

import sys
import time
from pathlib import Path
from typing import Dict, List, NamedTuple

from fusepy_legacy.crypt.config import REVERSE, REVERSE_CONFIG_FILE, create
from fusepy_legacy.vault.config_file import write_config
from tests.mounted.commands import Word, wait_until
from tests.mounted.mounting import Mounted
from tests.mounted.trees import all_below
from tests.vault_trees import WARNINGS

PASSWORD = b"a password"
CRYPT: List[Word] = [
    sys.executable,
    "-c",
    "import sys; from fusepy_legacy.commands.crypt import main; sys.exit(main())",
]
ENVIRONMENT = {"PYTHONWARNINGS": WARNINGS}


class Source(NamedTuple):
    """A plain directory with a config in it, the file with its password, and where to show it."""

    root: Path
    view: Path
    passfile: Path

    def command(self, *options: str) -> List[Word]:
        """Return the command that mounts the view in the foreground."""
        words = ",".join((f"root={self.root}", f"passfile={self.passfile}", *options))
        return [*CRYPT, self.view, "-f", "-o", words]

    def shown(self, *options: str) -> Mounted:
        """Return a context manager: the view, mounted."""
        return Mounted(self.command(*options), self.view, ENVIRONMENT)


def make_source(directory: Path, flags: "frozenset[str]" = REVERSE, limit: int = 255) -> Source:
    """Make an empty plain directory with a config."""
    source = Source(directory / "source", directory / "view", directory / "password")
    source.root.mkdir()
    source.view.mkdir()
    source.passfile.write_bytes(PASSWORD + b"\n")
    config, _ = create(PASSWORD, flags, limit, scrypt_n=1024)
    write_config(str(source.root), config.to_bytes(), REVERSE_CONFIG_FILE)
    return source


def settle(root: Path) -> None:
    """Wait until the view takes all below for files that are not being written to, which takes 2 s."""
    newest = max(path.lstat().st_ctime for path in (root, *all_below(root)))
    wait_until(lambda: time.time() > newest + 2.1, "the time after which a file is settled")


def contents(view: Path) -> Dict[str, bytes]:
    """Return the content of each regular file below a directory, by its path there."""
    return {
        str(path.relative_to(view)): path.read_bytes()
        for path in all_below(view)
        if not path.is_symlink() and path.is_file()
    }
