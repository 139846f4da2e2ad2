"""The two ends of an engine: a filesystem that records what it is asked, and a kernel that asks."""

import inspect
import os
import struct
from typing import AbstractSet, Any, Callable, Dict, List, Optional, Tuple

from fusepy_legacy.kernel.engine import Engine
from tests.wire import joined, request, u32, u64

_LOOKUP, _OPEN, _OPENDIR = 1, 14, 27


def status(mode: int, ino: int, links: int = 1, size: int = 0, rdev: int = 0) -> os.stat_result:
    """Return a status whose fields all differ."""
    return os.stat_result(
        (mode, ino, 2049, links, 1001, 101, size, 0, 0, 0),
        {
            "st_atime_ns": 1600000001000000011,
            "st_mtime_ns": 1600000002000000022,
            "st_ctime_ns": 1600000003000000033,
            "st_blocks": 16,
            "st_blksize": 4096,
            "st_rdev": rdev,
        },
    )


# Options, and what is wanted: the filesystem promises that st_dev and st_ino say which file it is.
IDENTIFIED: Tuple[Dict[str, Any], AbstractSet[str]] = (
    {"use_ino": True},
    frozenset(("real_inodes",)),
)

FILE = status(0o100640, ino=501, size=5000)
DIRECTORY = status(0o040750, ino=601, links=2, size=4096)


def attr(shown: os.stat_result, ino: int) -> bytes:
    """Return struct fuse_attr of one of `status`'s results, with the inode number that is shown."""
    return (
        u64(ino)  # ino
        + u64(shown.st_size)  # size
        + u64(16)  # blocks
        + u64(1600000001)  # atime
        + u64(1600000002)  # mtime
        + u64(1600000003)  # ctime
        + u32(11)  # atimensec
        + u32(22)  # mtimensec
        + u32(33)  # ctimensec
        + u32(shown.st_mode)  # mode
        + u32(shown.st_nlink)  # nlink
        + u32(1001)  # uid
        + u32(101)  # gid
        + u32(shown.st_rdev)  # rdev
        + u32(4096)  # blksize
        + u32(0)  # flags
    )


class OpenFile:
    """What a filesystem's open returns; fuse-python hands it on as (object, True)."""


class Recorder:
    """Handlers that note their calls and answer as told.

    An answer is what the handler returns, an exception that it raises, or a function that it calls.
    """

    def __init__(self, answers: Dict[str, Any]) -> None:
        self.answers = answers
        self.calls: List[Tuple[Any, ...]] = []

    def callbacks(self) -> Dict[str, Callable[..., Any]]:
        """Return the handlers by name."""
        return {name: self._handler(name) for name in self.answers}

    def _handler(self, name: str) -> Callable[..., Any]:
        def handler(*arguments: Any, **keywords: Any) -> Any:
            self.calls.append((name, *arguments, keywords) if keywords else (name, *arguments))
            answer = self.answers[name]
            if isinstance(answer, BaseException):
                raise answer
            return answer(*arguments, **keywords) if callable(answer) else answer

        # The engine looks for parameters that handlers have not always had.
        handler.__signature__ = inspect.signature(  # type: ignore[attr-defined]
            lambda first, second=None, third=None: None
        )
        return handler


class Kernel:
    """Asks an engine on a `Recorder` with these answers, as the kernel would."""

    def __init__(
        self,
        options: Optional[Dict[str, Any]] = None,
        wanted: AbstractSet[str] = frozenset(),
        **answers: Any,
    ) -> None:
        self.filesystem = Recorder(answers)
        self.engine = Engine(self.filesystem.callbacks(), options, wanted)

    @property
    def generation(self) -> int:
        """The generation of all nodes of this mount."""
        return self.engine.generation

    def sends(self, opcode: int, *fields: bytes, **header: Any) -> Optional[bytes]:
        """Send a request and return its reply."""
        answer = self.engine.handle(request(opcode, *fields, **header))
        return None if answer is None else joined(answer)

    def calls(self) -> List[Tuple[Any, ...]]:
        """Return the calls of handlers since the last time that this was asked."""
        calls, self.filesystem.calls = self.filesystem.calls, []
        return calls

    def looks_up(self, name: str, parent: int = 1) -> int:
        """Look a name up and return its node id; AssertionError when it is not found."""
        answer = self.sends(_LOOKUP, os.fsencode(name) + b"\0", node=parent)
        self.calls()
        return int(_first_of_success(answer))

    def opens(self, node: int, flags: int = os.O_RDWR) -> int:
        """Open a file and return its handle."""
        return self._open(_OPEN, node, flags)

    def opens_directory(self, node: int = 1) -> int:
        """Open a directory and return its handle."""
        return self._open(_OPENDIR, node, os.O_RDONLY)

    def _open(self, opcode: int, node: int, flags: int) -> int:
        answer = self.sends(opcode, u32(flags) + u32(0), node=node)
        self.calls()
        return _first_of_success(answer)


class Opened:
    """A kernel with the file "/file" open: `node`, `fh`, and the object behind the handle."""

    def __init__(self, **answers: Any) -> None:
        self.object = OpenFile()
        self.kernel = Kernel(open=(self.object, True), getattr=FILE, **answers)
        self.node = self.kernel.looks_up("file")
        self.fh = self.kernel.opens(self.node)

    def sends(self, opcode: int, *fields: bytes) -> Any:
        """Send a request about the open file."""
        return self.kernel.sends(opcode, *fields, node=self.node)

    def calls(self) -> List[Tuple[Any, ...]]:
        """Return the calls of handlers since the file was opened, or since the last time."""
        return self.kernel.calls()


def error_of(answer: Optional[bytes]) -> int:
    """Return the errno of a reply, 0 for success."""
    assert answer is not None
    error: int = struct.unpack_from("=i", answer, 4)[0]  # fuse_out_header.error
    return -error


def _first_of_success(answer: Optional[bytes]) -> int:
    """Return the first field of a reply: a node id or a handle."""
    assert answer is not None
    assert error_of(answer) == 0
    first: int = struct.unpack_from("=Q", answer, 16)[0]
    return first
