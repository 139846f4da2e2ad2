"""The FUSE protocol of Linux, version 7.45: numbers and layouts, and nothing else.

Source: ``include/uapi/linux/fuse.h`` of the kernel. What only virtiofs (DAX mappings) and io_uring
use is left out.

Names are C's, less the prefix ``FUSE_`` or ``fuse_``; INIT flags get the prefix ``INIT_``.

Each structure is a ``struct.Struct`` in native byte order with standard sizes, exactly as long as
C's. The comment above it starts with C's name and lists the fields in the order in which unpack
returns and pack takes them; ``attr.*`` stands for all fields of ATTR, and so on. What C calls
padding, dummy, unused, spare or reserved is skipped (``x`` in the format) and packed as zeros.

Two differences from the letter of the header, both in favour of what the kernel means: the seconds
of a time are signed, although declared unsigned, because the kernel puts a time64_t in them (dates
before 1970); so is the offset of LSEEK_IN, which is a loff_t.

Names in a request follow its structure and end with a NUL byte.
"""

import enum
import os
from struct import Struct
from typing import NamedTuple

KERNEL_VERSION = 7
KERNEL_MINOR_VERSION = 45

# The node id of the root directory.
ROOT_ID = 1

# The smallest buffer that read(2) of /dev/fuse accepts.
MIN_READ_BUFFER = 8192


class Opcode(enum.IntEnum):
    """What a request asks for: the field ``opcode`` of IN_HEADER.

    Without the two byte-swapped INIT codes that the header reserves and that are never sent.
    """

    LOOKUP = 1
    FORGET = 2  # has no reply
    GETATTR = 3
    SETATTR = 4
    READLINK = 5
    SYMLINK = 6
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    SETXATTR = 21
    GETXATTR = 22
    LISTXATTR = 23
    REMOVEXATTR = 24
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    FSYNCDIR = 30
    GETLK = 31
    SETLK = 32
    SETLKW = 33
    ACCESS = 34
    CREATE = 35
    INTERRUPT = 36  # is answered only with EAGAIN (send it again) or ENOSYS (send no more)
    BMAP = 37
    DESTROY = 38
    IOCTL = 39
    POLL = 40
    NOTIFY_REPLY = 41  # has no reply: it is the kernel's answer to NOTIFY_RETRIEVE
    BATCH_FORGET = 42  # has no reply
    FALLOCATE = 43
    READDIRPLUS = 44
    RENAME2 = 45
    LSEEK = 46
    COPY_FILE_RANGE = 47
    SETUPMAPPING = 48
    REMOVEMAPPING = 49
    SYNCFS = 50
    TMPFILE = 51
    STATX = 52
    COPY_FILE_RANGE_64 = 53
    CUSE_INIT = 4096


# --- Flags, by the field that holds them ---------------------------------------------------------

