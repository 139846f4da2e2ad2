"""Encrypted trees, and their decrypted views: this package's and gocryptfs's."""

from pathlib import Path
from typing import ContextManager, FrozenSet, List, NamedTuple, Optional

from fusepy_legacy.crypt.config import (
    AESSIV_FLAG,
    DIRIV,
    FORWARD,
    FORWARD_PLAINTEXT_NAMES,
    GCMIV128,
    HKDF_FLAG,
    RAW64,
    REVERSE,
    XCHACHA_FLAG,
)
from fusepy_legacy.vault.config_file import initialize
from tests.mounted import gocryptfs
from tests.mounted.commands import output_of, run
from tests.mounted.encrypted_views import CRYPT, ENVIRONMENT
from tests.mounted.mounting import Mounted
from tests.vault_trees import COMMAND

PASSWORD = b"a password"


class Kind(NamedTuple):
    """The feature flags of a tree, and from how many bytes on its names are hashed."""

    flags: FrozenSet[str]
    long_name_max: int = 255


KINDS = {
    "gcm": Kind(FORWARD),
    "siv": Kind(REVERSE),
    "xchacha": Kind(FORWARD - {GCMIV128} | {XCHACHA_FLAG}),
    "deterministic": Kind(FORWARD - {DIRIV}),
    "padded": Kind(FORWARD - {RAW64}),
    "longnamemax": Kind(FORWARD, 62),
    "old": Kind(FORWARD - {HKDF_FLAG}),
    "plaintextnames": Kind(FORWARD_PLAINTEXT_NAMES),
    "siv-plaintextnames": Kind(FORWARD_PLAINTEXT_NAMES | {AESSIV_FLAG}),
}


class EncryptedTree(NamedTuple):
    """An encrypted tree, and the file with its password."""

    root: Path
    passfile: Path

    def shown(self, mountpoint: Path, *options: str, source: Optional[str] = None) -> Mounted:
        """Return a context manager: the decrypted view, mounted by fusepy-crypt."""
        mountpoint.mkdir(exist_ok=True)
        source = source or f"root={self.root}"
        words = ("forward", "allow_other", source, f"passfile={self.passfile}")
        command = [*CRYPT, mountpoint, "-f", "-o", ",".join((*words, *options))]
        return Mounted(command, mountpoint, ENVIRONMENT)

    def shown_by_gocryptfs(self, mountpoint: Path, *options: str) -> ContextManager[None]:
        """Return a context manager: the decrypted view, mounted by gocryptfs."""
        mountpoint.mkdir(exist_ok=True)
        sides = gocryptfs.Sides(self.root, mountpoint, mountpoint, self.passfile)
        return gocryptfs.mounted(sides, "-allow_other", *options)

    def damages(self) -> List[str]:
        """Return what `fusepy-vault verify` has to say."""
        command = [*COMMAND, "verify", "-q", "--passfile", self.passfile, self.root]
        outcome = run(command, environment=ENVIRONMENT)
        assert outcome.code in (0, 26), outcome
        return outcome.errors.splitlines()

    def check(self) -> None:
        """Let both `fusepy-vault verify` and `gocryptfs -fsck` find nothing wrong."""
        assert self.damages() == []
        output_of("gocryptfs", "-q", "-fsck", "-passfile", self.passfile, self.root)


def make_encrypted(directory: Path, kind: Kind = KINDS["gcm"]) -> EncryptedTree:
    """Make an empty encrypted tree in a directory."""
    tree = EncryptedTree(directory / "encrypted", directory / "password")
    tree.root.mkdir()
    tree.passfile.write_bytes(PASSWORD + b"\n")
    initialize(str(tree.root), False, PASSWORD, kind.flags, kind.long_name_max, scrypt_n=1024)
    return tree
