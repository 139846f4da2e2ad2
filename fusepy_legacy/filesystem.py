"""What every filesystem of this package shares: options, engine, start and stop, logging, the caller.

A subclass declares `file_class` (and `dir_class`), as fuse-python has it. What is new is that each of
their instances reaches its filesystem as `self.filesystem`.
"""

import contextlib
import errno
import functools
import itertools
import logging
import os
import signal
import sys
import threading
from typing import AbstractSet, Any, Callable, Dict, List, Optional, Sequence

from fusepy_legacy.binding import SubbedOpt, fuse
from fusepy_legacy.errors import (
    EXIT_FAILED,
    EXIT_FUSE,
    EXIT_INTERRUPTED,
    EXIT_MOUNTPOINT,
    EXIT_USAGE,
    MountError,
)
from fusepy_legacy.identity import Caller, Registering
from fusepy_legacy.kernel import checks, entry, options
from fusepy_legacy.kernel.context import current, process_groups
from fusepy_legacy.kernel.daemon import Daemon, open_standard_descriptors
from fusepy_legacy.kernel.logs import start_logging
from fusepy_legacy.kernel.session import Session, SessionError, describe
from fusepy_legacy.output import complete_output

logger = logging.getLogger(__name__)

Callback = Callable[..., Any]

# What the kernel engine calls beyond fuse-python's list, where it is there (docs/handlers.md).
_OPTIONAL = ("before_serving", "birthtime", "hold", "syncfs", "utimensat")
_OPTIONAL_FILE = (
    "copy_file_range",
    "fallocate",
    "fchmod",
    "fchown",
    "fhold",
    "flock",
    "futimens",
    "linkat",
    "lseek",
)
_OPTIONAL_DIRECTORY = ("fstatat",)
_PAST_READ_AND_WRITE = ("copy_file_range", "fallocate", "lseek")


class MountOption(SubbedOpt):
    """The option -o and what may follow it, where a value may contain "=": fuse-python drops the rest."""

    def take_action(
        self, action: str, dest: str, opt: str, value: Any, values: Any, parser: Any
    ) -> None:
        """Hand each of -o's words to the option of its name, or keep it for the engine."""
        if action != "store_hive":
            super().take_action(action, dest, opt, value, values, parser)
            return
        setattr(values, dest, self.subopts_hive)
        for word in filter(None, options.split(value)):
            name, equals, text = word.partition("=")
            option = self.subopt_map.get(name)
            if option is None:
                self.subopts_hive.add(name, text if equals else None)  # backslashes and all
            elif option.takes_value() and not text:
                parser.error(f"-o {name} needs a value: -o {name}={option.metavar or name.upper()}")
            elif equals and not option.takes_value():
                parser.error(f"-o {name} takes no value")
            else:
                given = options.unescaped(text) if equals else None
                option.process(name, given, values, parser)


class OptionParser(fuse.FuseOptParse):
    """fuse-python's option parser, with errors as one line and the engine's options in the help."""

    def __init__(self, *args: Any, **kw: Any) -> None:
        kw.setdefault("option_class", MountOption)
        super().__init__(*args, **kw)

    def error(self, msg: str) -> None:
        """Raise MountError instead of printing the usage."""
        raise MountError(f"{msg}; see {self.get_prog_name()} -h", EXIT_USAGE)

    def print_help(self, file: Any = None) -> None:
        """Print the filesystem's options and then the engine's."""
        file = file or sys.stdout or sys.stderr  # as print_version, and as argparse
        super().print_help(file)
        print(f"\n{options.help_text()}", file=file)

    def print_version(self, file: Any = None) -> None:
        """Print the version where a shell can pipe it."""
        super().print_version(file or sys.stdout)


