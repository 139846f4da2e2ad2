"""The entry points of fuse-python's C module `fuseparts._fuse`, by the same names.

fuse-python calls them from its own module's namespace, so putting these there is all that a fuse-python
program needs to run on this engine. The list of sessions is here because `FuseInvalidate` gets a filesystem
and must find its mount.
"""

import errno
import importlib
import os
import sys
import types
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple

from fusepy_legacy.kernel import checks, options
from fusepy_legacy.kernel.context import current
from fusepy_legacy.kernel.daemon import open_standard_descriptors
from fusepy_legacy.kernel.logs import start_logging
from fusepy_legacy.kernel.session import Session, SessionError

FuseError = SessionError

NAMES = (
    "main",
    "FuseGetContext",
    "FuseInvalidate",
    "FuseNotifyPoll",
    "FuseError",
    "FuseAPIVersion",
)

_API_VERSION = 29  # what the C module says with libfuse 2.9: major * 10 + minor

_sessions: List[Tuple[Any, Session]] = []


def main(
    fuse_args: Sequence[str],
    multithreaded: int = 0,
    wanted: Iterable[str] = (),
    **callbacks: Any,
) -> None:
    """Mount and serve a filesystem until it is unmounted; `-h` and `-V` print and return.

    `fuse_args` is a command line, `callbacks` the handlers by name. `wanted` holds names of
    negotiation.WANTED. Raises FuseError.
    """
    try:
        arguments = options.parse(fuse_args)
        options.refuse(arguments.options)
        if arguments.show_help:
            # As libfuse, on stderr; Fuse.fuseoptref reads it there.
            print(options.help_text(), file=sys.stderr)
            return
        if arguments.show_version:
            print("fusepy-legacy kernel engine", file=sys.stderr)
            return
        if arguments.mountpoint is None:
            raise FuseError("no mount point given")
        checks.check_mountpoint(arguments.mountpoint, "nonempty" in arguments.options)
        checks.check_device()
    except (options.OptionError, checks.CheckError) as error:
        raise FuseError(str(error)) from error
    open_standard_descriptors()
    program = os.path.basename(fuse_args[0])
    arguments = arguments._replace(options={"subtype": program, **arguments.options})
    start_logging(program, arguments)
    session = Session(arguments, callbacks, bool(multithreaded), frozenset(wanted))
    entry = (_owner(callbacks), session)
    _sessions.append(entry)
    try:
        session.run()
    finally:
        _sessions.remove(entry)


def FuseGetContext(filesystem: Any = None) -> Dict[str, int]:
    """Return who made the request that this thread serves: uid, gid, pid, and the umask that is left."""
    return {"uid": current.uid, "gid": current.gid, "pid": current.pid, "umask": current.umask}


def FuseInvalidate(filesystem: Any, path: str) -> int:
    """Let the kernel drop what it has cached of a file; return 0, or -ENOENT when it knows no such path."""
    session = _session_of(filesystem)
    return 0 if session is not None and session.invalidate(path) else -errno.ENOENT


def FuseNotifyPoll(handle: Any) -> int:
    """Let the kernel poll again; `handle` is what the poll handler got."""
    return int(handle.notify())


def FuseAPIVersion() -> int:
    """Return the libfuse version whose features are here."""
    return _API_VERSION


def stand_in() -> None:
    """Take the C module's place in sys.modules where it cannot be loaded: libfuse 2 is not installed.

    Raises ImportError when fuse-python is not there at all.
    """
    importlib.import_module("fuseparts")
    try:
        importlib.import_module("fuseparts._fuse")
    except ImportError:
        module = types.ModuleType("fuseparts._fuse", __doc__)
        for name in NAMES:
            setattr(module, name, globals()[name])
        sys.modules["fuseparts._fuse"] = module


def _owner(callbacks: Dict[str, Any]) -> Any:
    """Return the filesystem that the handlers belong to, as far as one is a method."""
    for callback in callbacks.values():
        function = getattr(callback, "func", callback)
        owner = getattr(function, "__self__", None)
        if owner is not None:
            return owner
    return None


def _session_of(filesystem: Any) -> Optional[Session]:
    for owner, session in _sessions:
        if owner is filesystem:
            return session
    for _, session in _sessions:
        if current.engine is session.engine:
            return session
    return _sessions[0][1] if len(_sessions) == 1 else None