# INIT_IN and INIT_OUT, flags | flags2 << 32. flags2 counts only where INIT_EXT is set in flags.
INIT_ASYNC_READ = 1 << 0
INIT_POSIX_LOCKS = 1 << 1
INIT_FILE_OPS = 1 << 2
INIT_ATOMIC_O_TRUNC = 1 << 3
INIT_EXPORT_SUPPORT = 1 << 4
INIT_BIG_WRITES = 1 << 5
INIT_DONT_MASK = 1 << 6
INIT_SPLICE_WRITE = 1 << 7
INIT_SPLICE_MOVE = 1 << 8
INIT_SPLICE_READ = 1 << 9
INIT_FLOCK_LOCKS = 1 << 10
INIT_HAS_IOCTL_DIR = 1 << 11
INIT_AUTO_INVAL_DATA = 1 << 12
INIT_DO_READDIRPLUS = 1 << 13
INIT_READDIRPLUS_AUTO = 1 << 14
INIT_ASYNC_DIO = 1 << 15
INIT_WRITEBACK_CACHE = 1 << 16
INIT_NO_OPEN_SUPPORT = 1 << 17
INIT_PARALLEL_DIROPS = 1 << 18
INIT_HANDLE_KILLPRIV = 1 << 19
INIT_POSIX_ACL = 1 << 20
INIT_ABORT_ERROR = 1 << 21
INIT_MAX_PAGES = 1 << 22
INIT_CACHE_SYMLINKS = 1 << 23
INIT_NO_OPENDIR_SUPPORT = 1 << 24
INIT_EXPLICIT_INVAL_DATA = 1 << 25
INIT_MAP_ALIGNMENT = 1 << 26
INIT_SUBMOUNTS = 1 << 27
INIT_HANDLE_KILLPRIV_V2 = 1 << 28
INIT_SETXATTR_EXT = 1 << 29
INIT_EXT = 1 << 30  # C: FUSE_INIT_EXT
INIT_SECURITY_CTX = 1 << 32
INIT_HAS_INODE_DAX = 1 << 33
INIT_CREATE_SUPP_GROUP = 1 << 34
INIT_HAS_EXPIRE_ONLY = 1 << 35
INIT_DIRECT_IO_ALLOW_MMAP = 1 << 36
INIT_PASSTHROUGH = 1 << 37
INIT_NO_EXPORT_SUPPORT = 1 << 38
INIT_HAS_RESEND = 1 << 39
INIT_ALLOW_IDMAP = 1 << 40
INIT_OVER_IO_URING = 1 << 41
INIT_REQUEST_TIMEOUT = 1 << 42

# IN_HEADER.unique: the request was sent before (INIT_HAS_RESEND).
UNIQUE_RESEND = 1 << 63

# IN_HEADER.uid and gid: the caller has no id in this mount (INIT_ALLOW_IDMAP).
INVALID_UIDGID = 0xFFFFFFFF

# ATTR.flags
ATTR_SUBMOUNT = 1 << 0
ATTR_DAX = 1 << 1

# SETATTR_IN.valid
FATTR_MODE = 1 << 0
FATTR_UID = 1 << 1
FATTR_GID = 1 << 2
FATTR_SIZE = 1 << 3
FATTR_ATIME = 1 << 4
FATTR_MTIME = 1 << 5
FATTR_FH = 1 << 6
FATTR_ATIME_NOW = 1 << 7
FATTR_MTIME_NOW = 1 << 8
FATTR_LOCKOWNER = 1 << 9
FATTR_CTIME = 1 << 10
FATTR_KILL_SUIDGID = 1 << 11

# GETATTR_IN.getattr_flags, STATX_IN.getattr_flags: the field fh is valid.
GETATTR_FH = 1 << 0

# OPEN_IN.open_flags, CREATE_IN.open_flags
OPEN_KILL_SUIDGID = 1 << 0

# OPEN_OUT.open_flags
FOPEN_DIRECT_IO = 1 << 0
FOPEN_KEEP_CACHE = 1 << 1
FOPEN_NONSEEKABLE = 1 << 2
FOPEN_CACHE_DIR = 1 << 3
FOPEN_STREAM = 1 << 4
FOPEN_NOFLUSH = 1 << 5
FOPEN_PARALLEL_DIRECT_WRITES = 1 << 6
FOPEN_PASSTHROUGH = 1 << 7

# RELEASE_IN.release_flags
RELEASE_FLUSH = 1 << 0
RELEASE_FLOCK_UNLOCK = 1 << 1

# READ_IN.read_flags: the field lock_owner is valid. Bit 0 is not used.
READ_LOCKOWNER = 1 << 1

# WRITE_IN.write_flags. WRITE_CACHE: written back from the page cache, the file handle is a guess.
WRITE_CACHE = 1 << 0
WRITE_LOCKOWNER = 1 << 1
WRITE_KILL_SUIDGID = 1 << 2

# FSYNC_IN.fsync_flags
FSYNC_FDATASYNC = 1 << 0

# LK_IN.lk_flags: a flock(2) lock rather than a POSIX one.
LK_FLOCK = 1 << 0

# SETXATTR_IN.setxattr_flags. SETXATTR_IN.flags holds XATTR_CREATE and XATTR_REPLACE.
SETXATTR_ACL_KILL_SGID = 1 << 0

