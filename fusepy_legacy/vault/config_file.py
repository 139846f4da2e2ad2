"""The config of a tree on the disk: read, made with a new tree, replaced."""

import errno
import os
import stat
from contextlib import suppress
from typing import Any, Dict, FrozenSet, Optional

from fusepy_legacy.crypt.config import (
    CONFIG_FILE,
    CONFIG_SIZE_MAX,
    DIRIV,
    OLD_CONFIG_SUFFIX,
    REVERSE_CONFIG_FILE,
    SCRYPT_N,
    Config,
    create,
    parse,
)
from fusepy_legacy.crypt.errors import CryptError, UnsupportedConfig
from fusepy_legacy.crypt.names import DIRECTORY_IV_FILE, NAME_MAX, new_directory_iv
from fusepy_legacy.errors import EXIT_CONFIG, EXIT_CONFIG_WRITE, EXIT_ROOT, EXIT_USAGE
from fusepy_legacy.reading import read_regular
from fusepy_legacy.vault.location import Location
from fusepy_legacy.vault.report import VaultError


def read_config(location: Location) -> Config:
    """Return the tree's config; raises VaultError (23)."""
    try:
        return parse(read_regular(location.config_file, CONFIG_SIZE_MAX + 1))
    except OSError as error:
        raise VaultError(f"{location.config_file}: {error.strerror}", EXIT_CONFIG)
    except CryptError as error:
        raise VaultError(f"{location.config_file}: {error}", EXIT_CONFIG)


def describe(location: Location, config: Config) -> Dict[str, Any]:
    """Return what a config says that is no secret, in members for programs."""
    return {
        "config": location.config_file,
        # JSON can hold halves of surrogate pairs, which nothing can print.
        "creator": config.creator.encode("utf-8", "replace").decode(),
        "cipher": config.algorithm.name,
        "flags": sorted(config.flags),
        "long_name_max": config.long_name_max,
        "scrypt": {"n": config.scrypt.n, "r": config.scrypt.r, "p": config.scrypt.p},
    }


def replace_config(location: Location, config: Config) -> None:
    """Put a config in the place of the tree's; raises VaultError (24), and the old one is there.

    Where that is a symlink, what it leads to is replaced.
    """
    directory, name = os.path.split(os.path.realpath(location.config_file))
    try:
        write_config(directory, config.to_bytes(), os.fsencode(name), replace=True)
    except OSError as error:
        raise VaultError(f"{location.config_file}: {error.strerror}", EXIT_CONFIG_WRITE)


def keep_config(location: Location) -> str:
    """Copy the tree's config to a file beside it, and return its path; raises VaultError (24)."""
    path = os.path.realpath(location.config_file)
    kept = path + os.fsdecode(OLD_CONFIG_SUFFIX)
    name = os.fsencode(os.path.basename(path))
    try:
        data = read_regular(path, CONFIG_SIZE_MAX + 1)
        write_config(os.path.dirname(path), data, name + OLD_CONFIG_SUFFIX, like=name)
    except OSError as error:
        raise VaultError(f"{kept}: {error.strerror}", EXIT_CONFIG_WRITE)
    return kept


def write_config(
    directory: str,
    data: bytes,
    name: bytes = CONFIG_FILE,
    replace: bool = False,
    like: Optional[bytes] = None,
) -> None:
    """Write a config into a directory, mode 0400. Raises OSError, and then nothing has changed.

    One that is there is an error (EEXIST) unless `replace`; then it stays until the new one is on
    the disk, which has its owner and mode. `like` is another that it has them of.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        written = b"%s.%s.tmp" % (name, os.urandom(4).hex().encode()) if replace else name
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        handle = os.open(written, flags, 0o400, dir_fd=descriptor)
        try:
            with open(handle, "wb") as file:
                file.write(data)
                file.flush()
                if replace or like is not None:
                    _take_over(like or name, descriptor, file.fileno())
                os.fsync(file.fileno())
            if replace:
                os.rename(written, name, src_dir_fd=descriptor, dst_dir_fd=descriptor)
        except BaseException:
            os.unlink(written, dir_fd=descriptor)
            raise
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno != errno.EINVAL:  # a filesystem that cannot sync a directory, as vboxsf
                raise
    finally:
        os.close(descriptor)


def _take_over(name: bytes, directory: int, descriptor: int) -> None:
    """Give an open file the owner and mode of another: root may change the password of a user's tree."""
    with suppress(OSError):
        status = os.stat(name, dir_fd=directory)
        os.fchown(descriptor, status.st_uid, status.st_gid)
        os.fchmod(descriptor, stat.S_IMODE(status.st_mode))


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
    scrypt_n: int = SCRYPT_N,
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
