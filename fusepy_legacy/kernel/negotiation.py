"""INIT: what this kernel offers, what this filesystem wants, and what both agree on.

Each flag that a kernel lacks has a fallback: the kernel then does without the request that the flag is for,
or sends an older one.
"""

import errno
from typing import AbstractSet, Dict, NamedTuple, Union

from fusepy_legacy.kernel import abi

PAGE_SIZE = 4096
MAX_WRITE = 1048576  # 256 pages, the kernel's own limit without fs.fuse.max_pages_limit
# Bytes. The kernel takes the lower of this and what the mount has by now (fs/fuse/inode.c,
# process_init_reply), which may be more than what it had when the kernel sent INIT: mounting.py.
READAHEAD = 524288
_MAX_WRITE_BEFORE_MAX_PAGES = 131072  # 32 pages: fs/fuse/fuse_i.h, FUSE_DEFAULT_MAX_PAGES_PER_REQ
OLDEST_MINOR = 23  # Linux 3.15: the first with INIT_OUT as long as today's

# What every filesystem on this engine gets: the engine itself does what these need.
_ALWAYS = (
    abi.INIT_ASYNC_READ
    | abi.INIT_AUTO_INVAL_DATA
    | abi.INIT_BIG_WRITES
    | abi.INIT_DO_READDIRPLUS
    | abi.INIT_READDIRPLUS_AUTO
    | abi.INIT_PARALLEL_DIROPS
    | abi.INIT_ASYNC_DIO
    | abi.INIT_EXPORT_SUPPORT
    | abi.INIT_HANDLE_KILLPRIV_V2
    | abi.INIT_MAX_PAGES
    | abi.INIT_HAS_IOCTL_DIR
    | abi.INIT_SETXATTR_EXT
)

# What a filesystem must ask for, because its handlers see something else then.
WANTED = {
    "atomic_o_trunc": abi.INIT_ATOMIC_O_TRUNC,  # open gets O_TRUNC
    "posix_acl": abi.INIT_POSIX_ACL | abi.INIT_DONT_MASK,  # create gets the umask beside the mode
    "create_supp_group": abi.INIT_CREATE_SUPP_GROUP,  # requests that create say the caller's groups
    "cache_symlinks": abi.INIT_CACHE_SYMLINKS,  # readlink is asked once, and never again
    # For the engine alone:
    "ioctl_dir": 0,  # ioctl is asked for directories too
    "real_inodes": 0,  # a promise: st_dev and st_ino say which file it is
}

# The opposite: what every filesystem gets unless it asks to be without.
UNLESS_WANTED = {
    "readdirplus_always": abi.INIT_READDIRPLUS_AUTO,  # not only where the kernel expects to need it
}


class Agreement(NamedTuple):
    """What was agreed on: the kernel's minor version, all flags in force, and the largest write."""

    minor: int
    flags: int
    max_write: int

    def has(self, flag: int) -> bool:
        """Tell whether all bits of a flag are in force."""
        return self.flags & flag == flag


class Offer(NamedTuple):
    """The answer to INIT, and what it means."""

    reply: bytes
    agreement: Agreement


def negotiate(
    request: abi.InitIn, options: Dict[str, Union[str, bool]], wanted: AbstractSet[str], locks: int
) -> Offer:
    """Answer INIT.

    `wanted` holds names of WANTED and UNLESS_WANTED; `locks` the INIT_POSIX_LOCKS and INIT_FLOCK_LOCKS
    that the filesystem has handlers for. Raises EPROTO for a kernel that is too old.
    """
    if request.major < abi.KERNEL_VERSION or (
        request.major == abi.KERNEL_VERSION and request.minor < OLDEST_MINOR
    ):
        spoken = f"{request.major}.{request.minor}"
        oldest = f"{abi.KERNEL_VERSION}.{OLDEST_MINOR}"
        raise OSError(errno.EPROTO, f"the kernel speaks FUSE {spoken}, and {oldest} is needed")
    if request.major > abi.KERNEL_VERSION:
        # fuse.h: answer with our version; the kernel asks again in it.
        reply = abi.INIT_OUT.pack(abi.KERNEL_VERSION, abi.KERNEL_MINOR_VERSION, *(0,) * 11)
        return Offer(reply, Agreement(0, 0, 0))

    offered = request.flags
    if offered & abi.INIT_EXT:
        offered |= request.flags2 << 32
    want = _wanted_flags(options, wanted, locks)
    flags = want & offered
    if offered & abi.INIT_EXT:
        flags |= abi.INIT_EXT

    limit = MAX_WRITE if flags & abi.INIT_MAX_PAGES else _MAX_WRITE_BEFORE_MAX_PAGES
    max_write = max(PAGE_SIZE, min(int(options.get("max_write", MAX_WRITE)), limit))
    max_background = int(options.get("max_background", 0))
    minor = min(abi.KERNEL_MINOR_VERSION, request.minor)
    reply = abi.INIT_OUT.pack(
        *abi.InitOut(
            major=abi.KERNEL_VERSION,
            minor=minor,
            max_readahead=int(options.get("max_readahead", READAHEAD)),
            flags=flags & 0xFFFFFFFF,
            max_background=max_background,
            congestion_threshold=int(options.get("congestion_threshold", max_background * 3 // 4)),
            max_write=max_write,
            time_gran=1,
            max_pages=(max_write + PAGE_SIZE - 1) // PAGE_SIZE,
            map_alignment=0,
            flags2=flags >> 32,
            max_stack_depth=1 if flags & abi.INIT_PASSTHROUGH else 0,
            request_timeout=0,
        )
    )
    return Offer(reply, Agreement(minor, flags, max_write))


def _wanted_flags(
    options: Dict[str, Union[str, bool]], wanted: AbstractSet[str], locks: int
) -> int:
    flags = _ALWAYS
    for name in wanted:
        flags = flags & ~UNLESS_WANTED[name] if name in UNLESS_WANTED else flags | WANTED[name]
    if "atomic_o_trunc" in options:
        flags |= abi.INIT_ATOMIC_O_TRUNC
    if "writeback_cache" in options:
        flags |= abi.INIT_WRITEBACK_CACHE
    elif "no_kernel_io" not in options:
        flags |= abi.INIT_PASSTHROUGH  # excludes the writeback cache
    if "sync_read" in options:
        flags &= ~abi.INIT_ASYNC_READ
    if "no_remote_lock" in options or "no_remote_posix_lock" in options:
        locks &= ~abi.INIT_POSIX_LOCKS
    if "no_remote_lock" in options or "no_remote_flock" in options:
        locks &= ~abi.INIT_FLOCK_LOCKS
    return flags | locks