# IOCTL_IN.flags and IOCTL_OUT.flags
IOCTL_COMPAT = 1 << 0
IOCTL_UNRESTRICTED = 1 << 1
IOCTL_RETRY = 1 << 2
IOCTL_32BIT = 1 << 3
IOCTL_DIR = 1 << 4
IOCTL_COMPAT_X32 = 1 << 5

# The most that IOCTL_OUT.in_iovs and out_iovs may be together.
IOCTL_MAX_IOV = 256

# POLL_IN.flags
POLL_SCHEDULE_NOTIFY = 1 << 0

# NOTIFY_INVAL_ENTRY_OUT.flags
EXPIRE_ONLY = 1 << 0

# EXT_HEADER.type. Up to MAX_NR_SECCTX it is not a type but SECCTX_HEADER.nr_secctx.
MAX_NR_SECCTX = 31
EXT_GROUPS = 32

# OUT_HEADER.error of a notification, whose field unique is 0.
NOTIFY_POLL = 1
NOTIFY_INVAL_INODE = 2
NOTIFY_INVAL_ENTRY = 3
NOTIFY_STORE = 4
NOTIFY_RETRIEVE = 5
NOTIFY_DELETE = 6
NOTIFY_RESEND = 7
NOTIFY_INC_EPOCH = 8
NOTIFY_PRUNE = 9


# --- Headers --------------------------------------------------------------------------------------

# len counts this header, the arguments and the extensions that come after them; total_extlen is
# the length of the extensions in units of 8 bytes (7.38, before that padding).
# fuse_in_header: len, opcode, unique, nodeid, uid, gid, pid, total_extlen
IN_HEADER = Struct("=2I2Q3IH2x")

# error is 0 or a negative errno.
# fuse_out_header: len, error, unique
OUT_HEADER = Struct("=IiQ")


# --- Attributes -----------------------------------------------------------------------------------

_ATTR = "3Q3q10I"
_STATX = "2IQ3IH2x4Q" + 4 * "qI4x" + "4I112x"

# fuse_attr: ino, size, blocks, atime, mtime, ctime, atimensec, mtimensec, ctimensec, mode, nlink,
#   uid, gid, rdev, blksize, flags
ATTR = Struct("=" + _ATTR)

# fuse_statx: mask, blksize, attributes, nlink, uid, gid, mode, ino, size, blocks, attributes_mask,
#   atime.tv_sec, atime.tv_nsec, btime.tv_sec, btime.tv_nsec, ctime.tv_sec, ctime.tv_nsec,
#   mtime.tv_sec, mtime.tv_nsec, rdev_major, rdev_minor, dev_major, dev_minor
STATX = Struct("=" + _STATX)

# GETATTR
# fuse_getattr_in: getattr_flags, fh
GETATTR_IN = Struct("=I4xQ")

# GETATTR, SETATTR
# fuse_attr_out: attr_valid, attr_valid_nsec, attr.*
ATTR_OUT = Struct("=QI4x" + _ATTR)

# fuse_setattr_in: valid, fh, size, lock_owner, atime, mtime, ctime, atimensec, mtimensec,
#   ctimensec, mode, uid, gid
SETATTR_IN = Struct("=I4x3Q3q4I4x2I4x")

# fuse_statx_in: getattr_flags, fh, sx_flags, sx_mask
STATX_IN = Struct("=I4xQ2I")

# fuse_statx_out: attr_valid, attr_valid_nsec, flags, stat.*
STATX_OUT = Struct("=Q2I16x" + _STATX)

# fuse_access_in: mask
ACCESS_IN = Struct("=I4x")


class SetattrIn(NamedTuple):
    """The fields of SETATTR_IN; ``valid`` (FATTR_*) tells which of the others count."""

    valid: int
    fh: int
    size: int
    lock_owner: int
    atime: int
    mtime: int
    ctime: int
    atimensec: int
    mtimensec: int
    ctimensec: int
    mode: int
    uid: int
    gid: int


# --- Names ----------------------------------------------------------------------------------------

