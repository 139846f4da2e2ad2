"""Several directories at one mount, each under its label.

`Roots` has the methods of a `Root`, and hands each call on to the root that the path is in. The mount's top,
and the directories on the way to a nested label, are on no filesystem: they list the labels in the file's
order, and nothing can be made in them (EROFS).

What may change while the mount serves is one table, which is replaced whole. A request goes on with the root
that it found in it, which stays open for so long.
"""

import errno
import functools
import logging
import os
import stat
import threading
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple, Union

from fusepy_legacy import roots_file
from fusepy_legacy.beneath import Held, Parent, Reference
from fusepy_legacy.covered import MountPoint
from fusepy_legacy.dirents import Dirent
from fusepy_legacy.errors import EXIT_ROOT, MountError
from fusepy_legacy.inodes import InodeNumbers, virtual_number
from fusepy_legacy.kernel.meant import FileId, Meant, meant
from fusepy_legacy.root import CHANGES, Root, RootDirectory, error
from fusepy_legacy.roots_file import RootDefinition, RootsFile
from fusepy_legacy.watch import Change, Watch

logger = logging.getLogger(__name__)

_BLOCK = 4096  # bytes, of the sum of all roots' sizes
_NO_DEVICE = 0  # the st_dev of no filesystem


class Place:
    """What is at a label: a root, or None while its directory is missing and may be.

    `refusal` is why a directory that is there could not be taken up, None when that has not happened.
    """

    __slots__ = ("definition", "root", "refusal")

    def __init__(self, definition: RootDefinition, root: Optional[Root]) -> None:
        self.definition = definition
        self.root = root
        self.refusal: Optional[str] = None


class VirtualDirectory:
    """A directory of the mount's own, by its path on the mount. The mtime is the roots file's."""

    __slots__ = ("path", "children", "mtime_ns")

    def __init__(self, path: str, mtime_ns: int) -> None:
        self.path = path
        self.children: Dict[str, Union[VirtualDirectory, Place]] = {}
        self.mtime_ns = mtime_ns

    @property
    def file_id(self) -> FileId:
        """What identifies it, as `stat` shows it."""
        return _NO_DEVICE, virtual_number(self.path)

    def walk(self) -> Iterator["VirtualDirectory"]:
        """Yield it and the virtual directories below it."""
        yield self
        for child in self.children.values():
            if isinstance(child, VirtualDirectory):
                yield from child.walk()

    def stat(self) -> os.stat_result:
        """Return its attributes, the same at every mount of the same file."""
        seconds = self.mtime_ns // 10**9
        times = dict.fromkeys(("st_atime", "st_mtime", "st_ctime"), self.mtime_ns / 1e9)
        nanoseconds = {f"{name}_ns": self.mtime_ns for name in times}
        device, number = self.file_id
        owner = os.geteuid(), os.getegid()
        links = 2 + len(self.children)
        fields = (stat.S_IFDIR | 0o555, number, device, links, *owner, 0, seconds, seconds, seconds)
        more = {"st_blksize": _BLOCK, "st_blocks": 0, "st_rdev": 0, **times, **nanoseconds}
        return os.stat_result(fields, more)


class _Table(NamedTuple):
    """The places by label, and the tree that the labels make.

    `direct` has those with labels of one component that are there, for a short way to most files.
    """

    places: Dict[str, Place]
    top: VirtualDirectory
    direct: Dict[str, Root]


def _table(places: Dict[str, Place], mtime_ns: int) -> _Table:
    top = VirtualDirectory("/", mtime_ns)
    for label, place in places.items():
        *above, name = label.split("/")
        directory = top
        for component in above:
            path = f"{directory.path.rstrip('/')}/{component}"
            child = directory.children.setdefault(component, VirtualDirectory(path, mtime_ns))
            assert isinstance(child, VirtualDirectory)  # no label is below another
            directory = child
        directory.children[name] = place
    direct = {
        label: place.root
        for label, place in places.items()
        if place.root is not None and "/" not in label
    }
    return _Table(places, top, direct)


