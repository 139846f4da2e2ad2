"""Which tree a typed path is in, and which plain path in it."""

import os
from typing import Mapping, NamedTuple, Optional

from fusepy_legacy.crypt.config import CONFIG_FILE, REVERSE_CONFIG_FILE
from fusepy_legacy.crypt.names import DIRECTORY_IV_FILE
from fusepy_legacy.errors import EXIT_ROOT, EXIT_USAGE
from fusepy_legacy.vault.report import VaultError


class Location(NamedTuple):
    """A tree's root, its config file, and a path from the root with no slash at its ends.

    `is_reverse`: the root is a plain directory that is shown encrypted.
    """

    root: str
    config_file: str
    path: bytes
    is_reverse: bool


def locate_plain(word: str, root: str, config_file: str) -> Location:
    """Take a typed path apart at `root`, a plain directory that is shown encrypted by a config elsewhere.

    Raises VaultError (1) for a path that is not in it.
    """
    root = os.path.abspath(root)
    rest = _rest(word, root)
    if rest is None:
        raise VaultError(f"{word}: it is not in {root}", EXIT_USAGE)
    return Location(root, config_file, os.fsencode(rest), is_reverse=True)


def locate_labelled(word: str, roots: Mapping[str, str], config_file: str) -> Location:
    """Find the root of a view of several that a typed path is in; the path starts with its label then.

    `roots` are the directories by their labels. Raises VaultError (1) for a path that is in none.
    """
    found = [(root, label) for label, root in roots.items() if _rest(word, root) is not None]
    if not found:
        raise VaultError(f"{word}: it is in none of the roots", EXIT_USAGE)
    root, label = max(found, key=lambda pair: len(pair[0]))  # they may overlap
    path = f"{label}/{_rest(word, root)}".rstrip("/")
    return Location(root, config_file, os.fsencode(path), is_reverse=True)


def _rest(word: str, root: str) -> Optional[str]:
    """Return what a typed path is called from `root`, None when it is not in it."""
    path = os.path.abspath(word)
    if os.path.commonpath([root, path]) != root:
        return None
    return os.path.relpath(path, root) if path != root else ""


def _top(directory: str) -> str:
    """Return the directory of an encrypted tree that all others with an IV in them are below."""
    while not os.path.lexists(os.path.join(directory, os.fsdecode(CONFIG_FILE))):
        above = os.path.dirname(directory)
        if above == directory or not os.path.lexists(
            os.path.join(above, os.fsdecode(DIRECTORY_IV_FILE))
        ):
            break
        directory = above
    return directory


def locate(word: str, config_file: Optional[str] = None) -> Location:
    """Split a typed path, such as ENCRYPTED/plain/names, at the root of the tree.

    The root is the nearest directory with a config. With `config_file` it is the nearest directory
    that exists, for plain names do not exist, or the uppermost above it of those that have an IV. Raises
    VaultError (6) when there is none.
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
            top = _top(root)
            rest = os.path.join(os.path.relpath(root, top), rest) if top != root else rest
            return Location(top, config_file, os.fsencode(rest.rstrip("/")), False)
        root, part = os.path.split(root)
        if not part:
            hint = "neither there nor above it is a gocryptfs.conf (--config names one elsewhere)"
            try:
                os.lstat(word)
            except PermissionError as error:
                hint = str(error.strerror)
            except OSError:
                pass
            raise VaultError(f"{word}: {hint}", EXIT_ROOT)
        rest = f"{part}/{rest}" if rest else part
