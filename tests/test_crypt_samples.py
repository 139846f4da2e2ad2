"""Trees that gocryptfs 2.3 wrote are read, and trees written here are accepted by gocryptfs.

tests/data/README.md says how the samples were made. The walkers here are the smallest possible, and
work on a tree in memory: a name, the bytes of a file, the target of a symlink.
"""

import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any, Dict, FrozenSet, List, NamedTuple, Tuple, Union
from urllib.parse import unquote_to_bytes

import pytest

from fusepy_legacy.crypt.config import (
    AESSIV_FLAG,
    CONFIG_FILE,
    DIRIV,
    FORWARD,
    FORWARD_PLAINTEXT_NAMES,
    GCMIV128,
    HKDF_FLAG,
    RAW64,
    REVERSE,
    XCHACHA_FLAG,
    Config,
    create,
    master_key_from_text,
    parse,
)
from fusepy_legacy.crypt.content import HEADER_SIZE, new_file_id, pack_header, parse_header
from fusepy_legacy.crypt.errors import AuthenticationFailed, CryptError, WrongPassword
from fusepy_legacy.crypt.metadata import decrypt_attribute, decrypt_target, encrypt_target
from fusepy_legacy.crypt.names import (
    COMPANION_SUFFIX,
    DETERMINISTIC_IV,
    DIRECTORY_IV_FILE,
    NameCipher,
    check_directory_iv,
    is_companion,
    is_long_name,
    new_directory_iv,
)
from fusepy_legacy.crypt.reverse import (
    directory_iv,
    encrypt_range,
    file_ivs,
    plaintext_range,
    symlink_nonce,
)
from fusepy_legacy.vault.config_file import write_config

SAMPLES = Path(__file__).parent / "data" / "gocryptfs-2.3"
PASSWORD = b"sample"
OLD_KEY = "00112233-44556677-8899aabb-ccddeeff-01234567-89abcdef-fedcba98-76543210"


class Link(NamedTuple):
    """A symlink in a tree."""

    target: bytes


class File(NamedTuple):
    """A file in a tree, with its extended attributes."""

    data: bytes
    attributes: Tuple[Tuple[bytes, bytes], ...] = ()


Tree = Dict[bytes, Any]  # a name to a File, a Link or another Tree
Entry = Union[File, Link, Tree]

COMMENT = (b"user.comment", b"an attribute")
PLAIN: Tree = {
    b"empty": File(b""),
    b"one": File(b"x", (COMMENT,)),
    b"block": File((b"fusepy\n" * 600)[:4096]),
    b"block and one": File((b"fusepy\n" * 600)[:4097]),
    b"0" * 200: File(b"a long name"),
    b"sparse": File(bytes(20000) + b"end"),
    b"directory": {b"file": File(b"in a directory"), b"link": Link(b"../one")},
    b"link": Link(b"directory/file"),
}


def without_attributes(tree: Tree) -> Tree:
    """gocryptfs 2.3 shows no attributes in reverse mode."""
    return {
        name: File(entry.data)
        if isinstance(entry, File)
        else without_attributes(entry)
        if isinstance(entry, dict)
        else entry
        for name, entry in tree.items()
    }


def sample(name: str) -> Tree:
    """The encrypted tree in a sample."""
    root: Tree = {}
    with tarfile.open(str(SAMPLES / f"{name}.tar.gz")) as archive:
        for member in archive:
            *directories, last = os.fsencode(member.name).split(b"/")
            place = root
            for directory in directories[1:]:
                place = place[directory]
            if member.isdir():
                if last != b".":
                    place[last] = {}
            elif member.issym():
                place[last] = Link(os.fsencode(member.linkname))
            else:
                file = archive.extractfile(member)
                assert file is not None
                prefix = "SCHILY.xattr."  # tar writes = in the name of an attribute as %3D
                attributes = tuple(
                    (unquote_to_bytes(key[len(prefix) :]), value.encode("utf-8", "surrogateescape"))
                    for key, value in member.pax_headers.items()
                    if key.startswith(prefix)
                )
                place[last] = File(file.read(), attributes)
    return root


def unlock(tree: Tree) -> Tuple[Config, bytes]:
    """The config of a sample, and its master key."""
    config = parse(tree[CONFIG_FILE].data)
    return config, config.unlock(PASSWORD)


