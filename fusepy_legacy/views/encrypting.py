"""The content of an open plain file, encrypted, here or in another process (kernel/readers.py)."""

import logging
import os
import struct
from typing import Callable, Dict, Tuple

from fusepy_legacy.crypt import reverse
from fusepy_legacy.crypt.content import ContentCipher
from fusepy_legacy.reading import read_fully

logger = logging.getLogger(__name__)

_JOB = struct.Struct("=QQQQQ16s16s?")  # as EncryptedContent.job packs it; the path follows
_REMEMBERED = 1024  # files

Version = Tuple[int, int]  # st_size, and what 64 bits hold of st_mtime_ns


def version_of(status: os.stat_result) -> Version:
    """Return what is another after a change of content."""
    return status.st_size, status.st_mtime_ns & 0xFFFFFFFFFFFFFFFF


class EncryptedContent:
    """What a file's blocks are made with.

    `path` is the one in the view, for the log; `ivs` are the file's ID and nonce, `size` is how much of the
    plain file is shown, and `version` that of the plain file when it was opened. `changed` is set, and
    logged, when a read finds another.
    """

    __slots__ = ("path", "ivs", "size", "version", "changed")

    def __init__(self, path: str, ivs: reverse.FileIVs, size: int, version: Version) -> None:
        self.path = path
        self.ivs = ivs
        self.size = size
        self.version = version
        self.changed = False

    def read(self, cipher: ContentCipher, descriptor: int, length: int, offset: int) -> bytes:
        """Return `length` bytes of the encrypted file from `offset`, fewer at its end.

        `descriptor` is the plain file's.
        """
        wanted = reverse.plaintext_range(cipher, offset, length)
        expected = min(wanted.length, self.size - wanted.offset)
        if expected <= 0:
            return b""
        data = read_fully(descriptor, expected, wanted.offset)
        if not self.changed:
            self.compare(descriptor)
        # Not before it is asked for: small files that were put into the kernel's cache when they were opened
        # (FUSE_NOTIFY_STORE) spared a READ each and no time, tar took 0.519 s with and without for 5,000 of
        # 3 KiB.
        return reverse.encrypt_range(cipher, self.ivs, offset, length, data)

    def compare(self, descriptor: int) -> None:
        """Say in the log, once, that the file has been written to since it was opened."""
        if version_of(os.fstat(descriptor)) != self.version:
            self.changed = True
            logger.warning("%a changed while it was read; copy it again", self.path[1:])

    def job(self, length: int, offset: int) -> bytes:
        """Return all that `server` needs for this read, but the descriptor."""
        fixed = _JOB.pack(length, offset, self.size, *self.version, *self.ivs, self.changed)
        return fixed + os.fsencode(self.path)


def server(cipher: ContentCipher) -> Callable[[int, bytes], bytes]:
    """Return what does a job in another process."""
    # Files that have been logged, by ID, as they were when opened.
    changed: Dict[bytes, Version] = {}

    def serve(descriptor: int, job: bytes) -> bytes:
        length, offset, size, *version, file_id, block0_iv, known = _JOB.unpack_from(job)
        content = EncryptedContent(
            os.fsdecode(job[_JOB.size :]),
            reverse.FileIVs(file_id, block0_iv),
            size,
            (version[0], version[1]),
        )
        content.changed = known or changed.get(file_id) == content.version
        data = content.read(cipher, descriptor, length, offset)
        if content.changed and not known:
            if len(changed) >= _REMEMBERED:
                changed.clear()
            changed[file_id] = content.version
        return data

    return serve
