"""What a request that creates a name carries behind its arguments (INIT_CREATE_SUPP_GROUP and others)."""

import struct
from typing import Tuple

from fusepy_legacy.kernel import abi


def supplementary_groups(extensions: bytes) -> Tuple[int, ...]:
    """Return those groups of the caller that the kernel names, in most cases none.

    It names the group of the directory when the caller is a member by a supplementary group, which is all
    that a new file's group and set-group-id depend on (fs/fuse/dir.c, get_create_supp_group). Raises
    struct.error when the extensions are cut short.
    """
    position = 0
    while position < len(extensions):
        size, kind = abi.EXT_HEADER.unpack_from(extensions, position)
        body = position + abi.EXT_HEADER.size
        if kind == abi.EXT_GROUPS:
            (count,) = abi.SUPP_GROUPS.unpack_from(extensions, body)
            groups: Tuple[int, ...] = struct.unpack_from(
                f"={count}I", extensions, body + abi.SUPP_GROUPS.size
            )
            return groups
        position += max(size, abi.EXT_HEADER.size)
    return ()
