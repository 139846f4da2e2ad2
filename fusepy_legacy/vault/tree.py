"""An encrypted tree by its plain names.

Everything in it is opened beneath its root, and no symlink is followed: the tree may be an enemy's.
"""

import errno
import os
import stat
from contextlib import suppress
from typing import Dict, Iterator, List, NamedTuple, Optional, Set

from fusepy_legacy.beneath import Beneath
from fusepy_legacy.crypt.config import Config
from fusepy_legacy.crypt.content import ContentCipher
from fusepy_legacy.crypt.errors import CipherUnavailable, UnencryptableName
from fusepy_legacy.crypt.internal import is_internal
from fusepy_legacy.crypt.metadata import decrypt_attribute, decrypt_target
from fusepy_legacy.crypt.names import (
    ATTRIBUTE_PREFIX,
    COMPANION_SUFFIX,
    DETERMINISTIC_IV,
    DIRECTORY_IV_FILE,
    PLAIN_ATTRIBUTES,
    check_directory_iv,
    is_companion,
    is_long_name,
    is_valid_name,
)
from fusepy_legacy.reading import check_regular
from fusepy_legacy.vault.files import EncryptedFile
from fusepy_legacy.vault.report import Lost, Report, VaultError, code_of, printable, reading

_SMALL_FILE_MAX = 4096  # a directory IV has 16 bytes, a companion at most 344


class Entry(NamedTuple):
    """Something in the tree: its plain and its encrypted path from the root, b"" for the root.

    Where a name is lost, the encrypted one takes its place. `status` is the encrypted object's.
    """

    path: bytes
    stored: bytes
    status: os.stat_result

    @property
    def kind(self) -> int:
        """The type, one of stat.S_IF…"""
        return stat.S_IFMT(self.status.st_mode)

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self.status.st_mode)