# LOOKUP, MKNOD, MKDIR, SYMLINK, LINK; CREATE and TMPFILE answer with it and OPEN_OUT after it.
# nodeid 0: there is no such name, to be remembered for entry_valid.
# fuse_entry_out: nodeid, generation, entry_valid, attr_valid, entry_valid_nsec, attr_valid_nsec,
#   attr.*
ENTRY_OUT = Struct("=4Q2I" + _ATTR)

# fuse_forget_in: nlookup
FORGET_IN = Struct("=Q")

# Followed by count times FORGET_ONE.
# fuse_batch_forget_in: count
BATCH_FORGET_IN = Struct("=I4x")

# fuse_forget_one: nodeid, nlookup
FORGET_ONE = Struct("=2Q")

# Followed by the name.
# fuse_mknod_in: mode, rdev, umask
MKNOD_IN = Struct("=3I4x")

# Followed by the name.
# fuse_mkdir_in: mode, umask
MKDIR_IN = Struct("=2I")

# Followed by the old and the new name.
# fuse_rename_in: newdir
RENAME_IN = Struct("=Q")

# Followed by the old and the new name.
# fuse_rename2_in: newdir, flags
RENAME2_IN = Struct("=QI4x")

# The header's nodeid is the new name's directory. Followed by the new name.
# fuse_link_in: oldnodeid
LINK_IN = Struct("=Q")


# --- Files ----------------------------------------------------------------------------------------

# OPEN, OPENDIR
# fuse_open_in: flags, open_flags
OPEN_IN = Struct("=2I")

# CREATE, TMPFILE. Followed by the name.
# fuse_create_in: flags, mode, umask, open_flags
CREATE_IN = Struct("=4I")

# backing_id: from DEV_IOC_BACKING_OPEN, with FOPEN_PASSTHROUGH (7.40, before that padding).
# fuse_open_out: fh, open_flags, backing_id
OPEN_OUT = Struct("=QIi")

# RELEASE, RELEASEDIR
# fuse_release_in: fh, flags, release_flags, lock_owner
RELEASE_IN = Struct("=Q2IQ")

# fuse_flush_in: fh, lock_owner
FLUSH_IN = Struct("=Q8xQ")

# READ, READDIR, READDIRPLUS
# fuse_read_in: fh, offset, size, read_flags, lock_owner, flags
READ_IN = Struct("=2Q2IQI4x")

# Followed by the data.
# fuse_write_in: fh, offset, size, write_flags, lock_owner, flags
WRITE_IN = Struct("=2Q2IQI4x")

# WRITE; COPY_FILE_RANGE too, which therefore cannot report 4 GiB or more
# fuse_write_out: size
WRITE_OUT = Struct("=I4x")

# FSYNC, FSYNCDIR
# fuse_fsync_in: fh, fsync_flags
FSYNC_IN = Struct("=QI4x")

# fuse_fallocate_in: fh, offset, length, mode
FALLOCATE_IN = Struct("=3QI4x")

# fuse_lseek_in: fh, offset, whence
LSEEK_IN = Struct("=QqI4x")

# fuse_lseek_out: offset
LSEEK_OUT = Struct("=Q")

# COPY_FILE_RANGE, COPY_FILE_RANGE_64. The header's nodeid is the source.
# fuse_copy_file_range_in: fh_in, off_in, nodeid_out, fh_out, off_out, len, flags
COPY_FILE_RANGE_IN = Struct("=7Q")

# COPY_FILE_RANGE_64 only
# fuse_copy_file_range_out: bytes_copied
COPY_FILE_RANGE_OUT = Struct("=Q")

# GETLK, SETLK, SETLKW. lk.end is the last byte of the range, not the one after it.
# fuse_lk_in: fh, owner, lk.start, lk.end, lk.type, lk.pid, lk_flags
LK_IN = Struct("=4Q3I4x")

# fuse_lk_out: lk.start, lk.end, lk.type, lk.pid
LK_OUT = Struct("=2Q2I")

# fuse_bmap_in: block, blocksize
BMAP_IN = Struct("=QI4x")

# fuse_bmap_out: block
BMAP_OUT = Struct("=Q")

# Followed by in_size bytes of data.
# fuse_ioctl_in: fh, flags, cmd, arg, in_size, out_size
IOCTL_IN = Struct("=Q2IQ2I")

