"""Restore: plain copies of an encrypted tree, or of some of it, with all that belongs to each file.

A file is written under a name of its own and gets its real one when it is complete, with its times. So
an object that has the right name, size and time is complete, and a restore that was interrupted goes on
where it was when it is run again. A directory that was made has a mode of its own until all that is in it
is there. Nothing is opened through a symlink beneath the destination, and an object's metadata is set
through a descriptor: whoever changes the destination meanwhile cannot lead a write out of it.
"""

import errno
import fcntl
import os
import stat
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import DefaultDict, Dict, List, Set, Tuple

from fusepy_legacy import syscalls
from fusepy_legacy.beneath import Beneath
from fusepy_legacy.crypt.names import PLAIN_ATTRIBUTES
from fusepy_legacy.errors import EXIT_ROOT, EXIT_USAGE
from fusepy_legacy.reading import read_fully
from fusepy_legacy.vault.parts import (
    DAMAGED_MODE,
    Place,
    is_part,
    kept_time,
    open_new,
    open_part,
    part_name,
    place_of,
    remove_part,
    remove_stale_parts,
    write_sparse,
)
from fusepy_legacy.vault.report import Lost, Progress, Report, VaultError
from fusepy_legacy.vault.tree import Entry, Vault

# At no time is more than this of an unfinished file not on the disk, so that what is before can be kept
# even after a power failure. Smaller files start anew.
CHECKPOINT = 64 << 20

# Of a directory that is not finished. The sticky bit does nothing where only the owner may write, so
# nobody else sets this, and a later run knows the directory for its own.
_UNFINISHED_MODE = 0o1700
_SET_ID = stat.S_ISUID | stat.S_ISGID
_PIECE = 1 << 20

# Of chown(2): for users, and for root without CAP_CHOWN or on a filesystem of another machine; for an owner
# that the user namespace does not have (user_namespaces(7)); and on filesystems without owners.
_NOT_TO_BE_GIVEN = (errno.EPERM, errno.EACCES, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS)


def check_destination(root: str, sources: List[Entry], destination: str) -> None:
    """Raise VaultError (1, 6) if two sources would hide each other, or lie among encrypted files."""
    names = [source.path.rpartition(b"/")[2] for source in sources]
    if len(set(names)) < len(names) or (b"" in names and len(names) > 1):
        raise VaultError("two sources would be restored to the same place", EXIT_USAGE)
    path = Path(os.path.realpath(destination))
    for place in (path, *path.parents):
        with suppress(OSError):  # it is not there yet
            if os.path.samefile(str(place), root):  # by another path, too: mount --bind
                raise VaultError(f"{destination}: it is in the encrypted tree", EXIT_ROOT)


