"""Verify: whether everything in an encrypted tree authenticates, and equals a plain directory."""

import errno
import os
import stat
from typing import Dict, Optional

from fusepy_legacy.crypt.config import REVERSE_CONFIG_FILE
from fusepy_legacy.crypt.content import BLOCK_SIZE
from fusepy_legacy.crypt.errors import UnencryptableName
from fusepy_legacy.reading import read_fully
from fusepy_legacy.vault.files import EncryptedFile
from fusepy_legacy.vault.plain import Plain
from fusepy_legacy.vault.report import Lost, Progress, Report
from fusepy_legacy.vault.tree import Entry, Vault

_PIECE = 1 << 20
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EXDEV)  # or a symlink is on the way


class Verification:
    """What was verified: counts of files (anything but directories), directories and bytes.

    `holes` are those of the bytes that are in no block, so that nothing authenticates them.
    """

    def __init__(
        self, vault: Vault, report: Report, progress: Progress, against: Optional[Plain] = None
    ) -> None:
        """`against` is the plain directory that the tree's root is to be equal to."""
        self.vault = vault
        self.report = report
        self.progress = progress
        self.against = against
        self.files = self.directories = self.bytes = self.holes = 0

    def counts(self) -> Dict[str, int]:
        """Return what was verified, in members for programs."""
        names = ("files", "directories", "bytes", "holes")
        return {name: getattr(self, name) for name in names}

    def run(self, top: Entry) -> None:
        """Verify an entry and all below it."""
        for entry in self.vault.walk(top, self.report):
            plain = self._counterpart(entry)
            attributes = self.vault.attributes(entry, self.report)
            if entry.is_directory:
                self.directories += 1
            else:
                self.files += 1
            try:
                if entry.kind == stat.S_IFREG:
                    with self.vault.open(entry) as file:
                        self._read(entry, file, plain)
                elif entry.kind == stat.S_IFLNK:
                    self._compare_target(entry, self.vault.target(entry), plain)
            except Lost as error:
                self.report.damaged(entry.path, entry.stored, error)
            if plain is not None:
                self._compare_metadata(entry, plain, attributes)
                if entry.is_directory:
                    self._find_missing(entry)

    def _read(self, entry: Entry, file: EncryptedFile, plain: Optional[os.stat_result]) -> None:
        self.bytes += file.size
        if plain is not None and plain.st_size != file.size:
            self._differs(entry, f"{file.size} bytes, not {plain.st_size}")
            plain = None
        descriptor = -1
        if plain is not None and self.against is not None:
            try:
                descriptor = self.against.open(entry.path)
            except OSError as error:
                self._not_compared(entry, "the plain file", error)
        read = bad_bytes = 0

        def bad(block: int, problem: str) -> None:
            nonlocal bad_bytes
            bad_bytes += min(BLOCK_SIZE, file.size - block * BLOCK_SIZE)
            self.report.damaged(entry.path, entry.stored, problem, block)

        try:
            position, equal = 0, True
            for offset, data in file.pieces(0, file.size, bad):
                if descriptor >= 0 and equal:
                    # With a bad block, what was skipped may be that instead of a hole.
                    equal = bad_bytes > 0 or _is_zero(descriptor, position, offset)
                    equal = equal and read_fully(descriptor, len(data), offset) == data
                self.progress.advance(offset + len(data) - position)
                position = offset + len(data)
                read += len(data)
            if descriptor >= 0 and equal and not bad_bytes:
                equal = _is_zero(descriptor, position, file.size)
            self.holes += file.size - read - bad_bytes
            if not equal:
                self._differs(entry, "other content")
            self.progress.advance(file.size - position)
        except OSError as error:
            self._not_compared(entry, "the plain file", error)
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def _counterpart(self, entry: Entry) -> Optional[os.stat_result]:
        """Return the plain file's status, None where there is none to compare with."""
        if self.against is None:
            return None
        try:
            plain = self.against.status(entry.path)
        except OSError as error:
            self._not_compared(entry, "the plain file", error)
            return None
        devices = entry.kind in (stat.S_IFCHR, stat.S_IFBLK)
        if stat.S_IFMT(plain.st_mode) != entry.kind or (
            devices and plain.st_rdev != entry.status.st_rdev
        ):
            self._differs(entry, "another type of file")
            return None
        return plain

    def _compare_target(self, entry: Entry, target: bytes, plain: Optional[os.stat_result]) -> None:
        if plain is not None and self.against is not None:
            try:
                if target != self.against.target(entry.path):
                    self._differs(entry, "another target")
            except OSError as error:
                self._not_compared(entry, "the plain link", error)

    def _compare_metadata(
        self, entry: Entry, plain: os.stat_result, attributes: Dict[bytes, bytes]
    ) -> None:
        assert self.against is not None
        if self.against.metadata:
            try:
                for how in self.against.metadata_differences(entry, plain, attributes):
                    self._differs(entry, how)
            except OSError as error:
                self._not_compared(entry, "the plain file's attributes", error)

    def _find_missing(self, entry: Entry) -> None:
        """Report what the plain directory has and the encrypted one has not: nothing else shows it."""
        assert self.against is not None
        try:
            for name in self.against.names(entry.path):
                if not entry.path and name == REVERSE_CONFIG_FILE:
                    continue
                if self.vault.child(entry, name) is None:
                    path = os.path.join(entry.path, name)
                    why = "it is missing in the encrypted tree"
                    try:
                        stored = os.path.join(entry.stored, self.vault.encrypt_name(entry, name))
                    except UnencryptableName as error:
                        stored, why = entry.stored, f"{why}: {error}"
                    self.report.damaged(path, stored, why)
        except Lost as error:
            self.report.damaged(entry.path, entry.stored, error)
        except OSError as error:
            self._not_compared(entry, "the plain directory", error)

    def _not_compared(self, entry: Entry, what: str, error: OSError) -> None:
        """Report what could not be compared, which is a difference only where there is nothing."""
        if error.errno in _NOT_THERE:
            self._differs(entry, f"{what}: {error.strerror}")
        else:
            self.report.failed(entry.path, f"not compared: {what}: {error.strerror}")

    def _differs(self, entry: Entry, how: str) -> None:
        self.report.damaged(entry.path, entry.stored, f"it differs: {how}")


def _is_zero(descriptor: int, start: int, end: int) -> bool:
    """Tell whether a range of a plain file is zeros, without reading its holes."""
    while start < end:
        try:
            start = os.lseek(descriptor, start, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:  # a hole up to the end (lseek(2))
                raise
            return True
        data = read_fully(descriptor, max(min(end - start, _PIECE), 0), start)
        if data.count(0) != len(data):
            return False
        start += max(len(data), 1)
    return True
