"""A filesystem over what is below a directory, or several: its options, and how it starts and ends.

What it does with what is there is a subclass's part: passthrough.py shows it as it is.
"""

import logging
import os
import resource
import signal
from contextlib import suppress
from typing import Any, Optional, Sequence, Union

from fusepy_legacy.errors import EXIT_ROOT, EXIT_USAGE, MountError
from fusepy_legacy.filesystem import Filesystem
from fusepy_legacy.kernel.options import MountArguments
from fusepy_legacy.root import Root, Rules
from fusepy_legacy.roots import Roots
from fusepy_legacy.signals import SignalThread
from fusepy_legacy.watch import UNWATCHED, Change, Watch

logger = logging.getLogger(__name__)

_WATCHED_TIMEOUT = "3600"  # seconds; what the kernel may take for true while changes are told
_UNWATCHED_TIMEOUT = 1.0  # libfuse's default, when they are not told any more


class Rooted(Filesystem):
    """A filesystem over the directory `root`, set by `-o root=DIR` or by a subclass before `main`.

    With `roots`, the name of a file, it is one of several directories, each under its label (roots_file.py).
    `beneath` finds what a path means in either.

    With `one_file_system`, a directory of `root` on which another filesystem is mounted is shown empty.

    With `watch`, what others change below the root reaches the mount's caches at once (watch.py), and these
    may be used for an hour.
    """

    root: Optional[str] = None
    roots: Optional[str] = None
    one_file_system = False
    watch = False
    beneath: Union[Root, Roots]  # from prepare to the end of main

    root_help = "mirror this directory"
    roots_help = "mirror the directories that this file lists; SIGUSR1 reads it again"
    watch_help = "learn of changes made below the root at once, and cache for an hour"

    def __init__(self, *args: Any, **kw: Any) -> None:
        super().__init__(*args, **kw)
        self._reloader: Optional[SignalThread] = None
        self._watch: Optional[Watch] = None
        self.parser.add_option(mountopt="root", metavar="DIR", help=self.root_help)
        self.parser.add_option(mountopt="roots", metavar="FILE", help=self.roots_help)
        self.parser.add_option(
            mountopt="one_file_system",
            action="store_true",
            help="show directories where another filesystem is mounted empty",
        )
        self.parser.add_option(mountopt="watch", action="store_true", help=self.watch_help)

    def main(self, args: Optional[Sequence[str]] = None) -> None:
        """Mount, serve, and let go of the root after the unmount."""
        try:
            super().main(args)
        finally:
            if self._reloader is not None:
                self._reloader.stop()
                self._reloader = None
            if self._watch is not None:
                self._watch.close()
                self._watch = None
            if "beneath" in vars(self):
                self.beneath.close()
                del self.beneath

    def prepare(self, arguments: MountArguments) -> MountArguments:
        """Open the root, while its path cannot lead into the mount yet, and imply real inode numbers."""
        arguments = super().prepare(arguments)
        self._take_source()
        if self.watch:
            if self.engine == "stock":
                raise MountError("-o watch is for engine=kernel only", EXIT_USAGE)
            self._watch = Watch()
        source = self._open_roots(arguments) if self.roots else self._open_root(arguments)
        os.umask(0)  # the caller's umask is in the modes that arrive
        self.wanted |= {"real_inodes"}
        implied = dict(arguments.options, use_ino=True)
        implied.setdefault("fsname", source)
        if self.watch:
            for name in "entry_timeout", "attr_timeout", "negative_timeout":
                implied.setdefault(name, _WATCHED_TIMEOUT)
        return arguments._replace(options=implied)

    def open_root(self, *arguments: Any) -> Root:
        """Return one of the directories, opened; a subclass may raise MountError besides OSError."""
        return Root(*arguments)

    def _open_root(self, arguments: MountArguments) -> str:
        if not self.root:
            raise MountError(
                "no root given; say which directory to mirror: -o root=DIR", EXIT_USAGE
            )
        self.root = os.path.abspath(os.path.expanduser(self.root))
        rules = Rules(one_file_system=self.one_file_system)
        try:
            os.listdir(self.root)
            self.beneath = self.open_root(self.root, arguments.mountpoint, rules)
            if self._watch is not None:
                self._watch.add(self.beneath.descriptor)
        except OSError as error:
            raise MountError(f"root {self.root}: {error.strerror}", EXIT_ROOT) from error
        return self.root

    def _open_roots(self, arguments: MountArguments) -> str:
        if self.root:
            raise MountError("-o root and -o roots: a mount takes one of them", EXIT_USAGE)
        if self.one_file_system:
            raise MountError("one_file_system is for each root to say, in the file", EXIT_USAGE)
        self.roots = os.path.abspath(os.path.expanduser(str(self.roots)))
        self.beneath = Roots(self.roots, arguments.mountpoint, self._watch, self.open_root)
        self._reloader = SignalThread(signal.SIGUSR1, self._reload)
        return self.roots

    def fsinit(self) -> None:
        """Begin to listen for SIGUSR1 and for changes; a subclass with its own fsinit calls this one too."""
        _open_many_files()
        if self._reloader is not None:
            self._reloader.start()
        if self._watch is not None:
            self._watch.start(self._changed, self.beneath.await_missing)

    def _changed(self, change: Change) -> None:
        """Let the kernel forget what someone has changed underneath."""
        session = self._session
        if session is None:
            return
        if change == UNWATCHED:
            session.limit_caching(_UNWATCHED_TIMEOUT)
            return
        if change.directory is not None and change.name is not None:
            for directory in self.beneath.shown_ids(*change.directory):
                session.invalidate_entry(directory, change.name)
        if change.file is not None:
            for file in self.beneath.shown_ids(*change.file):
                session.invalidate_file(file)
        elif change.directory is None:
            session.invalidate_all()

    def _reload(self) -> None:
        """Read the roots file again, or say why everything stays as it is."""
        assert isinstance(self.beneath, Roots)
        try:
            self.beneath.reload()
        except MountError as error:
            logger.error("not reloaded: %s", error)
        except Exception:
            logger.exception("not reloaded")
        else:
            logger.info("reloaded: %s", self.roots)

    def _take_source(self) -> None:
        """Let the first of two arguments be the root: mount(8) calls its helpers so (mount.fuse)."""
        _, sources = getattr(self, "cmdline", (None, []))
        if len(sources) > 1:
            raise MountError(f"too many arguments: {' '.join(sources)}", EXIT_USAGE)
        # In fstab there has to be a source; with roots= it may be called none.
        if sources and self.root is None and not (self.roots and sources[0] == "none"):
            self.root = sources[0]


def _open_many_files() -> None:
    """Raise the limit of open files as far as it goes: all programs have theirs open through this process.

    The usual limit of 1024 is for programs that use select(2), which cannot count further.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # more than fs.nr_open
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