class Restore:
    """A context manager: restores into `destination`, which is made if it does not exist.

    `force`: replace what is there already, also what looks complete. Raises VaultError (6; 11 while
    another restore writes there). Afterwards `restored` is the number of objects but directories, and
    `keeps_owners` False if owners were not allowed to be set.
    """

    def __init__(
        self,
        vault: Vault,
        destination: str,
        report: Report,
        progress: Progress,
        force: bool = False,
    ) -> None:
        self.vault = vault
        self.report = report
        self.progress = progress
        self.force = force
        self.restored = 0
        self.keeps_owners = True
        self._directories: List[Tuple[Entry, str]] = []  # to finish
        self._found: List[str] = []  # directories that were there, and may hold unfinished files
        # By directory, what only looks like a file that nobody needs: see remove_stale_parts.
        self._spared: DefaultDict[str, Set[str]] = defaultdict(set)
        self._tree = vault.root().status
        self._barred: Tuple[str, ...] = ()  # where the encrypted tree is in the destination
        self._links: Dict[Tuple[int, int], str] = {}
        self._damaged: Set[Tuple[int, int]] = set()
        try:
            try:
                os.mkdir(destination, _UNFINISHED_MODE)
            except FileExistsError:
                self._found.append("/")
            self._beneath = Beneath(destination)
            try:
                self._top = self._beneath.open("/", os.O_RDONLY | os.O_DIRECTORY)
            except BaseException:
                self._beneath.close()
                raise
        except OSError as error:
            raise VaultError(f"{destination}: {error.strerror}", EXIT_ROOT)
        try:
            # Two would take each other's unfinished files for stale ones.
            fcntl.flock(self._top, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.__exit__()
            raise VaultError(f"{destination}: another restore is writing there")
        except OSError:
            pass  # a filesystem that cannot lock a directory

    def __enter__(self) -> "Restore":
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self._top)
        self._beneath.close()

    def run(self, sources: List[Entry]) -> None:
        """Restore each source under its own name, the root as the destination itself."""
        marker = part_name()
        try:
            with suppress(OSError):  # where nothing may be made, or the disk is full
                os.close(open_new(marker, self._top))
            for source in sources:
                prefix = source.path.rpartition(b"/")[0]
                for entry in self.vault.walk(source, self.report):
                    if entry.is_directory and self._is_destination(entry, marker):
                        raise VaultError("the destination is in what is restored", EXIT_ROOT)
                    relative = entry.path[len(prefix) :] if prefix else b"/" + entry.path
                    self._try(entry, os.fsdecode(relative))
        finally:
            with suppress(OSError):
                os.unlink(marker, dir_fd=self._top)
        for path in self._found:
            self._remove_stale_parts(path)
        # Directories last, for what is made in them changes their times; those below first, for
        # their parents' modes may bar the way.
        for entry, path in reversed(self._directories):
            self._try(entry, path, finish=True)
        top = os.fstat(self._top)
        if all(source.path for source in sources) and _is_unfinished(top):  # none of the tree's
            os.fchmod(self._top, stat.S_IMODE(top.st_mode) & ~stat.S_ISVTX)
        syscalls.syncfs(self._top)

    def _is_destination(self, directory: Entry, marker: str) -> bool:
        """Whether a directory of the tree is the destination, which would go into itself without end.

        A mounted view of a directory above the destination has device and inode numbers of its own, so
        there only a file that is in the destination tells.
        """
        if os.path.samestat(directory.status, os.fstat(self._top)):
            return True
        with suppress(Lost, OSError):
            return self.vault.child(directory, os.fsencode(marker)) is not None
        return False

    def _try(self, entry: Entry, path: str, finish: bool = False) -> None:
        try:
            if f"{path}/".startswith(self._barred):
                raise _in_the_tree()
            if finish:
                with self._beneath.parent(path) as (directory, name):
                    self._set_metadata(entry, directory, name)
            elif entry.is_directory:
                self._make_directory(entry, path)
            else:
                self._restore(entry, path)
                self.restored += 1
        except Lost as error:
            self.report.damaged(entry.path, entry.stored, error)
        except FileExistsError:
            self.report.failed(entry.path, "it exists and differs (--force replaces it)")
        except OSError as error:
            self.report.failed(entry.path, f"not restored: {error.strerror}")

    def _make_directory(self, entry: Entry, path: str) -> None:
        with self._beneath.parent(path) as (directory, name):
            try:
                os.mkdir(name, _UNFINISHED_MODE, dir_fd=directory)
            except FileExistsError:
                existing = os.stat(name, dir_fd=directory, follow_symlinks=False)
                if stat.S_ISDIR(existing.st_mode):
                    self._find_directory(entry, path, existing)
                    return
                if not self.force:
                    raise
                os.unlink(name, dir_fd=directory)
                os.mkdir(name, _UNFINISHED_MODE, dir_fd=directory)
        self._directories.append((entry, path))

    def _find_directory(self, entry: Entry, path: str, existing: os.stat_result) -> None:
        """Take a directory that is there, and see whether its metadata is to be restored, too.

        Not if it is another than the tree's, by mode or owner: then it is the user's.
        """
        if os.path.samestat(existing, self._tree):
            self._barred += (f"{path}/",)
            raise _in_the_tree()
        if path != "/":
            self._found.append(path)
        if self.force or _is_unfinished(existing) or self._is_alike(entry, existing):
            self._directories.append((entry, path))
            if existing.st_uid == os.geteuid() and stat.S_IMODE(existing.st_mode) & 0o700 != 0o700:
                with self._beneath.reference(path) as reference:  # or nothing can be made in it
                    os.chmod(reference, _UNFINISHED_MODE)
        elif path != "/":
            why = "the directory was there with another mode or owner (--force replaces them)"
            self.report.failed(entry.path, why)

    def _is_alike(self, entry: Entry, existing: os.stat_result) -> bool:
        """Whether mode and owner are what they would be after a restore."""
        status = entry.status
        owners = (status.st_uid, status.st_gid) == (existing.st_uid, existing.st_gid)
        if os.geteuid() == 0 and (owners or self._can_give(status.st_uid, status.st_gid)):
            return owners and status.st_mode == existing.st_mode
        return status.st_mode & ~_SET_ID == existing.st_mode & ~_SET_ID

    def _can_give(self, user: int, group: int) -> bool:
        """Whether this user may make something somebody else's in the destination; True if unknown."""
        with suppress(OSError):  # a filesystem that has no files without a name
            descriptor = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o600, dir_fd=self._top)
            try:
                os.chown(descriptor, user, group)
            except OSError as error:
                return error.errno not in _NOT_TO_BE_GIVEN
            finally:
                os.close(descriptor)
        return True

    def _remove_stale_parts(self, path: str) -> None:
        try:
            descriptor = self._beneath.open(path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                remove_stale_parts(descriptor, self._spared[path.rstrip("/")])
            finally:
                os.close(descriptor)
        except OSError as error:
            why = f"unfinished files of an earlier run not removed: {error.strerror}"
            self.report.failed(os.fsencode(path[1:]), why)

    def _restore(self, entry: Entry, path: str) -> None:
        """Restore anything but a directory."""
        identity = entry.status.st_dev, entry.status.st_ino
        first = self._links.get(identity)
        with self._beneath.parent(path) as (directory, name):
            place = place_of(entry, directory, name)
            spared = self._spared[path.rpartition("/")[0]]
            if is_part(name):
                spared.add(name)
            replace = self.force
            alike = False
            try:
                existing = os.stat(name, dir_fd=directory, follow_symlinks=False)
            except FileNotFoundError:
                pass
            else:
                alike = self._is_complete(entry, place, existing)
                if first is not None:
                    restored = os.path.samestat(existing, self._beneath.stat(first))
                else:  # size and time do not tell of a file that has decayed
                    restored = alike and not self.force
                if restored:
                    self.progress.advance(self.vault.size(entry))
                    self._remember(entry, path)
                    return
                if first is not None and alike:
                    replace = replace or self._is_other_copy(entry, place, first)
                if not replace:
                    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            complete = True
            try:
                if first is not None:
                    self._link(first, place)
                    self.progress.advance(self.vault.size(entry))
                    if identity in self._damaged:
                        self.report.damaged(entry.path, entry.stored, "a link to a damaged file")
                else:
                    complete = self._create(entry, place)
                if complete or not alike:
                    _put_in_place(place, replace)
                else:
                    remove_part(place)
                    why = "not replaced: what is there has the same size and time, and may be whole"
                    self.report.damaged(entry.path, entry.stored, why)
            except BaseException as error:
                large = entry.kind == stat.S_IFREG and self.vault.size(entry) > CHECKPOINT
                if large and not isinstance(error, FileExistsError):
                    spared.add(place.part)
                else:
                    with suppress(OSError):
                        remove_part(place)
                raise
        self._remember(entry, path)

    def _remember(self, entry: Entry, path: str) -> None:
        """Take note of where an object is that has more names."""
        if entry.status.st_nlink > 1:
            self._links.setdefault((entry.status.st_dev, entry.status.st_ino), path)

    def _is_complete(self, entry: Entry, place: Place, existing: os.stat_result) -> bool:
        if stat.S_IFMT(existing.st_mode) != entry.kind:
            return False
        if entry.kind == stat.S_IFLNK:
            found = os.readlink(place.name, dir_fd=place.directory)
            return os.fsencode(found) == self.vault.target(entry)
        if entry.kind == stat.S_IFREG and existing.st_size != self.vault.size(entry):
            return False
        if entry.kind in (stat.S_IFCHR, stat.S_IFBLK) and existing.st_rdev != entry.status.st_rdev:
            return False
        time = entry.status.st_mtime_ns
        if existing.st_mtime_ns != time:
            with suppress(OSError):  # where nothing can be made, nothing was restored
                time = kept_time(place.directory, time)
        return existing.st_mtime_ns == time

    def _is_other_copy(self, entry: Entry, place: Place, first: str) -> bool:
        """Whether what an earlier run restored under this name is what this run has under another.

        Nothing is lost when such a copy becomes a link to the other.
        """
        return entry.kind != stat.S_IFREG or self._is_equal(first, place)

    def _is_equal(self, first: str, place: Place) -> bool:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        one = self._beneath.open(first, flags)
        try:
            other = os.open(place.name, flags, dir_fd=place.directory)
            try:
                offset, data = 0, b"anything"
                while data:
                    data = read_fully(one, _PIECE, offset)
                    if read_fully(other, _PIECE, offset) != data:
                        return False
                    offset += len(data)
                return True
            finally:
                os.close(other)
        finally:
            os.close(one)

    def _link(self, first: str, place: Place) -> None:
        remove_part(place)
        with self._beneath.parent(first) as (directory, name):
            os.link(
                name,
                place.part,
                src_dir_fd=directory,
                dst_dir_fd=place.directory,
                follow_symlinks=False,
            )

    def _create(self, entry: Entry, place: Place) -> bool:
        """Make an object under its unfinished name; return whether all of its content could be read."""
        complete = True
        if entry.kind == stat.S_IFREG:
            complete = self._write_file(entry, place)
        else:
            target = self.vault.target(entry) if entry.kind == stat.S_IFLNK else b""
            remove_part(place)
            if target:
                os.symlink(os.fsdecode(target), place.part, dir_fd=place.directory)
            else:
                mode, device = entry.kind | 0o600, entry.status.st_rdev
                os.mknod(place.part, mode, device, dir_fd=place.directory)
        # What the tree has lost some of keeps the time of now: no later run takes it for complete. What
        # the destination cannot have is no reason, for a later run can do no better.
        self._set_metadata(entry, place.directory, place.part, times=complete)
        return complete

    def _write_file(self, entry: Entry, place: Place) -> bool:
        """Write a file's content, with holes; return whether all of it could be read."""
        bad_blocks: List[int] = []
        with self.vault.open(entry) as source:
            descriptor, position = open_part(place, source.size, CHECKPOINT)

            def bad(block: int, problem: str) -> None:
                bad_blocks.append(block)
                os.fchmod(descriptor, DAMAGED_MODE)
                self.report.damaged(entry.path, entry.stored, f"{problem}; now zeros", block)

            try:
                os.ftruncate(descriptor, position)
                self.progress.advance(position)
                synced = done = position
                for offset, data in source.pieces(position, source.size, bad):
                    if offset + len(data) > synced + CHECKPOINT:
                        os.fdatasync(descriptor)
                        synced = offset
                    write_sparse(descriptor, data, offset)
                    self.progress.advance(offset + len(data) - done)
                    done = offset + len(data)
                os.ftruncate(descriptor, source.size)
                self.progress.advance(source.size - done)
            finally:
                os.close(descriptor)
        if bad_blocks:
            self._damaged.add((entry.status.st_dev, entry.status.st_ino))
        return not bad_blocks

    def _set_metadata(self, entry: Entry, directory: int, name: str, times: bool = True) -> None:
        """Set owner, attributes, mode and times, in the order in which none undoes another."""
        status = entry.status
        mode = stat.S_IMODE(status.st_mode)
        descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        try:
            path = f"/proc/self/fd/{descriptor}"  # not followed further if it is a symlink
            if not entry.is_directory or self.force or _is_unfinished(os.fstat(descriptor)):
                _remove_acls(path)
            try:
                os.chown(path, status.st_uid, status.st_gid)
            except OSError as error:
                if error.errno not in _NOT_TO_BE_GIVEN:
                    raise
                self.keeps_owners = False
                mode &= ~_SET_ID  # they would be another user's
            problems = self.report.count
            attributes = self.vault.attributes(entry, self.report)
            whole = self.report.count == problems
            for attribute, value in attributes.items():
                try:
                    os.setxattr(path, attribute, value)
                except OSError as error:
                    why = f"attribute {os.fsdecode(attribute)!a} not restored: {error.strerror}"
                    self.report.failed(entry.path, why)
            if not stat.S_ISLNK(status.st_mode):
                os.chmod(path, mode)
            if times and whole:
                os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        finally:
            os.close(descriptor)


def _in_the_tree() -> OSError:
    return OSError(errno.EPERM, "its place is in the encrypted tree")


def _remove_acls(path: str) -> None:
    """Remove the ACLs that a new object has from its directory's default (acl(5)).

    With those, chmod(2) would let others in whom the tree does not: it sets the mask, not the group.
    """
    try:
        names = PLAIN_ATTRIBUTES.intersection(map(os.fsencode, os.listxattr(path)))
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        return
    for name in names:
        os.removexattr(path, name)


def _put_in_place(place: Place, replace: bool) -> None:
    """Give a complete object its name."""
    directory = place.directory
    if not replace:
        try:
            syscalls.renameat2(
                directory, place.part, directory, place.name, syscalls.RENAME_NOREPLACE
            )
            return
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOSYS):
                raise
            # A filesystem that cannot do it: nothing had the name a moment ago.
    os.rename(place.part, place.name, src_dir_fd=directory, dst_dir_fd=directory)


def _is_unfinished(status: os.stat_result) -> bool:
    """Whether a directory is one that a run has made and not finished.

    In a directory with the setgid bit it has got that, too (mkdir(2)).
    """
    mode = stat.S_IMODE(status.st_mode) & ~stat.S_ISGID
    return mode == _UNFINISHED_MODE and status.st_uid == os.geteuid()
