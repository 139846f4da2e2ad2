"""Cat: a file's content, or a range of it, to a stream. Only the blocks of the range are read."""

import stat
from typing import BinaryIO, NoReturn, Optional

from fusepy_legacy.errors import EXIT_DAMAGE
from fusepy_legacy.vault.listing import TYPES
from fusepy_legacy.vault.report import Lost, VaultError, code_of, printable
from fusepy_legacy.vault.tree import Entry, Vault

_PIECE = 1 << 20


def write_range(
    vault: Vault, entry: Entry, output: BinaryIO, start: int = 0, end: Optional[int] = None
) -> None:
    """Write a file's bytes from `start` up to `end`, None for all the rest; holes as zeros.

    Raises VaultError: 26 at the first bad block, after all before it is written.
    """
    name = printable(entry.path or b"/")
    if entry.kind != stat.S_IFREG:
        raise VaultError(f"{name}: it is no file, but a {TYPES[entry.kind]}")

    def bad(block: int, problem: str) -> NoReturn:
        raise VaultError(f"{name}: block {block}: {problem}", EXIT_DAMAGE)

    try:
        file = vault.open(entry)
    except Lost as error:
        raise VaultError(f"{name}: {error}", code_of(error))
    with file:
        end = file.size if end is None else min(end, file.size)
        position = start
        for offset, data in file.pieces(start, end, bad):
            _write_zeros(output, offset - position)
            output.write(data)
            position = offset + len(data)
        _write_zeros(output, end - position)


def _write_zeros(output: BinaryIO, count: int) -> None:
    while count > 0:
        output.write(bytes(min(count, _PIECE)))
        count -= _PIECE
