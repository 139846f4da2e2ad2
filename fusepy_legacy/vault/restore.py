"""Restore: plain copies of an encrypted tree, or of some of it, with all that belongs to each file.

A file is written under a name of its own and gets its real one when it is complete, with its times. So
an object that has the right name, size and time is complete, and a restore that was interrupted goes on
where it was when it is run again. Nothing is opened through a symlink beneath the destination, and an
object's metadata is set through a descriptor: whoever changes the destination meanwhile cannot lead a
write out of it.
"""

import errno
import hashlib
import itertools
import os
import stat
from contextlib import suppress
from typing import Dict, List, NamedTuple, Optional, Set, Tuple

from fusepy_legacy import syscalls
from fusepy_legacy.beneath import Beneath
from fusepy_legacy.crypt.content import BLOCK_SIZE
from fusepy_legacy.errors import EXIT_ROOT
from fusepy_legacy.vault.report import Lost, Progress, Report, VaultError
from fusepy_legacy.vault.tree import Entry, Vault

# At no time is more than this of an unfinished file not on the disk, so that what is before can be kept
# even after a power failure. Smaller files start anew.
CHECKPOINT = 64 << 20

_ZEROS = bytes(BLOCK_SIZE)
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_RESUMABLE_MODE = 0o600
_DAMAGED_MODE = 0o700  # of an unfinished file that has lost a block: starting anew reports it again


class Place(NamedTuple):
    """Where an object goes: its directory's descriptor, its name, and its name until it is complete."""

    directory: int
    name: str
    part: str


