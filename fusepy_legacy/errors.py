"""What a user did wrong or a machine lacks: one line that says what to do, and an exit code.

The codes are gocryptfs's (its internal/exitcodes) where they mean the same, so that scripts written for it
keep working. README.md lists them for users.
"""

EXIT_USAGE = 1  # the command line
EXIT_ROOT = 6
EXIT_PASSWORD_SOURCE = 9
EXIT_MOUNTPOINT = 10
EXIT_FAILED = 11  # anything that has no code of its own
EXIT_PASSWORD = 12
EXIT_MASTER_KEY = 14
EXIT_INTERRUPTED = 15
EXIT_FUSE = 19
EXIT_EMPTY_PASSWORD = 22
EXIT_CONFIG = 23
EXIT_CONFIG_WRITE = 24
EXIT_DAMAGE = 26


class MountError(Exception):
    """The filesystem could not be mounted, or stopped because of an error.

    `str()` of it is one line for the user; `exit_code` is one of the EXIT_ constants of this module.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(" ".join(message.splitlines()))
        self.exit_code = exit_code
