"""fusepy_legacy.kernel.extensions, byte by byte: the caller's groups with a request that creates."""

import os
import struct
from typing import List, Sequence

import pytest

from fusepy_legacy.kernel.abi import INIT_CREATE_SUPP_GROUP
from fusepy_legacy.kernel.extensions import supplementary_groups
from tests.kernel_side import DIRECTORY, Kernel, error_of
from tests.wire import u32

GROUPS = (
    u32(16)  # fuse_ext_header.size
    + u32(32)  # fuse_ext_header.type: FUSE_EXT_GROUPS
    + u32(1)  # fuse_supp_groups.nr_groups
    + u32(4711)  # fuse_supp_groups.groups[0]
)
SECURITY_CONTEXT = (
    u32(16)  # fuse_secctx_header.size
    + u32(1)  # fuse_secctx_header.nr_secctx, where another extension has its type
    + bytes(8)
)


@pytest.mark.parametrize(
    ("extensions", "groups"),
    [
        (b"", ()),
        (GROUPS, (4711,)),
        (SECURITY_CONTEXT, ()),
        (SECURITY_CONTEXT + GROUPS, (4711,)),
        (u32(24) + u32(32) + u32(3) + u32(1) + u32(2) + u32(4294967294), (1, 2, 4294967294)),
        (u32(0) + u32(99) + GROUPS, (4711,)),
    ],
)
def test_the_groups_are_found(extensions: bytes, groups: Sequence[int]) -> None:
    """Alone, behind another extension, or not at all; a size of 0 is no endless loop."""
    assert supplementary_groups(extensions) == groups


@pytest.mark.parametrize("length", [4, 8, 12])
def test_what_is_cut_short_is_an_error(length: int) -> None:
    """Nothing is read beyond the end."""
    with pytest.raises(struct.error):
        supplementary_groups(GROUPS[:length])


@pytest.mark.parametrize(
    ("flags", "extensions", "expected"),
    [
        (INIT_CREATE_SUPP_GROUP, GROUPS, (4711,)),
        (INIT_CREATE_SUPP_GROUP, b"", ()),
        (0, b"", os.getgroups()),
    ],
)
def test_a_handler_learns_the_groups(
    flags: int, extensions: bytes, expected: Sequence[int]
) -> None:
    """All those of the process when the kernel does not say, and nothing of the request before."""
    seen: List[Sequence[int]] = []
    kernel = Kernel(mkdir=lambda *arguments: seen.append(kernel.engine.groups()), getattr=DIRECTORY)
    kernel.engine.agreement = kernel.engine.agreement._replace(flags=flags)
    answer = kernel.sends(9, u32(0o755) + u32(0) + b"directory\0", extensions=extensions)
    assert error_of(answer) == 0
    assert seen == [expected]
