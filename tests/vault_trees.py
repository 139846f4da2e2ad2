"""Encrypted trees for the tests of fusepy-vault, and the command run in this process."""

import os
import sys
import tarfile
from pathlib import Path
from typing import Callable, Dict, FrozenSet, List, NamedTuple, Union
from urllib.parse import unquote_to_bytes

from fusepy_legacy.commands.vault import main
from fusepy_legacy.crypt.config import FORWARD, create
from fusepy_legacy.crypt.content import (
    BLOCK_SIZE,
    HEADER_SIZE,
    ContentCipher,
    new_file_id,
    pack_header,
)
from fusepy_legacy.crypt.metadata import encrypt_target
from fusepy_legacy.crypt.names import (
    COMPANION_SUFFIX,
    DETERMINISTIC_IV,
    DIRECTORY_IV_FILE,
    NameCipher,
    new_directory_iv,
)
from fusepy_legacy.vault.config_file import write_config

PASSWORD = b"sample"  # that of tests/data, too
SAMPLES = Path(__file__).parent / "data" / "gocryptfs-2.3"

# cryptography says at import what it will not support much longer.
WARNINGS = "error" + "".join(
    f",ignore:Python 3.{minor} is no longer supported:UserWarning" for minor in (6, 7)
)
ENVIRONMENT = {**os.environ, "PYTHONWARNINGS": WARNINGS}
COMMAND = [
    sys.executable,
    "-c",
    "import sys; from fusepy_legacy.commands.vault import main; sys.exit(main())",
]


class Link(NamedTuple):
    """A symlink in a tree."""

    target: bytes


Tree = Dict[bytes, Union[bytes, Link, "Tree"]]  # type: ignore[misc]


class Outcome(NamedTuple):
    """What came of a command: exit code, stdout, and stderr in lines."""

    code: int
    output: bytes
    errors: List[str]


class Made:
    """An encrypted tree on the disk: its root, its ciphers, and what each plain path is there."""

    def __init__(self, directory: Path, tree: Tree, flags: FrozenSet[str], limit: int) -> None:
        self.root = directory / "encrypted"
        self.root.mkdir()
        self.passfile = directory / "password"
        self.passfile.write_bytes(PASSWORD + b"\n")
        self.config, self.master_key = create(PASSWORD, flags, limit, scrypt_n=1024)
        self.names: NameCipher = self.config.name_cipher(self.master_key)
        self.content: ContentCipher = self.config.content_cipher(self.master_key)
        self.stored: Dict[bytes, Path] = {b"": self.root}
        self.ivs: Dict[bytes, bytes] = {}
        write_config(str(self.root), self.config.to_bytes())
        self._directory(b"", tree)

    def add_name(self, directory: bytes, name: bytes, checked: bool = True) -> Path:
        """Make room for a name, any bytes if not `checked`, and return where it is on the disk."""
        encrypt = self.names.encrypt_name if checked else self.names._encrypt
        text = name
        if not self.config.plaintext_names:
            text = encrypt(name, self.ivs[directory])
        stored = text if self.config.plaintext_names else self.names.stored_name(text)
        path = self.stored[directory] / os.fsdecode(stored)
        if stored != text:
            Path(str(path) + os.fsdecode(COMPANION_SUFFIX)).write_bytes(text)
        return path

    def encrypt(self, data: bytes) -> bytes:
        """Return the encrypted content of a file."""
        if not data:
            return b""
        file_id = new_file_id()
        return pack_header(file_id) + self.content.encrypt_blocks(data, 0, file_id)

    def damage(self, path: bytes, *blocks: int) -> None:
        """Flip a bit in blocks of a file; its times stay."""
        stored = self.stored[path]
        status = stored.stat()
        with open(str(stored), "r+b") as file:
            for block in blocks:
                file.seek(self.content.block_offset(block) + 20)
                [byte] = file.read(1)
                file.seek(-1, os.SEEK_CUR)
                file.write(bytes([byte ^ 1]))
        os.utime(str(stored), ns=(status.st_atime_ns, status.st_mtime_ns))

    def encrypted(self, path: bytes) -> str:
        """Return the encrypted path from the root."""
        return str(self.stored[path].relative_to(self.root))

    def at(self, path: str = "") -> str:
        """Return what a user types for a plain path."""
        return f"{self.root}/{path}" if path else str(self.root)

    def _directory(self, path: bytes, tree: Tree) -> None:
        directory = self.stored[path]
        iv = DETERMINISTIC_IV
        if self.config.directory_ivs:
            iv = new_directory_iv()
            (directory / os.fsdecode(DIRECTORY_IV_FILE)).write_bytes(iv)
        self.ivs[path] = iv
        for name, entry in tree.items():
            place = self.add_name(path, name)
            below = path + b"/" + name if path else name
            self.stored[below] = place
            if isinstance(entry, dict):
                place.mkdir()
                self._directory(below, entry)
            elif isinstance(entry, Link):
                target = entry.target
                if not self.config.plaintext_names:
                    target = encrypt_target(self.content, self.names, target)
                place.symlink_to(os.fsdecode(target))
            else:
                place.write_bytes(self.encrypt(entry))


