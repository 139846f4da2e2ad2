"""Plain paths to encrypted ones and back, in an encrypted tree or for the view of a plain one."""

import os
from typing import Iterable, Mapping

from fusepy_legacy.crypt import reverse
from fusepy_legacy.crypt.config import Config
from fusepy_legacy.crypt.errors import InvalidName, UnencryptableName
from fusepy_legacy.crypt.names import DETERMINISTIC_IV
from fusepy_legacy.errors import EXIT_USAGE
from fusepy_legacy.vault.report import Lost, VaultError, printable
from fusepy_legacy.vault.tree import Entry, Vault


class PlainTree(Vault):
    """The names that a plain directory has in its encrypted view; only for the two functions here."""

    def directory_iv(self, directory: Entry) -> bytes:
        """Return the IV that is derived from the directory's encrypted path."""
        if not self.config.directory_ivs:
            return DETERMINISTIC_IV
        return reverse.directory_iv(directory.stored)

    def _whole_name(self, directory: Entry, stored: bytes) -> bytes:
        """Find the name whose hash it is: there are no companions in a plain directory."""
        iv = self.directory_iv(directory)
        for name in self._plain_names(directory.path):
            whole = self.names.encrypt_name(name, iv)
            if self.names.stored_name(whole) == stored:
                return whole
        raise InvalidName("no file in the directory has a name with this hash")

    def _plain_names(self, path: bytes) -> Iterable[bytes]:
        """Return what is in a plain directory; raises OSError."""
        return self._listdir(Entry(path, path, self.root().status))


class PlainRoots(PlainTree):
    """The names that several directories have in their encrypted view, each below its label."""

    def __init__(self, roots: Mapping[str, str], config: Config, master_key: bytes) -> None:
        """`roots` are the directories' absolute paths by their labels."""
        super().__init__("/", config, master_key)
        self._roots = {os.fsencode(label): os.fsencode(path) for label, path in roots.items()}

    def place(self, path: bytes) -> bytes:
        """Return where a path of the view, decrypted, is; VaultError above the labels."""
        for label, root in self._roots.items():
            if f"{os.fsdecode(path)}/".startswith(f"{os.fsdecode(label)}/"):
                return os.path.join(root, path[len(label) + 1 :]).rstrip(b"/") or b"/"
        raise VaultError(f"{printable(path)}: it is in none of the roots", EXIT_USAGE)

    def _plain_names(self, path: bytes) -> Iterable[bytes]:
        try:
            return super()._plain_names(os.path.realpath(self.place(path))[1:])
        except VaultError:
            above = path + b"/" if path else b""
            return {
                label[len(above) :].split(b"/")[0]
                for label in self._roots
                if label.startswith(above)
            }


def encrypt_path(vault: Vault, path: bytes) -> bytes:
    """Return the encrypted path; its last name need not exist. Raises VaultError."""
    return _translate(vault, path, encrypt=True).stored


def decrypt_path(vault: Vault, stored: bytes) -> bytes:
    """Return the plain path; its last name need not exist. Raises VaultError."""
    return _translate(vault, stored, encrypt=False).path


def _translate(vault: Vault, path: bytes, encrypt: bool) -> Entry:
    entry = vault.root()
    for name in path.split(b"/") if path else ():
        try:
            if encrypt:
                plain, stored = name, vault.encrypt_name(entry, name)
            else:
                plain = vault.decrypt_name(entry, name, vault.directory_iv(entry))
                stored = name
        except (Lost, UnencryptableName) as error:
            raise VaultError(f"{printable(path)}: {printable(name)}: {error}")
        entry = Entry(
            os.path.join(entry.path, plain), os.path.join(entry.stored, stored), entry.status
        )
    return entry