class Filesystem(fuse.Fuse):
    """A `fuse.Fuse` that starts, stops and fails cleanly.

    Use it as fuse-python's class: add options to `self.parser`, call `parse`, call `main`. The `-s` option
    works without being asked for. Handlers raise OSError, or return a negative errno as fuse-python allows;
    any other exception is logged with its traceback and answers EIO.

    `wanted` names what the kernel engine shall agree on with the kernel beyond what suits every filesystem:
    see WANTED in kernel/negotiation.py.
    """

    engine = "auto"
    wanted: AbstractSet[str] = frozenset()

    def __init__(self, *args: Any, **kw: Any) -> None:
        fuse.fuse_python_api = fuse.FUSE_PYTHON_API_VERSION
        kw.setdefault("dash_s_do", "setsingle")
        kw.setdefault("parser_class", OptionParser)
        super().__init__(*args, **kw)
        self._failure: Optional[BaseException] = None
        self._session: Optional[Session] = None
        self.parser.add_option(
            mountopt="engine",
            metavar="NAME",
            help="kernel: this package's own engine; stock: fuse-python's on libfuse 2; "
            "auto (the default) is kernel",
        )

    def run(self, arguments: Optional[List[str]] = None) -> int:
        """Be a command: parse, mount, serve, and return an exit code.

        `arguments` is a command line without the program, None for the process's own. Options that were
        added to `self.parser` become attributes. What the user has to mend, or that it was interrupted
        before the mount, is printed as one line.
        """
        try:
            self._parse(arguments)
            self.main()
        except MountError as error:
            problem, code = str(error), error.exit_code
        except KeyboardInterrupt:
            # Before the mount, such as at a prompt; afterwards SIGINT unmounts.
            problem, code = "interrupted", EXIT_INTERRUPTED
        else:
            return 0
        print(f"{self.parser.get_prog_name()}: {problem}", file=sys.stderr)
        return code

    def _parse(self, arguments: Optional[List[str]]) -> None:
        """Parse a command line, of which options such as -h print what they are asked for."""
        try:
            with complete_output():
                self.parse(arguments, values=self)
        except BrokenPipeError:
            sys.exit(EXIT_FAILED)  # nobody reads any more
        except OSError as error:
            raise MountError(f"standard output: {error.strerror}", EXIT_FAILED) from error

    def main(self, args: Optional[Sequence[str]] = None) -> None:
        """Mount, serve, and return after the unmount.

        `args` is a command line for the engine, by default what `parse` has found. In the background (no
        -f), the calling process exits 0 when the mount works; the code behind `main` runs in the server.
        Raises MountError.
        """
        if args is None and not self.fuse_args.mount_expected():
            return
        open_standard_descriptors()
        try:
            arguments = options.parse(args or self.fuse_args.assemble())
        except options.OptionError as error:
            raise MountError(str(error), EXIT_USAGE) from error
        check_mountpoint(arguments)
        check_device()
        stock = self._is_stock(arguments)
        arguments = self.prepare(arguments)
        for kind in "file_class", "dir_class":
            if hasattr(self, kind):
                getattr(self.methproxy, f"set_{kind}")(self._bound(getattr(self, kind)))
        start_logging(self.parser.get_prog_name(), arguments)
        if stock:
            self._serve_on_stock(arguments)
        else:
            self._serve_on_kernel(arguments)

    def exit(self) -> None:
        """Unmount, from any thread; `main` then returns."""
        if self._session is not None:
            self._session.exit()
        else:
            os.kill(os.getpid(), signal.SIGTERM)  # what libfuse's loop listens to

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
        if self._session is not None:
            _, _, _, _, uid, gid, pid, _ = current.header
            return Caller(uid, gid, pid, current.umask, self._session.engine.groups)
        context = self.GetContext()
        pid = context["pid"]
        return Caller(
            context["uid"], context["gid"], pid, 0, functools.partial(process_groups, pid)
        )

    def interrupted(self) -> Optional[threading.Event]:
        """Return what is set when the request that this thread serves shall stop waiting.

        None for requests that do not wait, and on the stock engine, which cannot tell.
        """
        return current.interrupted if self._session is not None else None

    def GetContext(self) -> Dict[str, int]:
        """Return who made the request: uid, gid, pid."""
        if self._session is not None:
            return entry.FuseGetContext()
        return dict(super().GetContext())

    def Invalidate(self, path: str) -> int:
        """Let the kernel drop what it has cached of a file; return 0 or a negative errno."""
        if self._session is not None:
            return 0 if self._session.invalidate(path) else -errno.ENOENT
        return int(super().Invalidate(path))

    def NotifyPoll(self, pollhandle: Any) -> int:
        """Let the kernel poll again; `pollhandle` is what `poll` got."""
        if self._session is not None:
            return entry.FuseNotifyPoll(pollhandle)
        return int(super().NotifyPoll(pollhandle))

    def _is_stock(self, arguments: options.MountArguments) -> bool:
        if self.engine not in ("auto", "kernel", "stock"):
            raise MountError(f"no such engine: {self.engine}; auto, kernel or stock", EXIT_USAGE)
        logger.debug("engine: %s", "kernel" if self.engine == "auto" else self.engine)
        if self.engine == "stock":
            for name in arguments.options:
                option = options.find(name)
                if option is not None and option.kind is options.Kind.OWN:
                    raise MountError(f"-o {name} is for engine=kernel only", EXIT_USAGE)
            if fuse.main is entry.main:
                raise MountError(
                    "engine=stock needs fuse-python's C module on libfuse 2", EXIT_USAGE
                )
            return True
        try:
            options.refuse(arguments.options)
        except options.OptionError as error:
            raise MountError(str(error), EXIT_USAGE) from error
        return False

    def _serve_on_kernel(self, arguments: options.MountArguments) -> None:
        """Run the kernel engine until the unmount."""
        self._session = Session(arguments, self._callbacks(), bool(self.multithreaded), self.wanted)
        try:
            self._session.run()
        except SessionError as error:
            if error.__cause__ is not None and self._session.engine.failure is error.__cause__:
                raise _failed_to_start(error.__cause__) from error
            raise MountError(str(error), EXIT_FUSE) from error
        finally:
            self._session = None

    def _serve_on_stock(self, arguments: options.MountArguments) -> None:
        """Run the stock engine until the unmount."""
        daemon = Daemon(arguments.foreground)
        daemon.fork()
        callbacks = {
            name: Guard(name, function) for name, function in self._stock_callbacks().items()
        }
        callbacks["fsinit"] = Guard("fsinit", self._starter(daemon))
        # fuse-python 1.0.9 builds this call's arguments with a malformed format, and crashes.
        callbacks.pop("fsyncdir", None)
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
            raise _failed_to_start(self._failure)

    def _stock_callbacks(self) -> Dict[str, Callback]:
        """Return the handlers that this filesystem has, by fuse-python's names."""
        return {name: self.lowwrap(name) for name in self._attrs if hasattr(self, name)}

    def _callbacks(self) -> Dict[str, Callback]:
        """Return fuse-python's handlers and the optional ones."""
        callbacks = self._stock_callbacks()
        optional = {name: getattr(self, name) for name in _OPTIONAL if hasattr(self, name)}
        callbacks.update(optional)
        if hasattr(self, "tmpfile"):
            callbacks["tmpfile"] = lambda *arguments: (self.tmpfile(*arguments), True)
        classes = (
            (_OPTIONAL_FILE, self.methproxy.file_class),
            (_OPTIONAL_DIRECTORY, self.methproxy.dir_class),
        )
        for names, declared in classes:
            for name in names:
                if hasattr(declared, name) and (
                    name not in _PAST_READ_AND_WRITE or _knows_read_and_write(declared, name)
                ):
                    callbacks[name] = self.methproxy.proxyclass(name)
        # A method of the filesystem would come before the file class's.
        own = any(hasattr(type(self), name) for name in ("open", "create", "read", "write"))
        file_class = self.methproxy.file_class
        if not own and _knows_read_and_write(file_class, "kernel_io") and file_class.kernel_io:
            callbacks["backing"] = lambda file: file.fileno()
            with contextlib.suppress(OSError):  # a machine that syscalls.py does not know
                registering = Registering()
                callbacks["registering"] = lambda: registering
        return callbacks

    def _starter(self, daemon: Daemon) -> Callback:
        """Return an fsinit that reports: success to the starter, failure to `main`."""

        def start() -> None:
            try:
                result = self.fsinit() if hasattr(self, "fsinit") else None
                if isinstance(result, int) and result < 0:
                    raise OSError(-result, os.strerror(-result))
            except BaseException as error:
                if not isinstance(error, OSError):  # an OSError says all in its one line
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