def make(directory: Path, tree: Tree, flags: FrozenSet[str] = FORWARD, limit: int = 255) -> Made:
    """Write an encrypted tree into a directory, beside a file with its password."""
    return Made(directory, tree, flags, limit)


def unpack(name: str, directory: Path) -> Path:
    """Unpack a sample with its attributes, which tarfile does not restore."""
    root = directory / "sample"
    root.mkdir()
    prefix = "SCHILY.xattr."  # tar writes = in the name of an attribute as %3D
    with tarfile.open(str(SAMPLES / f"{name}.tar.gz")) as archive:
        for member in archive:
            path = os.fsencode(str(root / member.name))
            if member.isdir():
                os.makedirs(path, exist_ok=True)
            elif member.issym():
                os.symlink(os.fsencode(member.linkname), path)
            else:
                file = archive.extractfile(member)
                assert file is not None
                with open(path, "xb") as output:
                    output.write(file.read())
            for key, value in member.pax_headers.items():
                if key.startswith(prefix):
                    data = value.encode("utf-8", "surrogateescape")
                    os.setxattr(path, unquote_to_bytes(key[len(prefix) :]), data)
    return root


def contents(directory: Path) -> Tree:
    """Return a plain directory as a tree."""
    tree: Tree = {}
    for entry in os.scandir(os.fsencode(str(directory))):
        path = Path(os.fsdecode(entry.path))
        if entry.is_symlink():
            tree[entry.name] = Link(os.fsencode(os.readlink(str(path))))
        elif entry.is_dir():
            tree[entry.name] = contents(path)
        else:
            tree[entry.name] = path.read_bytes()
    return tree


def runner(capture: Callable[[], "tuple[bytes, bytes]"]) -> Callable[..., Outcome]:
    """Return a function that runs the command; `capture` returns what stdout and stderr got."""

    def run(*arguments: object) -> Outcome:
        capture()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as error:  # argparse
            code = int(error.code or 0)
        output, errors = capture()
        return Outcome(code, output, errors.decode().splitlines())

    return run


def sparse_file(made: Made, path: Path, size: int, data: bytes, offset: int) -> None:
    """Write a file that is a hole but for whole blocks of `data` at `offset`, as gocryptfs does."""
    file_id = new_file_id()
    first = offset // BLOCK_SIZE
    with open(str(path), "wb") as file:
        file.write(pack_header(file_id))
        file.truncate(made.content.encrypted_size(size))
        file.seek(made.content.block_offset(first))
        file.write(made.content.encrypt_blocks(data, first, file_id))
    assert path.stat().st_size > HEADER_SIZE