# Followed by the data, or with IOCTL_RETRY by in_iovs + out_iovs times IOCTL_IOVEC.
# fuse_ioctl_out: result, flags, in_iovs, out_iovs
IOCTL_OUT = Struct("=i3I")

# fuse_ioctl_iovec: base, len
IOCTL_IOVEC = Struct("=2Q")

# fuse_poll_in: fh, kh, flags, events
POLL_IN = Struct("=2Q2I")

# fuse_poll_out: revents
POLL_OUT = Struct("=I4x")


class LockIn(NamedTuple):
    """The fields of LK_IN."""

    fh: int
    owner: int
    start: int
    end: int
    type: int
    pid: int
    lk_flags: int


class IoctlIn(NamedTuple):
    """The fields of IOCTL_IN."""

    fh: int
    flags: int
    cmd: int
    arg: int
    in_size: int
    out_size: int


class CopyFileRangeIn(NamedTuple):
    """The fields of COPY_FILE_RANGE_IN."""

    fh_in: int
    off_in: int
    nodeid_out: int
    fh_out: int
    off_out: int
    len: int
    flags: int


# --- Directories ----------------------------------------------------------------------------------

# Followed by the name without NUL, then zeros up to record_align() of the whole.
# fuse_dirent: ino, off, namelen, type
DIRENT = Struct("=2Q2I")

# Followed like DIRENT.
# fuse_direntplus: entry_out.*, dirent.*
DIRENTPLUS = Struct("=4Q2I" + _ATTR + "2Q2I")


def record_align(size: int) -> int:
    """Return size in bytes, rounded up to a multiple of 8 (C: FUSE_REC_ALIGN)."""
    return (size + 7) & ~7


# --- Extended attributes --------------------------------------------------------------------------

# Followed by the name and the value. Sent when INIT_SETXATTR_EXT was agreed on.
# fuse_setxattr_in: size, flags, setxattr_flags
SETXATTR_IN = Struct("=3I4x")

# Followed by the name and the value. Sent otherwise.
# fuse_setxattr_in, first 8 bytes: size, flags
SETXATTR_IN_COMPAT = Struct("=2I")

# GETXATTR, followed by the name; LISTXATTR. size 0 asks for GETXATTR_OUT in place of the data.
# fuse_getxattr_in: size
GETXATTR_IN = Struct("=I4x")

# fuse_getxattr_out: size
GETXATTR_OUT = Struct("=I4x")


# --- The filesystem and the session ---------------------------------------------------------------

# fuse_statfs_out: st.blocks, st.bfree, st.bavail, st.files, st.ffree, st.bsize, st.namelen,
#   st.frsize
STATFS_OUT = Struct("=5Q3I28x")

# fuse_syncfs_in: padding
SYNCFS_IN = Struct("=Q")

# fuse_interrupt_in: unique
INTERRUPT_IN = Struct("=Q")

# 7.36 and newer
# fuse_init_in: major, minor, max_readahead, flags, flags2
INIT_IN = Struct("=5I44x")

# Before 7.36
# fuse_init_in, first 16 bytes: major, minor, max_readahead, flags
INIT_IN_COMPAT = Struct("=4I")

# time_gran is in nanoseconds, request_timeout in seconds.
# fuse_init_out: major, minor, max_readahead, flags, max_background, congestion_threshold,
#   max_write, time_gran, max_pages, map_alignment, flags2, max_stack_depth, request_timeout
INIT_OUT = Struct("=4I2H2I2H2IH22x")

# A kernel before 7.5, and one before 7.23, takes only so many bytes of INIT_OUT.
COMPAT_INIT_OUT_SIZE = 8
COMPAT_22_INIT_OUT_SIZE = 24


class InitIn(NamedTuple):
    """The fields of INIT_IN, and of INIT_IN_COMPAT as ``InitIn(*fields)``."""

    major: int
    minor: int
    max_readahead: int
    flags: int
    flags2: int = 0


