"""fusepy-crypt: show plain directories encrypted, or an encrypted one plain."""

import re
import sys
from typing import TYPE_CHECKING, List, Optional

from fusepy_legacy import __version__
from fusepy_legacy.crypt.config import Config
from fusepy_legacy.errors import EXIT_FAILED, MountError
from fusepy_legacy.kernel import options
from fusepy_legacy.vault.passwords import PasswordSource, open_config
from fusepy_legacy.vault.report import VaultError

if TYPE_CHECKING:
    from fusepy_legacy.views.keyed import KeyedView

PROGRAM = "fusepy-crypt"
USAGE = """%prog MOUNTPOINT -o root=DIR [options]
       %prog DIR MOUNTPOINT [options]

Show the plain directory DIR encrypted at MOUNTPOINT, in the gocryptfs format, for backups (its config is
made by: fusepy-vault init --reverse DIR). With -o forward, show the encrypted directory DIR plain.
The password is asked for on a terminal, else it is the first line of standard input. Unmount with
fusermount -u MOUNTPOINT."""


def main(arguments: Optional[List[str]] = None) -> int:
    """Mount, serve, and return an exit code: 0, or one of fusepy_legacy.errors."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        view = _view(_is_forward(words))
    except ImportError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return EXIT_FAILED
    view.parser.add_option(
        mountopt="forward",
        action="store_true",
        help="show an encrypted directory plain, to read and write",
    )

    view.unlock = Unlock(view)
    return view.run(arguments)


class Unlock:
    """Opens the configs of a view with the password that its options say; it is asked for once.

    A call returns a config's master key, or raises MountError.
    """

    def __init__(self, view: "KeyedView") -> None:
        self._view = view
        self._password: Optional[bytes] = None

    def __call__(self, config: Config) -> bytes:
        view = self._view
        try:
            if self._password is None:
                passfiles = [view.passfile] if view.passfile else []
                self._password = PasswordSource(passfiles, view.extpass).read("Password")
            return open_config(config, self._password)
        except VaultError as error:
            raise MountError(str(error), error.exit_code) from error


def _view(forward: bool) -> "KeyedView":
    """Return the view to mount; ImportError without fuse-python."""
    about = {"prog": PROGRAM, "usage": USAGE, "version": f"%prog {__version__}"}
    if forward:
        from fusepy_legacy.views.decrypted import DecryptedView

        return DecryptedView(**about)
    from fusepy_legacy.views.encrypted import EncryptedView

    return EncryptedView(**about)


def _is_forward(words: List[str]) -> bool:
    """Find `forward` among the mount options, which the view's own parser will read once more."""
    ahead = False
    for word in words:
        # Switches may come in one word, and -o with what follows it: -f -o forward is -foforward, too.
        start = None if ahead else re.match("-[dfs]*o", word)
        text = word[start.end() :] if start else word if ahead else ""
        if "forward" in options.split(text):
            return True
        ahead = start is not None and not text
    return False


if __name__ == "__main__":
    sys.exit(main())
