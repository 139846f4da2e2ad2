"""What every filesystem of this package shares: options, engine, start and stop, logging, the caller.

A subclass declares `file_class` (and `dir_class`), as fuse-python has it. What is new is that each of
their instances reaches its filesystem as `self.filesystem`.
"""

import errno
import logging
import logging.handlers
import os
import signal
import stat
import sys
from typing import Any, Callable, Dict, List, Optional, Sequence

from fusepy_legacy.binding import fuse
from fusepy_legacy.errors import (
    EXIT_FAILED,
    EXIT_FUSE,
    EXIT_MOUNTPOINT,
    EXIT_USAGE,
    MountError,
)
from fusepy_legacy.identity import Caller
from fusepy_legacy.kernel import options
from fusepy_legacy.kernel.daemon import Daemon

logger = logging.getLogger(__name__)

Callback = Callable[..., Any]


class OptionParser(fuse.FuseOptParse):
    """fuse-python's option parser, with errors as one line and the engine's options in the help."""

    def error(self, msg: str) -> None:
        """Raise MountError instead of printing the usage."""
        raise MountError(f"{msg}; see {self.get_prog_name()} -h", EXIT_USAGE)

    def print_help(self, file: Any = None) -> None:
        """Print the filesystem's options and then the engine's."""
        super().print_help(file or sys.stdout)
        print(f"\n{options.help_text()}", file=file or sys.stdout)

    def print_version(self, file: Any = None) -> None:
        """Print the version where a shell can pipe it."""
        super().print_version(file or sys.stdout)


class Filesystem(fuse.Fuse):
    """A `fuse.Fuse` that starts, stops and fails cleanly.

    Use it as fuse-python's class: add options to `self.parser`, call `parse`, call `main`. The `-s` option
    works without being asked for. Handlers raise OSError, or return a negative errno as fuse-python allows;
    any other exception is logged with its traceback and answers EIO.
    """

    def __init__(self, *args: Any, **kw: Any) -> None:
        fuse.fuse_python_api = fuse.FUSE_PYTHON_API_VERSION
        kw.setdefault("dash_s_do", "setsingle")
        kw.setdefault("parser_class", OptionParser)
        super().__init__(*args, **kw)
        self._failure: Optional[BaseException] = None

    def run(self, arguments: Optional[List[str]] = None) -> int:
        """Be a command: parse, mount, serve, and return an exit code.

        `arguments` is a command line without the program, None for the process's own. Options that were
        added to `self.parser` become attributes. What the user has to mend is printed as one line.
        """
        try:
            self.parse(arguments, values=self)
            self.main()
        except MountError as error:
            print(f"{self.parser.get_prog_name()}: {error}", file=sys.stderr)
            return error.exit_code
        return 0

    def main(self, args: Optional[Sequence[str]] = None) -> None:
        """Mount, serve, and return after the unmount.

        `args` is a command line for the engine, by default what `parse` has found. In the background (no
        -f), the calling process exits 0 when the mount works; the code behind `main` runs in the server.
        Raises MountError.
        """
        if args is None and not self.fuse_args.mount_expected():
            return
        try:
            arguments = options.parse(args or self.fuse_args.assemble())
        except options.OptionError as error:
            raise MountError(str(error), EXIT_USAGE) from error
        check_mountpoint(arguments)
        check_device()
        arguments = self.prepare(arguments)
        for kind in "file_class", "dir_class":
            if hasattr(self, kind):
                getattr(self.methproxy, f"set_{kind}")(self._bound(getattr(self, kind)))
        daemon = Daemon(arguments.foreground)
        daemon.fork()
        start_logging(self.parser.get_prog_name(), arguments)
        self._serve(arguments, daemon)

    def prepare(self, arguments: options.MountArguments) -> options.MountArguments:
        """Do what must happen before the mount, and return the arguments to mount with.

        A subclass that overrides it raises MountError for what its user has to mend.
        """
        implied = dict(arguments.options)
        implied.setdefault("subtype", self.parser.get_prog_name())
        if "allow_other" in implied or "allow_root" in implied:
            implied["default_permissions"] = True
        return arguments._replace(options=implied)

    def caller(self) -> Caller:
        """Return who made the request that this thread serves."""
        context = self.GetContext()
        return Caller(context["uid"], context["gid"], context["pid"])

    def _serve(self, arguments: options.MountArguments, daemon: Daemon) -> None:
        """Run the stock engine until the unmount."""
        callbacks = {name: Guard(name, function) for name, function in self._callbacks().items()}
        callbacks["fsinit"] = Guard("fsinit", self._starter(daemon))
        # libfuse leaves a signal alone that has a handler, and Python's for SIGINT never gets to run
        # while the main thread is inside the C module.
        interrupt = signal.signal(signal.SIGINT, signal.SIG_DFL)
        try:
            fuse.main(
                fuse_args=_stock_arguments(arguments),
                multithreaded=int(bool(self.multithreaded)),
                **callbacks,
            )
        except fuse.FuseError as error:
            raise MountError(f"cannot mount {arguments.mountpoint}: {error}", EXIT_FUSE) from error
        finally:
            signal.signal(signal.SIGINT, interrupt)
        if self._failure is not None:
            raise MountError(
                f"the filesystem failed to start: {_describe(self._failure)}", EXIT_FAILED
            )

    def _callbacks(self) -> Dict[str, Callback]:
        """Return the operations that this filesystem has, by fuse-python's names."""
        return {name: self.lowwrap(name) for name in self._attrs if hasattr(self, name)}

    def _starter(self, daemon: Daemon) -> Callback:
        """Return an fsinit that reports: success to the starter, failure to `main`."""

        def start() -> None:
            try:
                result = self.fsinit() if hasattr(self, "fsinit") else None
                if isinstance(result, int) and result < 0:
                    raise OSError(-result, os.strerror(-result))
            except BaseException as error:
                logger.error("fsinit failed", exc_info=True)
                self._failure = error
                # The C module ignores what fsinit says; a signal is the only way to make it stop.
                os.kill(os.getpid(), signal.SIGTERM)
            else:
                daemon.ready()

        return start

    def _bound(self, file_class: type) -> type:
        """Return a subclass of `file_class` whose instances have this filesystem as `self.filesystem`."""
        attributes: Dict[str, Any] = {
            "filesystem": self,
            "__doc__": file_class.__doc__,
            "__module__": file_class.__module__,
            "__qualname__": file_class.__qualname__,
        }
        return type(file_class.__name__, (file_class,), attributes)


