"""The reverse view: plain files shown encrypted, the same bytes at each mount, without a database.

What is random in a written tree is derived here from the file's place in the encrypted tree. That
is safe with AES-SIV only. A path is that of the *encrypted* tree relative to its root, with hashed
long names, no leading slash, b"" for the root (the plain path where names are not encrypted). The
derived values are stored in the output, so nothing that decrypts it has to know these rules.
"""

import hashlib
from typing import NamedTuple

from fusepy_legacy.crypt.content import (
    BLOCK_SIZE,
    HEADER_SIZE,
    Buffer,
    ContentCipher,
    pack_header,
)
from fusepy_legacy.crypt.errors import OutOfRange


class FileIVs(NamedTuple):
    """Of one file: the 16-byte ID for its header, and the 16-byte nonce of its first block."""

    file_id: bytes
    block0_iv: bytes


class PlaintextRange(NamedTuple):
    """Whole blocks of a plain file, in bytes: `offset` a multiple of 4096, `length` as well."""

    offset: int
    length: int


def _derive(path: bytes, purpose: bytes) -> bytes:
    return hashlib.sha256(path + b"\0" + purpose).digest()[:16]


def directory_iv(path: bytes) -> bytes:
    """Return the 16 bytes of the directory's `gocryptfs.diriv`."""
    return _derive(path, b"DIRIV")


def file_ivs(path: bytes) -> FileIVs:
    """Return the ID and first nonce of a file; `hard_link_path` says what its path is if it has several."""
    return FileIVs(_derive(path, b"FILEID"), _derive(path, b"BLOCK0IV"))


def hard_link_path(begin: bytes, inode: int) -> bytes:
    """Return what a file with several names (st_nlink above 1) has in the place of its path.

    What is derived from it follows from the inode, so all names show the same bytes at every mount,
    whichever is opened first. gocryptfs takes the path that was opened first instead. `begin` is the
    *encrypted* path of the directory where the file's filesystem begins in the view, b"" for the top: it
    keeps the inodes of two filesystems apart, and being encrypted it gives nothing away, because hashes
    of short plain names could be guessed. `inode` is st_ino, 0 to 2^64 - 1, else `OutOfRange`. A path holds
    no NUL, so nothing derived from a path is ever the same.
    """
    if not 0 <= inode < 1 << 64:
        raise OutOfRange(f"{inode} is not an inode number")
    return b"%s\0%d" % (begin, inode)


def symlink_nonce(path: bytes) -> bytes:
    """Return the 16-byte nonce of a symlink's target.

    gocryptfs hashes the path with its last component once more at the end
    (fusefrontend_reverse/node_helpers.go); so does this, to show the same bytes.
    """
    return _derive(path + b"/" + path.rsplit(b"/", 1)[-1], b"SYMLINKIV")


def attribute_nonce(path: bytes, stored_name: bytes) -> bytes:
    """Return the 16-byte nonce of an extended attribute's value, from its name as it is stored."""
    return _derive(path + b"\0" + stored_name, b"XATTRIV")


def plaintext_range(content: ContentCipher, offset: int, length: int) -> PlaintextRange:
    """Say what to read of the plain file to show `length` bytes of the encrypted one from `offset`.

    Raises `OutOfRange` if one of them is negative.
    """
    if offset < 0 or length < 0:
        raise OutOfRange("negative")
    if not length:
        return PlaintextRange(0, 0)
    size = content.encrypted_block_size
    first = max(offset - HEADER_SIZE, 0) // size
    end = max(-(-(offset + length - HEADER_SIZE) // size), first + 1)
    return PlaintextRange(first * BLOCK_SIZE, (end - first) * BLOCK_SIZE)


def encrypt_range(
    content: ContentCipher, ivs: FileIVs, offset: int, length: int, plaintext: Buffer
) -> bytes:
    """Return `length` bytes of the encrypted file from `offset`, fewer at its end.

    `plaintext` is what the file holds in `plaintext_range(content, offset, length)`, short only at
    the end of the file; if that is nothing, so is the result: an empty file has no header. Raises
    `OutOfRange` for offsets past off_t and `UnsafeNonce` for a cipher other than AES-SIV.
    """
    wanted = plaintext_range(content, offset, length)
    first = wanted.offset // BLOCK_SIZE
    encrypted = content.encrypt_blocks(plaintext, first, ivs.file_id, ivs.block0_iv)
    if not encrypted:
        return b""
    start = content.block_offset(first)
    if offset < HEADER_SIZE:
        encrypted = pack_header(ivs.file_id) + encrypted
        start = 0
    return encrypted[offset - start : offset - start + length]