class Restore:
    """A context manager: restores into `destination`, which is made if it does not exist.

    `force`: replace what is there already and differs. Raises VaultError (6). Afterwards `restored` is
    the number of objects but directories, and `keeps_owners` False if owners were not allowed to be set.
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
        self._made_destination = False
        self._directories: List[Tuple[Entry, str]] = []
        self._links: Dict[Tuple[int, int], str] = {}
        self._damaged: Set[Tuple[int, int]] = set()
        try:
            with suppress(FileExistsError):
                os.mkdir(destination, 0o700)
                self._made_destination = True
            self._beneath = Beneath(destination)
        except OSError as error:
            raise VaultError(f"{destination}: {error.strerror}", EXIT_ROOT)

    def __enter__(self) -> "Restore":
        return self

    def __exit__(self, *exception: object) -> None:
        self._beneath.close()

    def run(self, sources: List[Entry]) -> None:
        """Restore each source under its own name, the root as the destination itself."""
        for source in sources:
            prefix = source.path.rpartition(b"/")[0]
            for entry in self.vault.walk(source, self.report):
                relative = entry.path[len(prefix) :] if prefix else b"/" + entry.path
                self._try(entry, os.fsdecode(relative))
        for entry, path in self._directories:  # last, for what is made in them changes their times
            self._try(entry, path, finish=True)
        descriptor = self._beneath.open("/", os.O_RDONLY | os.O_DIRECTORY)
        try:
            syscalls.syncfs(descriptor)
        finally:
            os.close(descriptor)

    def _try(self, entry: Entry, path: str, finish: bool = False) -> None:
        try:
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
                os.mkdir(name, 0o700, dir_fd=directory)
            except FileExistsError:
                existing = os.stat(name, dir_fd=directory, follow_symlinks=False)
                if not stat.S_ISDIR(existing.st_mode):
                    if not self.force:
                        raise
                    os.unlink(name, dir_fd=directory)
                    os.mkdir(name, 0o700, dir_fd=directory)
        if path != "/" or self._made_destination or self.force:
            self._directories.append((entry, path))

    def _restore(self, entry: Entry, path: str) -> None:
        """Restore anything but a directory."""
        status = entry.status
        identity = status.st_dev, status.st_ino
        first = self._links.get(identity)
        with self._beneath.parent(path) as (directory, name):
            key = b"%s\0%d\0%d" % (entry.stored, status.st_size, status.st_mtime_ns)
            part = f".fusepy-vault.{hashlib.sha256(key).hexdigest()[:16]}.part"
            place = Place(directory, name, part)
            try:
                existing = os.stat(name, dir_fd=directory, follow_symlinks=False)
                if self._is_restored(entry, place, existing, first):
                    self.progress.advance(self.vault.size(entry))
                    self._remember(entry, path)
                    return
                if not self.force:
                    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            except FileNotFoundError:
                pass
            try:
                if first is not None:
                    self._link(first, place)
                    self.progress.advance(self.vault.size(entry))
                    if identity in self._damaged:
                        self.report.damaged(entry.path, entry.stored, "a link to a damaged file")
                else:
                    self._create(entry, place)
                self._put_in_place(place)
            except BaseException:
                if entry.kind != stat.S_IFREG or self.vault.size(entry) <= CHECKPOINT:
                    with suppress(OSError):
                        os.unlink(part, dir_fd=directory)
                raise
        self._remember(entry, path)

    def _remember(self, entry: Entry, path: str) -> None:
        """Take note of where an object is that has more names."""
        if entry.status.st_nlink > 1:
            self._links.setdefault((entry.status.st_dev, entry.status.st_ino), path)

    def _is_restored(
        self, entry: Entry, place: Place, existing: os.stat_result, first: Optional[str]
    ) -> bool:
        """Tell whether what has the name is what would be restored."""
        if stat.S_IFMT(existing.st_mode) != entry.kind:
            return False
        if first is not None:
            return os.path.samestat(existing, self._beneath.stat(first))
        if entry.kind == stat.S_IFLNK:
            found = os.readlink(place.name, dir_fd=place.directory)
            return os.fsencode(found) == self.vault.target(entry)
        if entry.kind == stat.S_IFREG and existing.st_size != self.vault.size(entry):
            return False
        if entry.kind in (stat.S_IFCHR, stat.S_IFBLK) and existing.st_rdev != entry.status.st_rdev:
            return False
        return existing.st_mtime_ns == entry.status.st_mtime_ns

    def _link(self, first: str, place: Place) -> None:
        with suppress(FileNotFoundError):
            os.unlink(place.part, dir_fd=place.directory)
        with self._beneath.parent(first) as (directory, name):
            os.link(
                name,
                place.part,
                src_dir_fd=directory,
                dst_dir_fd=place.directory,
                follow_symlinks=False,
            )

    def _create(self, entry: Entry, place: Place) -> None:
        complete = True
        if entry.kind == stat.S_IFREG:
            complete = self._write_file(entry, place)
        else:
            target = self.vault.target(entry) if entry.kind == stat.S_IFLNK else b""
            with suppress(FileNotFoundError):
                os.unlink(place.part, dir_fd=place.directory)
            if target:
                os.symlink(os.fsdecode(target), place.part, dir_fd=place.directory)
            else:
                mode, device = entry.kind | 0o600, entry.status.st_rdev
                os.mknod(place.part, mode, device, dir_fd=place.directory)
        # What lacks something keeps the time of now, so that no later run takes it for complete.
        self._set_metadata(entry, place.directory, place.part, times=complete)

    def _write_file(self, entry: Entry, place: Place) -> bool:
        """Write a file's content, with holes; return whether all of it could be read."""
        bad_blocks: List[int] = []
        with self.vault.open(entry) as source:
            descriptor, position = _open_part(place, source.size)

            def bad(block: int, problem: str) -> None:
                bad_blocks.append(block)
                os.fchmod(descriptor, _DAMAGED_MODE)
                self.report.damaged(entry.path, entry.stored, f"{problem}; now zeros", block)

            try:
                os.ftruncate(descriptor, position)
                self.progress.advance(position)
                synced = done = position
                for offset, data in source.pieces(position, source.size, bad):
                    if offset + len(data) > synced + CHECKPOINT:
                        os.fdatasync(descriptor)
                        synced = offset
                    _write_sparse(descriptor, data, offset)
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
            try:
                os.chown(path, status.st_uid, status.st_gid)
            except PermissionError:
                if os.geteuid() == 0:
                    raise
                self.keeps_owners = False
                mode &= ~(stat.S_ISUID | stat.S_ISGID)  # they would be another user's
            problems = self.report.count
            for attribute, value in self.vault.attributes(entry, self.report).items():
                try:
                    os.setxattr(path, attribute, value)
                except OSError as error:
                    why = f"attribute {os.fsdecode(attribute)!a} not restored: {error.strerror}"
                    self.report.failed(entry.path, why)
            if not stat.S_ISLNK(status.st_mode):
                os.chmod(path, mode)
            if times and self.report.count == problems:
                os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        finally:
            os.close(descriptor)

    def _put_in_place(self, place: Place) -> None:
        """Give a complete object its name."""
        directory = place.directory
        if self.force:
            os.rename(place.part, place.name, src_dir_fd=directory, dst_dir_fd=directory)
            return
        try:
            syscalls.renameat2(
                directory, place.part, directory, place.name, syscalls.RENAME_NOREPLACE
            )
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOSYS):
                raise
            # A filesystem that cannot do it: nothing had the name a moment ago.
            os.rename(place.part, place.name, src_dir_fd=directory, dst_dir_fd=directory)


def _open_part(place: Place, size: int) -> Tuple[int, int]:
    """Open the unfinished file, new or as an earlier run left it; return from where to go on."""
    if size > CHECKPOINT:
        with suppress(OSError):
            flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(place.part, flags, dir_fd=place.directory)
            status = os.fstat(descriptor)
            ours = status.st_uid == os.geteuid() and status.st_nlink == 1
            if ours and status.st_mode == stat.S_IFREG | _RESUMABLE_MODE:
                certain = min(status.st_size, size) - CHECKPOINT
                return descriptor, max(certain, 0) // BLOCK_SIZE * BLOCK_SIZE
            os.close(descriptor)
    with suppress(FileNotFoundError):
        os.unlink(place.part, dir_fd=place.directory)
    return os.open(place.part, _NEW, _RESUMABLE_MODE, dir_fd=place.directory), 0


def _write_sparse(descriptor: int, data: bytes, offset: int) -> None:
    """Write at an offset, leaving blocks of zeros out."""

    def is_zero(start: int) -> bool:
        block = data[start : start + BLOCK_SIZE]
        return block == _ZEROS[: len(block)]

    view = memoryview(data)
    for zero, starts in itertools.groupby(range(0, len(data), BLOCK_SIZE), is_zero):
        run = list(starts)
        position, end = run[0], min(run[-1] + BLOCK_SIZE, len(data))
        while not zero and position < end:
            position += os.pwrite(descriptor, view[position:end], offset + position)
