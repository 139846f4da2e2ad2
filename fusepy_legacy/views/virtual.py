"""What is in the encrypted view but not in the plain directory.

`gocryptfs.conf` at the top is the config. `gocryptfs.diriv` in each directory is the IV of its names, and
`gocryptfs.longname.….name` beside each hashed name is the whole of it. All that decrypts the view, and
nothing that helps without the password.
"""

import errno
import logging
import os
import stat
from typing import Any, Callable, Iterator, NamedTuple, Optional

from fusepy_legacy.crypt.config import CONFIG_FILE, CONFIG_SIZE_MAX, Config, parse
from fusepy_legacy.crypt.errors import CryptError
from fusepy_legacy.crypt.names import DIRECTORY_IV_FILE, is_companion
from fusepy_legacy.kernel.attributes import with_size
from fusepy_legacy.reading import read_regular
from fusepy_legacy.views.identity import made_inode
from fusepy_legacy.views.names import Names

logger = logging.getLogger(__name__)

CONFIG_PATH = "/" + os.fsdecode(CONFIG_FILE)
_DIRECTORY_IV = os.fsdecode(DIRECTORY_IV_FILE)
_PREFIX = "gocryptfs."  # no encrypted name has a dot
_MODE = stat.S_IFREG | 0o444


class VirtualFile:
    """An open virtual file: its content was made when it was opened."""

    keep_cache = False

    def __init__(self, status: os.stat_result, content: bytes) -> None:
        self.status = status
        self.content = content

    def read(self, length: int, offset: int) -> bytes:
        """Return `length` bytes from `offset`, fewer at the end."""
        return self.content[offset : offset + length]

    def fgetattr(self) -> os.stat_result:
        """Return the attributes that it was opened with."""
        return self.status

    def release(self, flags: int) -> None:
        """Do nothing: there is no descriptor."""


class Entry(NamedTuple):
    """A virtual file in a listing."""

    name: str
    inode: int


class VirtualFiles:
    """The virtual files of one view.

    `stat` returns the status of a plain path. `config_file` is where the config is read, None to withhold it.
    """

    def __init__(
        self,
        config: Config,
        names: Names,
        stat: Callable[[str], os.stat_result],
        config_file: Optional[str],
    ) -> None:
        self._names = names
        self._stat = stat
        self._config_file = config_file
        self._directory_ivs = config.directory_ivs and not config.plaintext_names
        self._hashes = not config.plaintext_names

    def open(self, path: str) -> Optional[VirtualFile]:
        """Return the virtual file of a path; None where the path may be another file's. OSError."""
        above, _, name = path.rpartition("/")
        if not name.startswith(_PREFIX):
            return None
        if path == CONFIG_PATH and self._config_file is not None:
            return self._config(self._config_file)
        if name == _DIRECTORY_IV and self._directory_ivs:
            directory = above or "/"
            status = self._stat(self._names.plain(directory))
            return _virtual(path, status, self._names.iv(directory))
        if self._hashes and is_companion(os.fsencode(name)):
            plain, content = self._names.companion(path)
            return _virtual(path, self._stat(plain), content)
        return None

    def entries(self, directory: str) -> Iterator[Entry]:
        """Yield what begins a directory's listing."""
        prefix = directory.rstrip("/") + "/"
        if self._directory_ivs:
            yield Entry(_DIRECTORY_IV, made_inode(os.fsencode(prefix + _DIRECTORY_IV)))
        if directory == "/" and self._config_file is not None:
            yield Entry(CONFIG_PATH[1:], made_inode(os.fsencode(CONFIG_PATH)))

    def _config(self, config_file: str) -> VirtualFile:
        """Return the config; EIO for what is none: it would be in the backup as it is, not encrypted."""
        content = read_regular(config_file, CONFIG_SIZE_MAX + 1)
        try:
            parse(content)
        except CryptError as error:
            logger.error("gocryptfs.conf is not shown: %s", error)
            raise OSError(errno.EIO, os.strerror(errno.EIO)) from None
        status = os.stat(config_file)
        return _virtual(CONFIG_PATH, status, content, stat.S_IMODE(status.st_mode) | stat.S_IFREG)


def _virtual(path: str, owner: os.stat_result, content: bytes, mode: int = _MODE) -> VirtualFile:
    """Return a virtual file with the owner and the times of another file."""
    reduced: Any = owner.__reduce__()
    fields, others = reduced[1]
    size = len(content)
    others.update(st_blocks=(size + 511) // 512, st_rdev=0)
    mine = (mode, made_inode(os.fsencode(path)), fields[2], 1, fields[4], fields[5], size)
    return VirtualFile(os.stat_result(mine + fields[7:], others), content)


def resized(status: os.stat_result, size: int) -> os.stat_result:
    """Return a status with another size, and the space that such a file takes.

    st_blocks must not say of a sparse file that it is one: GNU tar's --sparse takes 0 for a file of
    nothing but zeros, and does not read it.
    """
    return with_size(status, size, (size + 511) // 512)
