"""What is wrong with a tree, in words; and how far a long task is."""

import errno
import os
import sys
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

from fusepy_legacy.crypt.errors import BlockError, CryptError
from fusepy_legacy.errors import EXIT_DAMAGE, EXIT_FAILED

# What is wrong with who reads, or with the machine, and not with what is read.
_NO_DAMAGE = (errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENOMEM)


class VaultError(Exception):
    """A command cannot be done: `str()` is one line for the user, `exit_code` an EXIT_ constant."""

    def __init__(self, message: str, exit_code: int = EXIT_FAILED) -> None:
        super().__init__(" ".join(message.splitlines()))
        self.exit_code = exit_code


class Lost(Exception):
    """Something of the tree cannot be read; `str()` says why, without naming what it is."""


def code_of(why: Any) -> int:
    """Return the exit code for what cannot be read: 26, or 11 when that is no damage of the tree."""
    cause = why.__cause__ if isinstance(why, Lost) else None
    return EXIT_FAILED if isinstance(cause, OSError) and cause.errno in _NO_DAMAGE else EXIT_DAMAGE


@contextmanager
def reading() -> Iterator[None]:
    """Turn whatever makes a part of the tree unreadable into `Lost`."""
    try:
        yield
    except CryptError as error:
        raise Lost(str(error)) from error
    except OSError as error:
        raise Lost(error.strerror or str(error)) from error


class Damage(NamedTuple):
    """One thing that is wrong: plain and encrypted path, the block's number or None, and what."""

    path: bytes
    stored: bytes
    block: Optional[int]
    problem: str

    def members(self) -> Dict[str, Any]:
        """Return what JSON shows."""
        return {
            "path": os.fsdecode(self.path),
            "encrypted": os.fsdecode(self.stored),
            "block": self.block,
            "problem": self.problem,
        }


class Report:
    """Collects what is wrong, and says each thing at once through `say`, one line at a time."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.damage: List[Damage] = []
        self.failures: List[Tuple[bytes, str]] = []
        self.leftovers: List[bytes] = []
        self._say = say

    def damaged(
        self,
        path: bytes,
        stored: bytes,
        why: Any,
        block: Optional[int] = None,
        error: Optional[Lost] = None,
    ) -> None:
        """Take note of a damage of the tree; `why` is an exception or a text, made of `error` then.

        What may not be read, or not now, is no damage.
        """
        if code_of(error or why) != EXIT_DAMAGE:
            self.failed(path, str(why))
            return
        damage = Damage(path, stored, block, str(why))
        self.damage.append(damage)
        names = f"{printable(path or b'/')} ({printable(stored or b'/')})"
        where = "" if block is None else f"block {block}: "
        self._say(f"{names}: {where}{damage.problem}")

    def failed(self, path: bytes, why: str) -> None:
        """Take note of something that is not the tree's fault."""
        self.failures.append((path, why))
        self._say(f"{printable(path or b'/')}: {why}")

    def left_over(self, path: bytes, stored: bytes) -> None:
        """Take note of a companion without its file, which is no damage.

        Who dies while making or removing a file leaves one (views/long_names.py); a copy that lacks the file
        looks the same, and of files with short names shows nothing at all.
        """
        self.leftovers.append(path)
        names = f"{printable(path)} ({printable(stored)})"
        self._say(f"{names}: only its name is there; it was being made or removed, or is lost")

    @property
    def count(self) -> int:
        """How many things are noted."""
        return len(self.damage) + len(self.failures)

    @property
    def exit_code(self) -> int:
        """26 when the tree is damaged, 11 when only something else went wrong, else 0."""
        return EXIT_DAMAGE if self.damage else EXIT_FAILED if self.failures else 0


def why_not(error: CryptError) -> str:
    """Return an error's text without the block's number that it may begin with."""
    text = str(error)
    if isinstance(error, BlockError) and error.block is not None:
        return text.split(": ", 1)[1]
    return text


def printable(name: bytes) -> str:
    """Return a name of any bytes as text in one line that does nothing to a terminal."""
    text = name.decode("utf-8", "backslashreplace")
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


class Progress:
    """A context manager: a bar with rate and time left on stderr, or nothing at all."""

    def __init__(self, total: Optional[int] = None) -> None:
        """Show a bar for `total` bytes; None: show nothing."""
        self._bar: Any = None
        if total is not None:
            from tqdm import tqdm

            self._bar = tqdm(
                total=total, unit="B", unit_scale=True, unit_divisor=1024, file=sys.stderr
            )

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def advance(self, count: int) -> None:
        """Say that so many bytes more are done."""
        if self._bar is not None:
            self._bar.update(count)

    def say(self, line: str) -> None:
        """Print a line to stderr, above the bar."""
        if self._bar is not None:
            self._bar.write(line, file=sys.stderr)
        else:
            print(line, file=sys.stderr)