class Guard:
    """A callback for the stock engine: exceptions become negative errnos, and none is lost."""

    def __init__(self, name: str, function: Callback) -> None:
        self.name = name
        self.function = function

    def __call__(self, *args: Any, **kw: Any) -> Any:
        try:
            return self.function(*args, **kw)
        except OSError as error:
            return -(error.errno or errno.EIO)
        except Exception:
            logger.exception("%s failed", self.name)
            return -errno.EIO


def start_logging(program: str, arguments: options.MountArguments) -> None:
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


def check_mountpoint(arguments: options.MountArguments) -> None:
    """Raise MountError unless there is a directory to mount on."""
    mountpoint = arguments.mountpoint
    if mountpoint is None:
        raise MountError("no mount point given", EXIT_USAGE)
    try:
        status = os.stat(mountpoint)
        entries = os.listdir(mountpoint) if stat.S_ISDIR(status.st_mode) else []
    except OSError as error:
        if error.errno == errno.ENOTCONN:
            reason = "a filesystem died there; clear it with: fusermount -u (as root: umount -l)"
        elif error.errno == errno.ENOENT:
            reason = "it does not exist; create it first"
        else:
            reason = str(error.strerror)
        raise MountError(f"mount point {mountpoint}: {reason}", EXIT_MOUNTPOINT) from error
    if not stat.S_ISDIR(status.st_mode):
        raise MountError(f"mount point {mountpoint}: not a directory", EXIT_MOUNTPOINT)
    if entries and "nonempty" not in arguments.options:
        raise MountError(
            f"mount point {mountpoint}: not empty; -o nonempty mounts over it", EXIT_MOUNTPOINT
        )


def check_device() -> None:
    """Raise MountError unless /dev/fuse can be opened."""
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            reason = "this user, or this container, may not use it"
        else:
            reason = "the kernel has no FUSE; try: modprobe fuse"
        raise MountError(f"/dev/fuse: {error.strerror}: {reason}", EXIT_FUSE) from error


def _describe(error: BaseException) -> str:
    """Return an exception as one line."""
    if isinstance(error, OSError) and error.strerror:
        return str(error)
    return f"{type(error).__name__}: {error}"


def _stock_arguments(arguments: options.MountArguments) -> List[str]:
    """Return a command line for libfuse, which need not go to the background: that is done."""
    chosen = dict(arguments.options)
    if "max_write" not in chosen:
        chosen["big_writes"] = True  # libfuse 2.9 writes 4 KiB at a time otherwise
    words = [
        name if value is True else f"{name}={value}".replace("\\", "\\\\").replace(",", "\\,")
        for name, value in chosen.items()
    ]
    return [sys.argv[0] or "python", str(arguments.mountpoint), "-f", "-o", ",".join(words)]
