"""Where messages go: stderr in the foreground, syslog in the background."""

import logging
import logging.handlers
import os

from fusepy_legacy.kernel.options import MountArguments


def start_logging(program: str, arguments: MountArguments) -> None:
    """Log to stderr in the foreground and to syslog in the background, unless logging was set up before."""
    package = logging.getLogger("fusepy_legacy")
    package.setLevel(logging.DEBUG if "debug" in arguments.options else logging.INFO)
    if package.hasHandlers():
        return
    handler: logging.Handler
    if arguments.foreground or not os.path.exists("/dev/log"):
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter(f"{program}: %(message)s"))
    else:
        handler = logging.handlers.SysLogHandler(
            "/dev/log", logging.handlers.SysLogHandler.LOG_DAEMON
        )
        handler.setFormatter(logging.Formatter(f"{program}[%(process)d]: %(message)s"))
    package.addHandler(handler)
