"""What a user did wrong or a machine lacks: one line that says what to do, and an exit code.

The codes are gocryptfs's (its internal/exitcodes) where they mean the same, so that scripts written for it
keep working.
"""

EXIT_USAGE = 1
EXIT_ROOT = 6
EXIT_MOUNTPOINT = 10
EXIT_FAILED = 11
EXIT_PASSWORD = 12
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