class Roots:
    """The roots of a file. Safe for threads.

    Raises MountError when the file is wrong, or a directory is missing that is not optional.
    """

    def __init__(
        self,
        name: str,
        mountpoint: Optional[str] = None,
        watch: Optional[Watch] = None,
        open_root: Callable[..., Root] = Root,
    ) -> None:
        """Read the roots file `name`; `mountpoint` is where the mirror will be mounted, None when nowhere.

        `watch` is for what changes below the roots, and above them. `open_root` takes what `Root` does, and
        may raise MountError.
        """
        self._open_root = open_root
        self._guard = threading.Lock()  # of the table's replacement
        self._numbers = InodeNumbers()
        self._root_numbers: Dict[str, int] = {}
        self._mountpoint: Optional[MountPoint] = None
        self._watch = watch
        self._serves = False
        self.file = roots_file.read(name)
        if mountpoint is not None:
            # Once it is mounted, only this descriptor leads below.
            path = os.path.realpath(mountpoint)
            descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            self._mountpoint = MountPoint(path, descriptor)
        try:
            self._table = _table(self._open_all(self.file, {}), self.file.mtime_ns)
            self._serves = True
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of all roots."""
        self._table = _table({}, 0)
        if self._mountpoint is not None:
            os.close(self._mountpoint.descriptor)
            self._mountpoint = None

    @property
    def places(self) -> Dict[str, Place]:
        """What is at each label, in the file's order."""
        return self._table.places

    # Making the table

    def reload(self) -> None:
        """Read the file again. MountError, and nothing has changed, when anything is wrong with it.

        A label that stays is served by the new definition from now on. One that is gone stays as it was
        until the last file that is open there is closed.
        """
        with self._guard:
            before = self._table.places
            file = roots_file.read(self.file.name)
            places = self._open_all(file, before)
            added = [label for label in places if label not in before]
            leaving = []
            for label, place in before.items():
                if label in places:
                    continue
                if place.root is not None and place.root.opens and not _is_taken(label, places):
                    leaving.append(label)
                    places[label] = place
                    place.root.on_unused = functools.partial(self._drop_unused, label)
                    logger.info("[%s] removed; it goes when its last open file is closed", label)
                else:
                    logger.info("[%s] removed", label)
            self.file = file
            self._replace_table(places)
        for label in added:
            logger.info("[%s] added", label)
        for label in leaving:
            self._drop_unused(label)  # the last file may have been closed meanwhile

    def _drop_unused(self, label: str) -> None:
        """Take a removed root out of the table when no file is open there any more."""
        with self._guard:
            place = self._table.places.get(label)
            listed = [definition.label for definition in self.file.roots]
            if place is None or place.root is None or place.root.opens or label in listed:
                return
            places = {name: other for name, other in self._table.places.items() if name != label}
            self._replace_table(places)
        logger.info("[%s] has gone", label)

    def _replace_table(self, places: Dict[str, Place]) -> None:
        before = self._table.top
        self._table = _table(places, self.file.mtime_ns)
        self._say_anew(before, self._table.top)

    def _say_anew(self, *tops: VirtualDirectory) -> None:
        """Let the mount's caches forget all labels, and so what is below them."""
        if self._watch is not None:
            self._watch.say(
                [
                    Change(directory.file_id, name, None)
                    for top in tops
                    for directory in top.walk()
                    for name in directory.children
                ]
            )

    def _open_all(self, file: RootsFile, before: Dict[str, Place]) -> Dict[str, Place]:
        places = {}
        for definition in file.roots:
            place = Place(definition, None)
            try:
                place.root = self._open(definition, before.get(definition.label))
            except FileNotFoundError as problem:
                if not definition.optional:
                    raise _refused(file, definition, problem) from problem
                logger.warning(
                    "[%s] skipped until it is there: %s", definition.label, definition.path
                )
            except OSError as problem:
                raise _refused(file, definition, problem) from problem
            places[definition.label] = place
        return places

    def _open(self, definition: RootDefinition, before: Optional[Place] = None) -> Root:
        """Open a root; `before` is what was at its label. Raises OSError."""
        path = definition.path
        if self._serves and self._leads_into_the_mount(path):
            if before is None or before.definition.path != path:
                raise OSError(errno.ELOOP, "it is in the mount itself", path)
            if before.root is None:
                raise error(errno.ENOENT, path)
            path = f"/proc/self/fd/{before.root.descriptor}"
        number = self._root_numbers.setdefault(definition.label, len(self._root_numbers))
        root = self._open_root(path, self._mountpoint, definition.rules, self._numbers, number)
        root.path = definition.path
        root.opendir("/").close()  # may it be read?
        if self._watch is not None:
            self._watch.add(root.descriptor)
            root.on_closed = functools.partial(self._watch.remove, root.device)
        return root

    def _leads_into_the_mount(self, path: str) -> bool:
        if self._mountpoint is None:
            return False
        # As it is written, first: with one worker, asking the mount itself would wait for ever.
        return any(
            roots_file.is_inside(resolve(path), self._mountpoint.path)
            for resolve in (os.path.normpath, os.path.realpath)
        )

    def _appeared(self, place: Place) -> Optional[Root]:
        """Return the root of an optional directory that has been missing, None when it still is."""
        try:
            root = self._open(place.definition)
        except FileNotFoundError:
            return None
        except (OSError, MountError) as problem:
            refusal = getattr(problem, "strerror", None) or str(problem)
            if refusal != place.refusal:
                place.refusal = refusal
                label, path = place.definition.label, place.definition.path
                logger.warning("[%s] skipped: %s: %s", label, path, refusal)
            return None
        logger.info("[%s] is there now: %s", place.definition.label, place.definition.path)
        place.root = root
        self._say_anew(self._table.top)
        return root

    def await_missing(self) -> bool:
        """Take up the optional roots that have appeared; tell whether some are still missing."""
        missing = [place for place in self._table.places.values() if place.root is None]
        return None in [self._appeared(place) for place in missing]

    # Finding one's way

    def _find(self, path: str) -> Tuple[Union[Root, VirtualDirectory], str]:
        """Return where a path leads: a root and the path in it, or a virtual directory and what it lacks.

        What it lacks is "" when the path is its own. A held path stays as it is.
        """
        table = self._table
        end = path.find("/", 1)
        if end > 0:
            direct = table.direct.get(path[1:end])
            if direct is not None:
                return direct, _below(path, end)
        directory = table.top
        start = 1
        while start < len(path):
            end = path.find("/", start)
            child = directory.children.get(path[start:end] if end >= 0 else path[start:])
            if isinstance(child, VirtualDirectory):
                directory = child
                start = end + 1 if end >= 0 else len(path)
                continue
            root = None if child is None else child.root or self._appeared(child)
            if root is None:
                return directory, path[start:]
            return root, _below(path, end)
        return directory, ""

    def at(self, path: str) -> Root:
        """Return the root that a path is in; ENOENT or EISDIR when that is none."""
        return self.locate(path)[0]

    def locate(
        self, path: str, making: bool = False, virtual: int = errno.EISDIR
    ) -> Tuple[Root, str]:
        """Return the root that a path is in, or is to be made in, and the path in it.

        ENOENT, EROFS or, for a directory above the roots, `virtual` when that is none.
        """
        found, rest = self._find(path)
        if isinstance(found, Root):
            return found, rest
        if making:
            self._root_to_change(path)
        raise error(errno.ENOENT if rest else virtual, path)

    def _root_to_change(self, path: str) -> Tuple[Root, str]:
        """Return the root of a name that shall come or go; EROFS when it is none of a root's."""
        found, rest = self._find(path)
        if isinstance(found, Root) and rest != "/":
            return found, rest
        labels = ", ".join(self._table.places)
        logger.warning(
            "refused to change %s: only in the roots can names be made, moved or removed (%s)",
            path,
            labels,
        )
        raise error(errno.EROFS, path)

    # The calls of a Root

    def stat(self, path: str) -> os.stat_result:
        """Return a file's attributes as the mount shows them."""
        found, rest = self._find(path)
        if isinstance(found, Root):
            return found.stat(rest)
        if rest:
            raise error(errno.ENOENT, path)
        return found.stat()

    def open(self, path: str, flags: int, mode: int = 0) -> int:
        """Open a file as open(2) does."""
        found, rest = self._find(path)
        if isinstance(found, Root):
            return found.open(rest, flags, mode)
        if flags & CHANGES:
            self._root_to_change(path)
        raise error(errno.ENOENT if rest else errno.EISDIR, path)

    def opendir(self, path: str) -> Union[RootDirectory, "VirtualListing"]:
        """Return an open directory."""
        found, rest = self._find(path)
        if isinstance(found, Root):
            return found.opendir(rest)
        if rest:
            raise error(errno.ENOENT, path)
        return VirtualListing(self, found)

    def hold(self, path: str) -> Held:
        """Return a path that keeps leading to the file that has this one now."""
        held = Held(path)
        held.descriptor = self.open(path, os.O_PATH)
        return held

    def access(self, path: str, mode: int) -> None:
        """Raise EACCES unless this process has these rights."""
        found, rest = self._find(path)
        if isinstance(found, Root):
            found.access(rest, mode)
        elif rest:
            raise error(errno.ENOENT, path)
        elif mode & os.W_OK:
            raise error(errno.EROFS, path)

    def statvfs(self, path: str) -> os.statvfs_result:
        """Return size and room of the filesystem that a file is on; of all roots' together above them."""
        found, rest = self._find(path)
        if isinstance(found, Root):
            return found.statvfs(rest)
        if rest:
            raise error(errno.ENOENT, path)
        by_device = {root.device: root for root in self.roots()}
        return _sum([root.statvfs("/") for root in by_device.values()])

    def sync(self) -> None:
        """Write all filesystems back."""
        for root in {root.device: root for root in self.roots()}.values():
            root.sync()

    def inside(self, target: str) -> Optional[str]:
        """Return the path on the mount of an absolute path below a root, None when it is below none."""
        for label, place in self._table.places.items():
            path = place.root.inside(target) if place.root is not None else None
            if path is not None:
                return f"/{label}{path}".rstrip("/")
        return None

    def parent(self, path: str, change: bool = False) -> Parent:
        """Return the directory and the name of a file to look at, or whose attributes to `change`."""
        root, rest = self._root_to_look(path, change, errno.EINVAL)
        return root.parent(rest, change)

    def reference(self, path: str, change: bool = False) -> Reference:
        """Return a path in /proc; ENODATA for a virtual directory, which has no extended attributes."""
        root, rest = self._root_to_look(path, change, errno.ENODATA)
        return root.reference(rest, change)

    def check(self, path: str, change: bool = False) -> None:
        """Raise ENOENT for what is not there; for a `change`, EROFS where there can be none."""
        root, rest = self._root_to_look(path, change, errno.EINVAL)
        root.check(rest, change)

    def _root_to_look(self, path: str, change: bool, number: int) -> Tuple[Root, str]:
        found, rest = self._find(path)
        if isinstance(found, Root):
            return found, rest
        if rest:
            raise error(errno.ENOENT, path)
        raise error(errno.EROFS if change else number, path)

    def old(self, path: str) -> Parent:
        """Return the directory and the name of a file that shall lose this name."""
        root, rest = self._root_to_change(path)
        return root.old(rest)

    def new(self, path: str, kind: int) -> Parent:
        """Return the directory and the name for a new file of a kind (S_IFMT)."""
        root, rest = self._root_to_change(path)
        return root.new(rest, kind)

    def common(self, old: str, new: str) -> Tuple[Root, str, str]:
        """Return the root that both names are in, and the paths in it; EXDEV between two.

        Two roots are as two filesystems.
        """
        end = old.find("/", 1)
        if end > 0 and new.startswith(old[: end + 1]):
            direct = self._table.direct.get(old[1:end])
            if direct is not None:
                return direct, _below(old, end), _below(new, end)
        root, old_rest = self._root_to_change(old)
        other, new_rest = self._root_to_change(new)
        if root is not other:
            raise error(errno.EXDEV, new)
        return root, old_rest, new_rest

    def shown_ids(self, device: int, number: int) -> List[FileId]:
        """Return what identifies a file of the filesystem `device` in each root that it may be in."""
        if device == _NO_DEVICE:
            return [(device, number)]
        return [found for root in self.roots() for found in root.shown_ids(device, number)]

    def roots(self) -> Iterator[Root]:
        """Yield the roots that are there."""
        for place in self._table.places.values():
            if place.root is not None:
                yield place.root