def _knows_read_and_write(file_class: Optional[type], name: str) -> bool:
    """Tell whether a file class has an attribute that was written for the `read` and `write` it has.

    That is so of `kernel_io`, which says that these do no more than the descriptor's own, and of methods that
    reach the data past them. A subclass with others has said nothing, and is asked for every byte.
    """
    for declaring in file_class.__mro__ if file_class is not None else ():
        if name in vars(declaring):
            return True
        if "read" in vars(declaring) or "write" in vars(declaring):
            return False
    return False


class Guard:
    """A callback for the stock engine: exceptions become negative errnos, and none is lost."""

    def __init__(self, name: str, function: Callback) -> None:
        self.name = name
        self.function = function

    def __call__(self, *args: Any, **kw: Any) -> Any:
        try:
            result = self.function(*args, **kw)
            return _begun(result) if self.name == "readdir" else result
        except OSError as error:
            return -(error.errno or errno.EIO)
        except Exception:
            logger.exception("%s failed", self.name)
            return -errno.EIO


def _begun(entries: Any) -> Any:
    """Return a listing whose first entry has been made.

    A generator fails when it is first asked, which is too late: the C module answers EINVAL to whatever an
    iterator raises.
    """
    if isinstance(entries, int) or entries is None:
        return entries
    iterator = iter(entries)
    return itertools.chain(list(itertools.islice(iterator, 1)), iterator)


def check_mountpoint(arguments: options.MountArguments) -> None:
    """Raise MountError unless there is a directory to mount on."""
    if arguments.mountpoint is None:
        raise MountError("no mount point given; -h shows how to call this", EXIT_USAGE)
    try:
        checks.check_mountpoint(arguments.mountpoint, "nonempty" in arguments.options)
    except checks.CheckError as error:
        raise MountError(str(error), EXIT_MOUNTPOINT) from error


def check_device() -> None:
    """Raise MountError unless /dev/fuse can be opened."""
    try:
        checks.check_device()
    except checks.CheckError as error:
        raise MountError(str(error), EXIT_FUSE) from error


def _failed_to_start(error: BaseException) -> MountError:
    return MountError(f"the filesystem failed to start: {describe(error)}", EXIT_FAILED)


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
