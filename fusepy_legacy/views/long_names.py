"""Companions: the files that hold what a hashed name stands for.

A companion is there before its file and goes after it, so a file is never without a name; who dies in
between leaves a companion without a file, which means nothing and is used again. One lock makes these
steps one for the threads of this mount. Names this long are rare.
"""

import errno
import logging
import os
import threading
from contextlib import contextmanager, suppress
from typing import ContextManager, Iterator, Sequence

from fusepy_legacy.crypt.names import COMPANION_SUFFIX
from fusepy_legacy.views.stored_paths import StoredBeneath, read_small_file

logger = logging.getLogger(__name__)

SUFFIX = os.fsdecode(COMPANION_SUFFIX)
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class _NoCompanions:
    """Context manager for names that need none, as most."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exception: object) -> None:
        pass


NO_COMPANIONS = _NoCompanions()


class LongNames:
    """Keeps the companions of a tree right. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def changing(
        self, tree: StoredBeneath, made: Sequence[str], removed: Sequence[str]
    ) -> ContextManager[None]:
        """Around what makes and removes names in the tree, which are given by their plain paths.

        Whether it succeeds or fails, each name has a companion afterwards if it has a file.
        """
        made, removed = _long(tree, made), _long(tree, removed)
        return self._changing(tree, made, removed) if made or removed else NO_COMPANIONS

    @contextmanager
    def _changing(
        self, tree: StoredBeneath, made: Sequence[str], removed: Sequence[str]
    ) -> Iterator[None]:
        with self._lock:
            try:
                for path in made:
                    self._write(tree, path)
                yield
            finally:
                for path in {*made, *removed}:
                    self._tidy(tree, path)

    @staticmethod
    def _write(tree: StoredBeneath, path: str) -> None:
        parent = tree.parent(path)
        with parent as (directory, stored):
            if parent.whole is None:
                return
            name = stored + SUFFIX
            try:
                write_small_file(name, directory, parent.whole, sync=True)
            except FileExistsError:
                if read_small_file(name, directory) != parent.whole:  # someone died writing it
                    os.unlink(name, dir_fd=directory)
                    write_small_file(name, directory, parent.whole, sync=True)

    @staticmethod
    def _tidy(tree: StoredBeneath, path: str) -> None:
        """Remove the companion of a name that has no file."""
        try:
            parent = tree.parent(path)
            with parent as (directory, stored):
                if parent.whole is not None:
                    remove_orphan(stored + SUFFIX, directory)
        except OSError as error:
            logger.warning("a companion is left over: %s", error.strerror)


def _long(tree: StoredBeneath, paths: Sequence[str]) -> Sequence[str]:
    return [path for path in paths if tree.names.may_be_long(path.rpartition("/")[2])]


def remove_orphan(companion: str, directory: int) -> bool:
    """Remove a companion if its file is gone; tell whether it was."""
    try:
        os.stat(companion[: -len(SUFFIX)], dir_fd=directory, follow_symlinks=False)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
    else:
        return False
    with suppress(FileNotFoundError):
        os.unlink(companion, dir_fd=directory)
    return True


def write_small_file(name: str, directory: int, data: bytes, sync: bool) -> None:
    """Make a file that all may read, whole or not at all, on the disk if `sync`; EEXIST if it is there."""
    descriptor = os.open(name, _NEW, 0o444, dir_fd=directory)
    try:
        try:
            if os.write(descriptor, data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if sync:
                os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
    except BaseException:
        os.unlink(name, dir_fd=directory)
        raise