class VirtualListing:
    """An open virtual directory, with the entries that it had when it was opened."""

    def __init__(self, roots: Roots, directory: VirtualDirectory) -> None:
        self._roots = roots
        self._directory = directory
        self._path = directory.path.rstrip("/")
        self._own = virtual_number(directory.path)
        self._entries = [".", ".."]
        for name, child in directory.children.items():
            if isinstance(child, VirtualDirectory) or child.root or roots._appeared(child):
                self._entries.append(name)

    def entries(self, offset: int) -> Iterator[Dirent]:
        """Yield the entries from `offset` on; an entry's offset is the number of those up to it."""
        for position, name in enumerate(self._entries[offset:], offset + 1):
            try:
                number = self._own if name in (".", "..") else self.stat(name).st_ino
            except FileNotFoundError:
                continue  # it has just been removed
            yield Dirent(name, number, stat.S_IFDIR, position)

    def batches(self, offset: int) -> Iterator[List[Dirent]]:
        """Yield the same entries, all at a time."""
        yield list(self.entries(offset))

    def stat(self, name: str) -> os.stat_result:
        """Return an entry's attributes."""
        return self._roots.stat(f"{self._path}/{name}")

    def fstat(self) -> os.stat_result:
        """Return the directory's own attributes."""
        return self._directory.stat()

    def writable(self) -> int:
        """Raise EROFS."""
        raise error(errno.EROFS, self._directory.path)

    def hold(self, path: str) -> Held:
        """Raise ENOENT: there is no file to hold."""
        raise error(errno.ENOENT, path)

    def sync(self, datasync: bool) -> None:
        """Do nothing: there is nothing that could be lost."""

    def close(self) -> None:
        """Do nothing: it holds no descriptor."""


