"""Which tree a typed path is in, and the tree's config: where it is, reading, making, replacing it."""

import os
import stat
from contextlib import suppress
from typing import Any, Dict, FrozenSet, NamedTuple, Optional

from fusepy_legacy.crypt.config import (
    CONFIG_FILE,
    CONFIG_SIZE_MAX,
    DIRIV,
    REVERSE_CONFIG_FILE,
    Config,
    create,
    parse,
    write_config,
)
from fusepy_legacy.crypt.errors import CryptError, UnsupportedConfig
from fusepy_legacy.crypt.names import DIRECTORY_IV_FILE, NAME_MAX, new_directory_iv
from fusepy_legacy.errors import EXIT_CONFIG, EXIT_CONFIG_WRITE, EXIT_ROOT, EXIT_USAGE
from fusepy_legacy.vault.report import VaultError


class Location(NamedTuple):
    """A tree's root, its config file, and a path from the root with no slash at its ends.

    `is_reverse`: the root is a plain directory that is shown encrypted.
    """

    root: str
    config_file: str
    path: bytes
    is_reverse: bool


def locate(word: str, config_file: Optional[str] = None) -> Location:
    """Split a typed path, such as ENCRYPTED/plain/names, at the root of the tree.

    The root is the nearest directory with a config. With `config_file` it is the nearest directory
    that exists, for plain names do not exist. Raises VaultError (6) when there is none.
    """
    root = os.path.abspath(word)
    rest = ""
    while True:
        if config_file is None:
            for name in (CONFIG_FILE, REVERSE_CONFIG_FILE):
                found = os.path.join(root, os.fsdecode(name))
                if os.path.lexists(found):
                    is_reverse = name == REVERSE_CONFIG_FILE
                    return Location(root, found, os.fsencode(rest), is_reverse)
        elif os.path.isdir(root):
            return Location(root, config_file, os.fsencode(rest), False)
        root, part = os.path.split(root)
        if not part:
            hint = "neither there nor above it is a gocryptfs.conf (--config names one elsewhere)"
            raise VaultError(f"{word}: {hint}", EXIT_ROOT)
        rest = f"{part}/{rest}" if rest else part


def read_config(location: Location) -> Config:
    """Return the tree's config; raises VaultError (23)."""
    try:
        descriptor = os.open(location.config_file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise VaultError(f"{location.config_file}: not a regular file", EXIT_CONFIG)
            return parse(file.read(CONFIG_SIZE_MAX + 1))
    except OSError as error:
        raise VaultError(f"{location.config_file}: {error.strerror}", EXIT_CONFIG)
    except CryptError as error:
        raise VaultError(f"{location.config_file}: {error}", EXIT_CONFIG)


def describe(location: Location, config: Config) -> Dict[str, Any]:
    """Return what a config says that is no secret, in members for programs."""
    return {
        "config": location.config_file,
        "creator": config.creator,
        "cipher": config.algorithm.name,
        "flags": sorted(config.flags),
        "long_name_max": config.long_name_max,
        "scrypt": {"n": config.scrypt.n, "r": config.scrypt.r, "p": config.scrypt.p},
    }


def replace_config(location: Location, config: Config) -> None:
    """Put a config in the place of the tree's; raises VaultError (24), and the old one is there."""
    directory, name = os.path.split(os.path.abspath(location.config_file))
    try:
        write_config(directory, config.to_bytes(), os.fsencode(name), replace=True)
    except OSError as error:
        raise VaultError(f"{location.config_file}: {error.strerror}", EXIT_CONFIG_WRITE)


def check_new(root: str, reverse: bool) -> None:
    """Raise VaultError (6) unless a tree can be made in the directory."""
    try:
        names = os.listdir(root)
    except OSError as error:
        raise VaultError(f"{root}: {error.strerror}", EXIT_ROOT)
    if reverse and os.fsdecode(REVERSE_CONFIG_FILE) in names:
        raise VaultError(f"{root}: there is a config in it already", EXIT_ROOT)
    if not reverse and names:
        raise VaultError(f"{root}: the directory is not empty", EXIT_ROOT)


def initialize(
    root: str,
    reverse: bool,
    password: bytes,
    flags: FrozenSet[str],
    long_name_max: int = NAME_MAX,
    scrypt_n: int = 1 << 16,
) -> None:
    """Make an empty encrypted tree, or the config of a plain one.

    Raises VaultError (1 for flags that exclude each other, 6, 24), and `CipherUnavailable`.
    """
    check_new(root, reverse)
    try:
        config, master_key = create(password, flags, long_name_max, scrypt_n)
    except UnsupportedConfig as error:
        raise VaultError(str(error), EXIT_USAGE)
    config.content_cipher(master_key)
    iv_file = os.path.join(root, os.fsdecode(DIRECTORY_IV_FILE))
    made_iv = False
    try:
        if DIRIV in flags and not reverse:
            made_iv = True
            _write_new(iv_file, new_directory_iv())
        # Last: a tree with a config is complete.
        name = REVERSE_CONFIG_FILE if reverse else CONFIG_FILE
        write_config(root, config.to_bytes(), name)
    except OSError as error:
        if made_iv:
            with suppress(OSError):
                os.unlink(iv_file)
        raise VaultError(f"{root}: {error.strerror}", EXIT_CONFIG_WRITE)


def _write_new(path: str, data: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(path, flags, 0o444), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