class Reader:
    """Decrypts a tree."""

    def __init__(self, config: Config, master_key: bytes) -> None:
        self.config = config
        self.names = config.name_cipher(master_key)
        self.content = config.content_cipher(master_key)

    def entry(self, entry: Entry) -> Entry:
        if isinstance(entry, dict):
            return self.tree(entry)
        if isinstance(entry, Link):
            if self.config.plaintext_names:
                return entry
            return Link(decrypt_target(self.content, self.names, entry.target))
        data = entry.data
        if data:
            file_id = parse_header(data[:HEADER_SIZE])
            data = self.content.decrypt_blocks(data[HEADER_SIZE:], 0, file_id)
        assert len(data) == self.config.layout.plaintext_size(len(entry.data))
        assert len(entry.data) == self.config.layout.encrypted_size(len(data))
        attributes = tuple(
            (
                self.names.decrypt_attribute_name(name),
                decrypt_attribute(self.content, self.names, value),
            )
            for name, value in entry.attributes
        )
        return File(data, attributes)

    def tree(self, tree: Tree) -> Tree:
        plain = plain_names(self.config, self.names, tree)
        return {plain[stored]: self.entry(tree[stored]) for stored in plain}


def plain_names(config: Config, names: NameCipher, tree: Tree) -> Dict[bytes, bytes]:
    """Stored names of a directory to plain ones."""
    stored = [name for name in tree if name not in (CONFIG_FILE, DIRECTORY_IV_FILE)]
    if config.plaintext_names:
        return {name: name for name in stored}
    iv = DETERMINISTIC_IV
    if config.directory_ivs:
        iv = check_directory_iv(tree[DIRECTORY_IV_FILE].data)
    result = {}
    for name in stored:
        if is_companion(name):
            continue
        text = name
        if is_long_name(name):
            text = names.open_companion(name, tree[name + COMPANION_SUFFIX].data)
        result[name] = names.decrypt_name(text, iv)
        assert names.stored_name(names.encrypt_name(result[name], iv)) == name
    return result


FORWARD_SAMPLES = [
    "gcm",
    "gcm-deterministic",
    "gcm-plaintextnames",
    "gcm-longnamemax",
    "gcm-deterministic-longnamemax",
    "siv",
    "siv-deterministic",
    "siv-plaintextnames",
    "siv-longnamemax",
    "siv-deterministic-longnamemax",
]
XCHACHA_SAMPLES = [
    "xchacha",
    "xchacha-deterministic",
    "xchacha-plaintextnames",
    "xchacha-longnamemax",
    "xchacha-deterministic-longnamemax",
]
REVERSE_SAMPLES = [
    "reverse",
    "reverse-deterministic",
    "reverse-plaintextnames",
    "reverse-longnamemax",
    "reverse-deterministic-longnamemax",
]
OLD_SAMPLES = {"old-gcm": FORWARD, "old-siv": REVERSE}


def test_every_sample_is_tested() -> None:
    """No file lies in the directory for nothing."""
    found = sorted(path.name for path in SAMPLES.iterdir())
    names = [*FORWARD_SAMPLES, *XCHACHA_SAMPLES, *REVERSE_SAMPLES, *OLD_SAMPLES]
    assert found == sorted(f"{name}.tar.gz" for name in names)


@pytest.mark.parametrize("name", FORWARD_SAMPLES)
def test_a_tree_of_gocryptfs_is_read(name: str) -> None:
    """Names, contents, holes, symlinks and attributes, with each set of flags."""
    tree = sample(name)
    assert Reader(*unlock(tree)).tree(tree) == PLAIN


@pytest.mark.parametrize("name", XCHACHA_SAMPLES)
def test_a_tree_with_xchacha_is_read(name: str) -> None:
    """As the others, where PyNaCl is installed."""
    pytest.importorskip("nacl")
    tree = sample(name)
    assert Reader(*unlock(tree)).tree(tree) == PLAIN


@pytest.mark.parametrize("name", XCHACHA_SAMPLES)
def test_a_tree_with_xchacha_is_listed_without_the_cipher(name: str) -> None:
    """Names and sizes need no cipher for content."""
    tree = sample(name)
    config, master_key = unlock(tree)

    def sizes(encrypted: Tree, plain: Tree) -> None:
        stored_names = plain_names(config, config.name_cipher(master_key), encrypted)
        assert sorted(stored_names.values()) == sorted(plain)
        for stored, plain_name in stored_names.items():
            entry, expected = encrypted[stored], plain[plain_name]
            if isinstance(expected, dict):
                sizes(entry, expected)
            elif isinstance(expected, File):
                assert config.layout.plaintext_size(len(entry.data)) == len(expected.data)
                assert config.layout.encrypted_size(len(expected.data)) == len(entry.data)

    sizes(tree, PLAIN)