def _below(path: str, end: int) -> str:
    """Return the part of a path from `end` on, -1 for none, which is in a root; it means the same files."""
    if isinstance(path, Held):
        return path
    rest = path[end:] if end >= 0 else "/"
    return meant(rest, path.file, path.directory) if isinstance(path, Meant) else rest


def _is_taken(label: str, places: Dict[str, Place]) -> bool:
    """Tell whether a label lies inside another, or another in it."""
    return any(
        roots_file.is_inside(label, other) or roots_file.is_inside(other, label) for other in places
    )


def _refused(file: RootsFile, definition: RootDefinition, problem: OSError) -> MountError:
    return MountError(
        f"{file.name}:{definition.path_line}: {definition.path}: {problem.strerror}", EXIT_ROOT
    )


def _sum(parts: List[os.statvfs_result]) -> os.statvfs_result:
    def blocks(name: str) -> int:
        return int(sum(getattr(part, name) * part.f_frsize for part in parts) // _BLOCK)

    def count(name: str) -> int:
        return sum(getattr(part, name) for part in parts)

    sizes = [blocks(name) for name in ("f_blocks", "f_bfree", "f_bavail")]
    files = [count(name) for name in ("f_files", "f_ffree", "f_favail")]
    longest = min((part.f_namemax for part in parts), default=255)
    return os.statvfs_result((_BLOCK, _BLOCK, *sizes, *files, os.ST_RDONLY, longest))