class Vault:
    """A context manager: an encrypted tree with its keys. OSError if `root` cannot be opened."""

    def __init__(self, root: str, config: Config, master_key: bytes) -> None:
        self.config = config
        self.names = config.name_cipher(master_key)
        self._content: Optional[ContentCipher] = None
        try:
            self._content = config.content_cipher(master_key)
        except CipherUnavailable as error:  # names and sizes do not need it
            self._why_no_content = str(error)
        self._beneath = Beneath(root)

    def __enter__(self) -> "Vault":
        return self

    def __exit__(self, *exception: object) -> None:
        self._beneath.close()

    @property
    def content(self) -> ContentCipher:
        """The cipher for content; VaultError where no installed library has it."""
        if self._content is None:
            raise VaultError(self._why_no_content)
        return self._content

    def root(self) -> Entry:
        """Return the root."""
        return Entry(b"", b"", self._beneath.stat("/"))

    def resolve(self, path: bytes) -> Entry:
        """Return what a plain path leads to, relative to the root; VaultError for nothing.

        Where no plain name fits, an encrypted one does: names can be lost, what they name not.
        """
        entry = self.root()
        for name in path.split(b"/") if path else ():
            found, problem = None, VaultError("there is no such file in the tree")
            if entry.is_directory and is_valid_name(name):
                try:
                    found = self.child(entry, name)
                except Lost as error:
                    problem = VaultError(str(error), code_of(error))
                if found is None and not self._is_internal(entry, name):
                    found = self._entry(entry, name, name)
            if found is None:
                raise VaultError(f"{printable(path)}: {problem}", problem.exit_code)
            entry = found
        return entry

    def child(self, directory: Entry, name: bytes) -> Optional[Entry]:
        """Return what has a plain name in a directory, None for nothing.

        Raises `Lost` when the directory's names are, and OSError.
        """
        try:
            stored = self.encrypt_name(directory, name)
        except UnencryptableName:
            return None
        if self._is_internal(directory, stored):
            return None
        return self._entry(directory, name, stored)

    def list(self, directory: Entry, report: Report) -> List[Entry]:
        """Return what is in a directory, by name; what has lost its name under its encrypted one."""
        entries: List[Entry] = []
        try:
            with reading():
                listed = self._listdir(directory)
        except Lost as error:
            report.damaged(directory.path, directory.stored, error)
            return entries
        iv = DETERMINISTIC_IV
        problem: Optional[Lost] = None
        try:
            iv = self.directory_iv(directory)
        except Lost as error:
            problem = error
        for stored in sorted(listed):
            if is_companion(stored) and not self.config.plaintext_names:
                owner = stored[: -len(COMPANION_SUFFIX)]
                if owner not in listed:
                    self._report_left_over(directory, owner, iv, report)
                continue
            if self._is_internal(directory, stored):
                continue
            name, whole = stored, _join(directory.stored, stored)
            try:
                if problem is not None:
                    raise Lost(str(problem)) from problem.__cause__
                name = self.decrypt_name(directory, stored, iv)
            except Lost as error:
                path = _join(directory.path, name)
                report.damaged(path, whole, f"its name is lost: {error}", error=error)
            try:
                with reading():
                    entry = self._entry(directory, name, stored)
                if entry is None:
                    raise Lost("it is gone")
                entries.append(entry)
            except Lost as error:
                report.damaged(_join(directory.path, name), whole, error)
        if problem is not None and not entries:  # else each entry has told
            report.damaged(directory.path, directory.stored, problem)
        return self._one_of_each_name(entries, iv, report)

    def _one_of_each_name(self, entries: List[Entry], iv: bytes, report: Report) -> List[Entry]:
        """Sort entries of a directory by name; of several with one name, only what `child` finds is left.

        Whoever can write to the tree can give a file a second encrypted name for a plain one, or that as it
        is, which is then taken for a name that is lost.
        """
        found: Dict[bytes, Entry] = {}
        for entry in entries:
            other = found.get(entry.path)
            if other is not None:
                encrypted = self.names.encrypt_name(os.path.basename(entry.path), iv)
                if os.path.basename(entry.stored) != self.names.stored_name(encrypted):
                    entry, other = other, entry
                report.damaged(other.path, other.stored, "left out: another file has this name")
            found[entry.path] = entry
        return [found[path] for path in sorted(found)]

    def _report_left_over(self, directory: Entry, stored: bytes, iv: bytes, report: Report) -> None:
        name = stored
        with suppress(Lost):
            name = self.decrypt_name(directory, stored, iv)
        report.left_over(_join(directory.path, name), _join(directory.stored, stored))

    def walk(self, top: Entry, report: Report) -> Iterator[Entry]:
        """Yield an entry and all below it; a directory comes before what is in it."""
        ahead = [top]
        while ahead:
            entry = ahead.pop()
            yield entry
            if entry.is_directory:
                ahead += reversed(self.list(entry, report))

    def open(self, entry: Entry) -> EncryptedFile:
        """Open a regular file; raises `Lost`."""
        cipher = self.content
        with reading():
            # It may have become a FIFO meanwhile, whose open waits without O_NONBLOCK.
            descriptor = self._beneath.open(_path(entry), os.O_RDONLY | os.O_NONBLOCK)
            return EncryptedFile(cipher, descriptor)

    def size(self, entry: Entry) -> int:
        """Return the size of an entry's plaintext, 0 for what has none; no key is needed."""
        if entry.kind != stat.S_IFREG:
            return 0
        return self.config.layout.plaintext_size(entry.status.st_size)

    def target(self, entry: Entry) -> bytes:
        """Return where a symlink points to; raises `Lost`."""
        with reading():
            with self._beneath.parent(_path(entry)) as (directory, name):
                target = os.fsencode(os.readlink(name, dir_fd=directory))
            if self.config.plaintext_names:
                return target
            target = decrypt_target(self.content, self.names, target)
        if not target or b"\0" in target:
            raise Lost("the target is not one that a symlink can have")
        return target

    def attributes(self, entry: Entry, report: Report) -> Dict[bytes, bytes]:
        """Return the extended attributes; one that is not readable is reported and left out."""
        attributes: Dict[bytes, bytes] = {}
        try:
            with reading(), self._beneath.reference(_path(entry)) as path:
                listed = os.listxattr(path)
                for stored in map(os.fsencode, listed):
                    try:
                        with reading():
                            self._add_attribute(attributes, path, stored)
                    except Lost as error:
                        why = f"the attribute {printable(stored)}: {error}"
                        report.damaged(entry.path, entry.stored, why, error=error)
        except Lost as error:
            cause = error.__cause__
            if not (isinstance(cause, OSError) and cause.errno == errno.EOPNOTSUPP):
                report.damaged(entry.path, entry.stored, f"the attributes: {error}", error=error)
        return attributes

    def _add_attribute(self, attributes: Dict[bytes, bytes], path: str, stored: bytes) -> None:
        if stored in PLAIN_ATTRIBUTES:
            attributes[stored] = os.getxattr(path, stored)
        elif stored.startswith(ATTRIBUTE_PREFIX):
            name = self.names.decrypt_attribute_name(stored)
            value = os.getxattr(path, stored)
            attributes[name] = decrypt_attribute(self.content, self.names, value)

    def total(self, top: Entry) -> int:
        """Return how many bytes of plaintext an entry and all below it have, by their sizes only."""
        total, ahead = self.size(top), [top] if top.is_directory else []
        while ahead:
            directory = ahead.pop()
            names: Set[bytes] = set()
            with suppress(OSError):  # whoever lists it later says so
                names = self._listdir(directory)
            for name in names:
                with suppress(OSError):
                    entry = self._entry(directory, b"", name)
                    if entry is not None and not self._is_internal(directory, name):
                        total += self.size(entry)
                        ahead += [entry] if entry.is_directory else []
        return total

    # Names

    def directory_iv(self, directory: Entry) -> bytes:
        """Return the IV of the names in a directory; raises `Lost`."""
        if not self.config.directory_ivs:
            return DETERMINISTIC_IV
        try:
            with reading():
                return check_directory_iv(self._small_file(directory, DIRECTORY_IV_FILE))
        except Lost as error:
            raise Lost(f"{os.fsdecode(DIRECTORY_IV_FILE)}: {error}") from error.__cause__

    def encrypt_name(self, directory: Entry, name: bytes) -> bytes:
        """Return what a plain name is called on the disk; raises `Lost` and `UnencryptableName`."""
        if not is_valid_name(name):
            raise UnencryptableName("not a name of 1 to 255 bytes without NUL and slash")
        if self.config.plaintext_names:
            return name
        return self.names.stored_name(self.names.encrypt_name(name, self.directory_iv(directory)))

    def decrypt_name(self, directory: Entry, stored: bytes, iv: bytes) -> bytes:
        """Return the plain name of what is called `stored` on the disk; raises `Lost`."""
        if self.config.plaintext_names:
            return stored
        with reading():
            text = self._whole_name(directory, stored) if is_long_name(stored) else stored
            return self.names.decrypt_name(text, iv)

    def _whole_name(self, directory: Entry, stored: bytes) -> bytes:
        companion = self._small_file(directory, stored + COMPANION_SUFFIX)
        return self.names.open_companion(stored, companion)

    def _is_internal(self, directory: Entry, stored: bytes) -> bool:
        """Whether a file in the tree is not part of what was encrypted."""
        top = not directory.stored
        return is_internal(os.fsdecode(stored), top, self.config.plaintext_names)

    def _entry(self, directory: Entry, name: bytes, stored: bytes) -> Optional[Entry]:
        path = _join(directory.stored, stored)
        try:
            status = self._beneath.stat("/" + os.fsdecode(path))
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
                raise
            return None
        return Entry(_join(directory.path, name), path, status)

    def _listdir(self, directory: Entry) -> Set[bytes]:
        descriptor = self._beneath.open(_path(directory), os.O_RDONLY | os.O_DIRECTORY)
        try:
            return {os.fsencode(name) for name in os.listdir(descriptor)}
        finally:
            os.close(descriptor)

    def _small_file(self, directory: Entry, name: bytes) -> bytes:
        path = os.fsdecode(b"/" + _join(directory.stored, name))
        check_regular(self._beneath.stat(path), path)
        descriptor = self._beneath.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            return os.read(descriptor, _SMALL_FILE_MAX)
        finally:
            os.close(descriptor)


def _path(entry: Entry) -> str:
    return "/" + os.fsdecode(entry.stored)


def _join(directory: bytes, name: bytes) -> bytes:
    return directory + b"/" + name if directory else name