@pytest.mark.parametrize("name", OLD_SAMPLES)
def test_a_tree_of_the_time_before_hkdf_and_raw64_is_read(name: str) -> None:
    """The master key is the key, and base64 has padding."""
    config, _ = create(b"x", OLD_SAMPLES[name] - {HKDF_FLAG, RAW64}, scrypt_n=1024)
    assert Reader(config, master_key_from_text(OLD_KEY)).tree(sample(name)) == PLAIN


@pytest.mark.parametrize("name", REVERSE_SAMPLES)
def test_a_reverse_view_of_gocryptfs_is_read(name: str) -> None:
    """Derived IDs and nonces read like any others."""
    tree = sample(name)
    assert Reader(*unlock(tree)).tree(tree) == without_attributes(PLAIN)


@pytest.mark.parametrize("name", REVERSE_SAMPLES)
@pytest.mark.parametrize("piece", [1000, 4096, 131072])
def test_our_reverse_view_has_the_same_bytes(name: str, piece: int) -> None:
    """Every file, symlink, directory IV and name, read in pieces of any size."""
    tree = sample(name)
    config, master_key = unlock(tree)
    names, content = config.name_cipher(master_key), config.content_cipher(master_key)

    def show_file(path: bytes, plain: bytes) -> bytes:
        shown = b""
        while True:
            wanted = plaintext_range(content, len(shown), piece)
            part = plain[wanted.offset : wanted.offset + wanted.length]
            more = encrypt_range(content, file_ivs(path), len(shown), piece, part)
            if not more:
                return shown
            shown += more

    def show(path: bytes, plain: Tree) -> Tree:
        shown: Tree = {}
        iv = DETERMINISTIC_IV
        if config.directory_ivs:
            iv = directory_iv(path)
            shown[DIRECTORY_IV_FILE] = File(iv)
        for plain_name, entry in plain.items():
            stored = plain_name
            if not config.plaintext_names:
                text = names.encrypt_name(plain_name, iv)
                stored = names.stored_name(text)
                if stored != text:
                    shown[stored + COMPANION_SUFFIX] = File(text)
            below = path + b"/" + stored if path else stored
            if isinstance(entry, dict):
                shown[stored] = show(below, entry)
            elif isinstance(entry, File):
                shown[stored] = File(show_file(below, entry.data))
            elif config.plaintext_names:
                shown[stored] = entry
            else:
                target = encrypt_target(content, names, entry.target, symlink_nonce(below))
                shown[stored] = Link(target)
        return shown

    assert show(b"", PLAIN) == {key: entry for key, entry in tree.items() if key != CONFIG_FILE}


def test_a_hole_in_a_sample_is_a_hole() -> None:
    """The sample is worth something only if gocryptfs left a block unwritten."""
    tree = sample("gcm-plaintextnames")
    assert bytes(4096 + 32) in tree[b"sparse"].data


@pytest.mark.parametrize("name", ["gcm", "siv"])
def test_another_password_or_key_reads_nothing(name: str) -> None:
    """WrongPassword, and with a wrong key no file authenticates and no name is right."""
    tree = sample(name)
    config, _ = unlock(tree)
    with pytest.raises(WrongPassword):
        config.unlock(b"Sample")
    reader = Reader(config, bytes(32))
    for entry in tree.values():
        if isinstance(entry, File) and entry.data[:2] == b"\0\2":
            with pytest.raises(AuthenticationFailed):
                reader.entry(entry)
    with pytest.raises(CryptError):
        reader.tree(tree)


class Writer:
    """Encrypts a tree into a directory of the disk."""

    def __init__(self, config: Config, master_key: bytes) -> None:
        self.config = config
        self.names = config.name_cipher(master_key)
        self.content = config.content_cipher(master_key)

    def tree(self, directory: bytes, tree: Tree) -> None:
        iv = DETERMINISTIC_IV
        if self.config.directory_ivs:
            iv = new_directory_iv()
            put(os.path.join(directory, DIRECTORY_IV_FILE), iv)
        for name, entry in tree.items():
            stored = name
            if not self.config.plaintext_names:
                text = self.names.encrypt_name(name, iv)
                stored = self.names.stored_name(text)
                if stored != text:
                    put(os.path.join(directory, stored + COMPANION_SUFFIX), text)
            path = os.path.join(directory, stored)
            if isinstance(entry, dict):
                os.mkdir(path)
                self.tree(path, entry)
            elif isinstance(entry, Link):
                target = entry.target
                if not self.config.plaintext_names:
                    target = encrypt_target(self.content, self.names, target)
                os.symlink(target, path)
            else:
                file_id = new_file_id()
                blocks = self.content.encrypt_blocks(entry.data, 0, file_id)
                put(path, pack_header(file_id) + blocks if blocks else b"")
                for name, value in entry.attributes:
                    stored = self.names.encrypt_attribute_name(name)
                    os.setxattr(path, stored, self.content.encrypt_value(value))


