"""What both views share: options, the config, the keys, and the end of a mount that nobody uses."""

import errno
import functools
import logging
import optparse
import os
import sys
import threading
import time
from typing import Any, Callable, Dict, Optional, Sequence

from fusepy_legacy import secrecy
from fusepy_legacy.crypt.config import CONFIG_SIZE_MAX, Config, parse
from fusepy_legacy.crypt.errors import CryptError
from fusepy_legacy.errors import EXIT_CONFIG, EXIT_USAGE, MountError
from fusepy_legacy.kernel.memory import collect_seldom
from fusepy_legacy.kernel.operations import unwrapped
from fusepy_legacy.kernel.options import MountArguments
from fusepy_legacy.passthrough import Passthrough
from fusepy_legacy.reading import read_regular

logger = logging.getLogger(__name__)

Callback = Callable[..., Any]

_NAP = 3600  # seconds; time.sleep cannot count as far as a number on the command line


class KeyedView(Passthrough):
    """A `Passthrough` whose files are transformed with keys.

    `unlock` is how a config becomes its 32-byte master key; it raises MountError, is called before the mount,
    and then dropped with what it knows of the password. A subclass opens its config with `read_config` and
    `master_key`, and says in `config_hint` what to do when it is not there.

    `direct` are methods of open files and directories that are asked most, and whose errors name no path:
    they are called without a layer between.
    """

    root_help = "show this directory"
    roots_help = "show the directories that this file lists; SIGUSR1 reads it again"
    watch_help = optparse.SUPPRESS_HELP  # it knows plain names only

    direct: Sequence[str] = ()
    config_hint: str
    unlock: Optional[Callable[[Config], bytes]] = None
    config_file: Optional[str] = None
    passfile: Optional[str] = None
    extpass: Optional[str] = None
    idle: Optional[float] = None

    def __init__(self, *args: Any, **kw: Any) -> None:
        super().__init__(*args, **kw)
        self._last_request = time.monotonic()
        add = self.parser.add_option
        add(mountopt="config", dest="config_file", metavar="FILE", help="the config's own place")
        add(mountopt="passfile", metavar="FILE", help="a file whose first line is the password")
        add(
            mountopt="extpass",
            metavar="COMMAND",
            help="a program that prints the password (run without a shell)",
        )
        add(
            mountopt="idle",
            type="float",
            metavar="MINUTES",
            help="unmount after so long without a request, an open file or a working directory",
        )

    def prepare(self, arguments: MountArguments) -> MountArguments:
        """Read the config and get the keys, after the root was opened and before the mount."""
        if self.idle is not None and (not self.idle > 0 or self.engine == "stock"):
            raise MountError("-o idle takes minutes above 0, on the kernel engine", EXIT_USAGE)
        if self.watch:
            raise MountError("-o watch knows plain names only; it does not go here", EXIT_USAGE)
        secrecy.forbid_dumps()
        if self.config_file:
            self.config_file = os.path.abspath(self.config_file)  # the serving process works in /
        try:
            arguments = super().prepare(arguments)
            self.take_keys()
        except CryptError as error:
            raise MountError(str(error), EXIT_USAGE) from error
        self.unlock = None
        return arguments

    def take_keys(self) -> None:
        """Make the ciphers, after the root was opened. Raises MountError and CryptError."""

    def read_config(self, default: str) -> Config:
        """Return the config that `config_file` says, or the one in `default`. Raises MountError."""
        path = self.config_file or default
        try:
            return parse(read_regular(path, CONFIG_SIZE_MAX + 1))
        except OSError as error:
            missing = error.errno == errno.ENOENT and not self.config_file
            hint = f"; {self.config_hint}" if missing else ""
            raise MountError(f"{path}: {error.strerror}{hint}", EXIT_CONFIG) from error
        except CryptError as error:
            raise MountError(f"{path}: {error}", EXIT_CONFIG) from error

    def master_key(self, config: Config) -> bytes:
        """Return a config's master key; raises MountError, and ENOKEY when the mount is there already."""
        if self.unlock is None:
            raise OSError(errno.ENOKEY, os.strerror(errno.ENOKEY))
        return self.unlock(config)

    def fsinit(self) -> None:
        """Lock memory and start the clock, in the process that serves."""
        super().fsinit()
        secrecy.lock_memory()
        collect_seldom()
        if self.idle is not None:
            threading.Thread(target=self._end_when_idle, name="idle", daemon=True).start()

    def warn(self, message: str) -> None:
        """Say something to whoever is mounting, before there is a log."""
        print(f"{self.parser.get_prog_name()}: {message}", file=sys.stderr)

    def _stock_callbacks(self) -> Dict[str, Callback]:
        return {name: self._discreet(one) for name, one in super()._stock_callbacks().items()}

    def _callbacks(self) -> Dict[str, Callback]:
        callbacks = {
            name: one if hasattr(one, "__wrapped__") else self._discreet(one)
            for name, one in super()._callbacks().items()
        }
        proxy = self.methproxy.proxyclass
        callbacks.update((name, proxy(name)) for name in self.direct if name in callbacks)
        return callbacks

    def _discreet(self, callback: Callback) -> Callback:
        """Return a handler whose errors name no plain path, because the log may show them."""
        callback = unwrapped(callback)

        @functools.wraps(callback)
        def call(*arguments: Any, **named: Any) -> Any:
            self._last_request = time.monotonic()
            try:
                return callback(*arguments, **named)
            except OSError as error:
                error.filename = error.filename2 = None
                raise

        return call

    def _end_when_idle(self) -> None:
        limit = float(self.idle or 0) * 60
        while True:
            remaining = self._last_request + limit - time.monotonic()
            if remaining <= 0:
                session = self._session
                if session is None:
                    return
                if len(session.engine.handles):
                    remaining = min(limit, 1.0)
                else:
                    logger.info("unmounting: not used for %g minutes", self.idle)
                    if session.exit_if_unused():
                        return
                    # It is in use, maybe as a working directory.
                    self._last_request = time.monotonic()
                    remaining = limit
            time.sleep(min(max(remaining, 0.01), _NAP))
