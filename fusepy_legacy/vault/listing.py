"""Listing: what is in an encrypted tree, in lines for people and in members for programs."""

import os
import stat
import time
from typing import Any, Dict, Iterator

from fusepy_legacy.vault.report import Lost, Report, VaultError
from fusepy_legacy.vault.tree import Entry, Vault

TYPES = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
}


class Listing:
    """An iterator over the entries of a directory, of all below it too if `recursive`; of a file, itself.

    What is damaged is in `report`, and what can be told of it in the listing.
    """

    def __init__(self, vault: Vault, top: Entry, recursive: bool, report: Report) -> None:
        self._vault = vault
        self._top = top
        self._recursive = recursive
        self._report = report
        parent = top.path if top.is_directory else top.path.rpartition(b"/")[0]
        self._prefix = len(parent) + 1 if parent else 0

    def __iter__(self) -> Iterator[Entry]:
        if not self._top.is_directory:
            yield self._top
        elif not self._recursive:
            yield from self._vault.list(self._top, self._report)
        else:
            entries = self._vault.walk(self._top, self._report)
            next(entries)  # itself
            yield from entries

    def line(self, entry: Entry, with_metadata: bool = False) -> bytes:
        """Return a line: the name, relative to the directory that is listed, and what ls -l shows.

        Owners are numbers: their names are those of the machine that the files came from.
        """
        name = entry.path[self._prefix :]
        if not with_metadata:
            return name
        status = entry.status
        mode, size = stat.filemode(status.st_mode), self._vault.size(entry)
        owner = f"{status.st_nlink:3} {status.st_uid:5} {status.st_gid:5}"
        target = self._target(entry)
        line = f"{mode} {owner} {size:12} {_date(status):16} ".encode() + name
        return line + b" -> " + target if target else line

    def members(self, entry: Entry) -> Dict[str, Any]:
        """Return what JSON shows; names that are not UTF-8 have lone surrogates (PEP 383)."""
        status = entry.status
        members = {
            "path": os.fsdecode(entry.path),
            "encrypted": os.fsdecode(entry.stored),
            "type": TYPES[entry.kind],
            "size": self._vault.size(entry),
            "mode": f"{stat.S_IMODE(status.st_mode):04o}",
            "uid": status.st_uid,
            "gid": status.st_gid,
            "mtime_ns": status.st_mtime_ns,
            "links": status.st_nlink,
        }
        target = self._target(entry)
        return {**members, "target": os.fsdecode(target)} if target else members

    def _target(self, entry: Entry) -> bytes:
        if entry.kind == stat.S_IFLNK:
            try:
                return self._vault.target(entry)
            except Lost as error:
                self._report.damaged(entry.path, entry.stored, error)
            except VaultError as error:  # no cipher
                self._report.failed(entry.path, str(error))
        return b""


def _date(status: os.stat_result) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(status.st_mtime))
    except (OverflowError, ValueError, OSError):
        return f"@{status.st_mtime_ns // 10**9}"