def put(path: bytes, data: bytes) -> None:
    with open(path, "xb") as file:
        file.write(data)


def fsck(directory: Path, password: bytes) -> "subprocess.CompletedProcess[bytes]":
    """gocryptfs -fsck mounts the tree where only it can see it, and reads everything."""
    command = ["gocryptfs", "-nosyslog", "-fsck", "-extpass", f"echo {password.decode()}"]
    return subprocess.run(
        [*command, str(directory)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "TMPDIR": str(directory.parent)},  # it leaves an empty directory there
        timeout=60,
    )


needs_gocryptfs = pytest.mark.skipif(
    shutil.which("gocryptfs") is None or not os.access("/dev/fuse", os.R_OK | os.W_OK),
    reason="gocryptfs -fsck needs gocryptfs and /dev/fuse",
)

XCHACHA = FORWARD - {GCMIV128} | {XCHACHA_FLAG}
WRITTEN: List[Tuple[str, FrozenSet[str], int]] = [
    ("gcm", FORWARD, 255),
    ("siv", REVERSE, 255),
    ("gcm-deterministic", FORWARD - {DIRIV}, 255),
    ("siv-deterministic", REVERSE - {DIRIV}, 255),
    ("gcm-plaintextnames", FORWARD_PLAINTEXT_NAMES, 255),
    ("siv-plaintextnames", FORWARD_PLAINTEXT_NAMES | {AESSIV_FLAG}, 255),
    ("gcm-longnamemax", FORWARD, 62),
    ("padded-base64", FORWARD - {RAW64}, 255),
    ("gcm-no-hkdf", FORWARD - {HKDF_FLAG}, 255),
    ("siv-no-hkdf", REVERSE - {HKDF_FLAG, RAW64}, 255),
    ("xchacha", XCHACHA, 255),
    ("xchacha-deterministic-longnamemax", XCHACHA - {DIRIV}, 80),
    ("xchacha-plaintextnames", FORWARD_PLAINTEXT_NAMES - {GCMIV128} | {XCHACHA_FLAG}, 255),
]


@needs_gocryptfs
@pytest.mark.parametrize(("name", "flags", "limit"), WRITTEN, ids=[row[0] for row in WRITTEN])
def test_gocryptfs_accepts_what_is_written_here(
    tmp_path: Path, name: str, flags: FrozenSet[str], limit: int
) -> None:
    """gocryptfs -fsck opens config and tree and finds nothing wrong; also after a new password."""
    if XCHACHA_FLAG in flags:
        pytest.importorskip("nacl")
    config, master_key = create(PASSWORD, flags, limit, scrypt_n=1024)
    write_config(str(tmp_path), config.to_bytes())
    Writer(config, master_key).tree(os.fsencode(str(tmp_path)), PLAIN)
    result = fsck(tmp_path, PASSWORD)
    assert result.returncode == 0, result.stdout.decode()
    config = parse(config.to_bytes()).with_password(master_key, b"new", scrypt_n=2048)
    write_config(str(tmp_path), config.to_bytes(), replace=True)
    assert fsck(tmp_path, PASSWORD).returncode == 12  # password incorrect
    result = fsck(tmp_path, b"new")
    assert result.returncode == 0, result.stdout.decode()


@needs_gocryptfs
def test_gocryptfs_finds_the_damage_that_is_found_here(tmp_path: Path) -> None:
    """The check above can fail: one flipped bit and gocryptfs -fsck says 26."""
    config, master_key = create(PASSWORD, FORWARD_PLAINTEXT_NAMES, scrypt_n=1024)
    write_config(str(tmp_path), config.to_bytes())
    Writer(config, master_key).tree(os.fsencode(str(tmp_path)), PLAIN)
    data = bytearray((tmp_path / "block").read_bytes())
    data[1000] ^= 1
    (tmp_path / "block").write_bytes(data)
    assert fsck(tmp_path, PASSWORD).returncode == 26
    with pytest.raises(AuthenticationFailed):
        Reader(config, master_key).entry(File(bytes(data)))