class InitOut(NamedTuple):
    """The fields of INIT_OUT."""

    major: int
    minor: int
    max_readahead: int
    flags: int
    max_background: int
    congestion_threshold: int
    max_write: int
    time_gran: int
    max_pages: int
    map_alignment: int
    flags2: int
    max_stack_depth: int
    request_timeout: int


# --- Extensions of a request that creates a name --------------------------------------------------

# size counts this header, what belongs to it and the padding up to record_align().
# fuse_ext_header: size, type
EXT_HEADER = Struct("=2I")

# After EXT_HEADER of type EXT_GROUPS (INIT_CREATE_SUPP_GROUP). Followed by nr_groups times a
# 32-bit group id.
# fuse_supp_groups: nr_groups
SUPP_GROUPS = Struct("=I")

# INIT_SECURITY_CTX. Followed by nr_secctx times SECCTX; size as in EXT_HEADER.
# fuse_secctx_header: size, nr_secctx
SECCTX_HEADER = Struct("=2I")

# Followed by the attribute's name and size bytes of its value.
# fuse_secctx: size
SECCTX = Struct("=I4x")


# --- Notifications: OUT_HEADER with unique 0, then ------------------------------------------------

# fuse_notify_poll_wakeup_out: kh
NOTIFY_POLL_WAKEUP_OUT = Struct("=Q")

# ino is a node id. off below 0: only the attributes; len 0 or less: to the end.
# fuse_notify_inval_inode_out: ino, off, len
NOTIFY_INVAL_INODE_OUT = Struct("=Q2q")

# Followed by the name and a NUL that namelen does not count.
# fuse_notify_inval_entry_out: parent, namelen, flags
NOTIFY_INVAL_ENTRY_OUT = Struct("=Q2I")

# Followed by the name and a NUL that namelen does not count.
# fuse_notify_delete_out: parent, child, namelen
NOTIFY_DELETE_OUT = Struct("=2QI4x")

# Followed by the data.
# fuse_notify_store_out: nodeid, offset, size
NOTIFY_STORE_OUT = Struct("=2QI4x")

# fuse_notify_retrieve_out: notify_unique, nodeid, offset, size
NOTIFY_RETRIEVE_OUT = Struct("=3QI4x")

# The request NOTIFY_REPLY. Followed by the data.
# fuse_notify_retrieve_in: offset, size
NOTIFY_RETRIEVE_IN = Struct("=8xQI20x")

# Followed by count times a 64-bit node id.
# fuse_notify_prune_out: count
NOTIFY_PRUNE_OUT = Struct("=I12x")


# --- ioctl(2) on /dev/fuse ------------------------------------------------------------------------

# fuse_backing_map: fd, flags
BACKING_MAP = Struct("=iI8x")

# arch/*/include/uapi/asm/ioctl.h: where the direction lies in the number and its values.
_MACHINE = os.uname().machine
if _MACHINE.startswith(("alpha", "mips", "ppc", "sparc")):
    _IOC_NONE, _IOC_READ, _IOC_WRITE = 1 << 29, 2 << 29, 4 << 29
elif _MACHINE.startswith("parisc"):
    _IOC_NONE, _IOC_READ, _IOC_WRITE = 0, 1 << 30, 2 << 30
else:
    _IOC_NONE, _IOC_READ, _IOC_WRITE = 0, 2 << 30, 1 << 30

_DEV_IOC_MAGIC = 229 << 8

# The argument is another /dev/fuse descriptor, as a 32-bit integer.
DEV_IOC_CLONE = _IOC_READ | 4 << 16 | _DEV_IOC_MAGIC | 0
# The argument is a BACKING_MAP; returns the backing id.
DEV_IOC_BACKING_OPEN = _IOC_WRITE | BACKING_MAP.size << 16 | _DEV_IOC_MAGIC | 1
# The argument is a backing id, as a 32-bit integer.
DEV_IOC_BACKING_CLOSE = _IOC_WRITE | 4 << 16 | _DEV_IOC_MAGIC | 2
# No argument; before mount(2), which then waits for the answer to INIT.
DEV_IOC_SYNC_INIT = _IOC_NONE | _DEV_IOC_MAGIC | 3
