"""System calls that the oldest supported Python has no function for, through libc and ctypes.

Each function takes and returns what its man page says (section 2), raises OSError with the errno and the
path, and answers ENOSYS where the kernel, libc, or this table for the machine at hand does not know the call.
ctypes releases the GIL around each call, and keeps errno per thread.
"""

import ctypes
import errno
import functools
import os
import platform
import struct
from typing import Any, Callable, Dict, NamedTuple, NoReturn, Optional, Sequence, Tuple

RESOLVE_NO_MAGICLINKS = 0x02  # linux/openat2.h
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08

RENAME_NOREPLACE = 0x1  # linux/fs.h
RENAME_EXCHANGE = 0x2

UTIME_NOW = (1 << 30) - 1  # linux/stat.h
UTIME_OMIT = (1 << 30) - 2
_STATX_BTIME = 0x800
_STATX_SIZE = 256  # bytes of struct statx: its mask comes first, stx_btime is in the middle
_STATX_BTIME_AT = 80

CAP_DAC_OVERRIDE = 1  # linux/capability.h
CAP_FSETID = 4
CLONE_FS = 0x200  # linux/sched.h
_OPEN_HOW = struct.Struct("QQQ")  # linux/openat2.h
_CAPABILITY_HEADER = struct.pack("Ii", 0x20080522, 0)  # version 3, the calling thread
_AT_FDCWD = -100  # linux/fcntl.h
_AT_EMPTY_PATH = 0x1000


class _Numbers(NamedTuple):
    """The numbers of the calls that libc offers no function for (asm/unistd.h of each machine)."""

    getdents64: int
    setfsuid: int
    setfsgid: int
    setgroups: int
    capget: int
    capset: int
    renameat2: int


# openat2 came after all machines had agreed on one table: linux/include/uapi/asm-generic/unistd.h.
_OPENAT2 = 437
_GENERIC = _Numbers(61, 151, 152, 159, 90, 91, 276)
_NUMBERS: Dict[str, _Numbers] = {
    "x86_64": _Numbers(217, 122, 123, 116, 125, 126, 316),
    "i686": _Numbers(220, 215, 216, 206, 184, 185, 353),
    "aarch64": _GENERIC,
    "riscv64": _GENERIC,
    "loongarch64": _GENERIC,
    "armv7l": _Numbers(217, 215, 216, 206, 184, 185, 382),
    "ppc64le": _Numbers(202, 138, 139, 81, 183, 184, 357),
    "s390x": _Numbers(220, 215, 216, 206, 184, 185, 347),
}

_NO_ID = 0xFFFFFFFF  # setfsuid(2): an id that is never valid only asks for the one in force


class _Timespec(ctypes.Structure):
    _fields_ = (("tv_sec", ctypes.c_long), ("tv_nsec", ctypes.c_long))


class _Syscalls:
    """libc with the calls' prototypes, and this machine's call numbers."""

    def __init__(self) -> None:
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.syscall = self.libc.syscall
        self.syscall.restype = ctypes.c_long
        self.numbers = _NUMBERS.get(platform.machine())
        # A prototype for each call: ctypes then passes Python values without wrapping each by hand.
        prototype = ctypes.CFUNCTYPE(
            ctypes.c_long,
            ctypes.c_long,
            ctypes.c_int,
            ctypes.c_char_p,
            ctypes.c_char_p,
            ctypes.c_size_t,
            use_errno=True,
        )
        self.openat2 = prototype(("syscall", self.libc))
        capabilities = ctypes.CFUNCTYPE(
            ctypes.c_long, ctypes.c_long, ctypes.c_char_p, ctypes.c_void_p, use_errno=True
        )
        self.capabilities = capabilities(("syscall", self.libc))
        set_id = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_long, ctypes.c_uint)
        self.set_id = set_id(("syscall", self.libc))
        self.utimensat = self.function("utimensat")
        self.utimensat.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int)
        self.copy_file_range = self.function("copy_file_range")
        self.copy_file_range.restype = ctypes.c_ssize_t
        self.copy_file_range.argtypes = (
            ctypes.c_int,
            ctypes.c_void_p,
            ctypes.c_int,
            ctypes.c_void_p,
            ctypes.c_size_t,
            ctypes.c_uint,
        )
        self.futimens = self.function("futimens")
        self.futimens.argtypes = (ctypes.c_int, ctypes.c_void_p)

    def function(self, *names: str) -> Any:
        """Return the first of these functions that libc has; for none, one that fails with ENOSYS.

        glibc has syncfs from 2.14 on, and copy_file_range from 2.27 on (their man pages).
        """
        for name in names:
            if hasattr(self.libc, name):
                return getattr(self.libc, name)

        def missing(*arguments: object) -> int:
            ctypes.set_errno(errno.ENOSYS)
            return -1

        return missing

    def number(self, name: str) -> int:
        """Return the number of a call on this machine; ENOSYS where the table has none."""
        if self.numbers is None:
            raise OSError(errno.ENOSYS, f"{name}: no call number for {platform.machine()}")
        return int(getattr(self.numbers, name))


@functools.lru_cache(maxsize=None)
def _calls() -> _Syscalls:
    """Load libc at the first call, not at import."""
    return _Syscalls()


def _fail(path: Optional[str] = None) -> NoReturn:
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number), path)


def openat2(directory: int, path: str, flags: int, mode: int, resolve: int) -> int:
    """Open `path` relative to the descriptor `directory` (openat2(2), Linux 5.6); return a descriptor.

    `mode` must be 0 unless `flags` create a file.
    """
    how = _OPEN_HOW.pack(flags, mode, resolve)
    descriptor: int = _calls().openat2(_OPENAT2, directory, os.fsencode(path), how, _OPEN_HOW.size)
    if descriptor < 0:
        _fail(path)
    return descriptor


def getdents64(descriptor: int, buffer: ctypes.Array) -> int:  # type: ignore[type-arg]
    """Fill `buffer` with linux_dirent64 records (getdents(2)); return their length, 0 at the end."""
    length = _calls().syscall(
        ctypes.c_long(_calls().number("getdents64")),
        ctypes.c_int(descriptor),
        buffer,
        ctypes.c_size_t(len(buffer)),
    )
    if length < 0:
        _fail()
    return int(length)


def renameat2(old_directory: int, old: str, new_directory: int, new: str, flags: int) -> None:
    """Rename with RENAME_ flags (renameat2(2), Linux 3.15)."""
    result = _calls().syscall(
        ctypes.c_long(_calls().number("renameat2")),
        ctypes.c_int(old_directory),
        ctypes.c_char_p(os.fsencode(old)),
        ctypes.c_int(new_directory),
        ctypes.c_char_p(os.fsencode(new)),
        ctypes.c_uint(flags),
    )
    if result < 0:
        _fail(old)


def _timespecs(
    atime: "Timestamp", mtime: "Timestamp", path: Optional[str] = None
) -> "ctypes.Array[_Timespec]":
    return (_Timespec * 2)(_timespec(atime, path), _timespec(mtime, path))


def _timespec(time: "Timestamp", path: Optional[str]) -> _Timespec:
    """Return a time as libc takes it; EOVERFLOW where a long is too short, as it is after 2038 on i686."""
    timespec = _Timespec(time.tv_sec, time.tv_nsec)
    if timespec.tv_sec != time.tv_sec:  # ctypes has cut it off
        raise OSError(errno.EOVERFLOW, os.strerror(errno.EOVERFLOW), path)
    return timespec


class Timestamp(NamedTuple):
    """A struct timespec: seconds, and nanoseconds or one of UTIME_NOW and UTIME_OMIT."""

    tv_sec: int
    tv_nsec: int


def utimensat(path: str, atime: Timestamp, mtime: Timestamp) -> None:
    """Set the times of the file that a path leads to (utimensat(2))."""
    times = _timespecs(atime, mtime, path)
    if _calls().utimensat(_AT_FDCWD, os.fsencode(path), times, 0) < 0:
        _fail(path)


def futimens(descriptor: int, atime: Timestamp, mtime: Timestamp) -> None:
    """Set the times of an open file (futimens(3))."""
    if _calls().futimens(descriptor, _timespecs(atime, mtime)) < 0:
        _fail()


def birthtime(descriptor: int) -> "Optional[Timestamp]":
    """Return when an open file was made, None if that is not known (statx(2), Linux 4.11)."""
    buffer = ctypes.create_string_buffer(_STATX_SIZE)
    if _calls().function("statx")(descriptor, b"", _AT_EMPTY_PATH, _STATX_BTIME, buffer) < 0:
        if ctypes.get_errno() == errno.ENOSYS:
            return None
        _fail()
    if not struct.unpack_from("=I", buffer)[0] & _STATX_BTIME:
        return None
    return Timestamp(*struct.unpack_from("=qI", buffer, _STATX_BTIME_AT))


def setfsuid(uid: int) -> None:
    """Set the calling thread's filesystem user id (setfsuid(2)); EPERM when that did not take effect."""
    _set_filesystem_id("setfsuid", uid)


def setfsgid(gid: int) -> None:
    """Set the calling thread's filesystem group id (setfsgid(2)); EPERM when that did not take effect."""
    _set_filesystem_id("setfsgid", gid)


def _set_filesystem_id(name: str, number: int) -> None:
    calls = _calls()
    call = calls.number(name)
    calls.set_id(call, number)
    # The call has no error return: only asking again tells whether it worked (setfsuid(2), BUGS).
    if calls.set_id(call, _NO_ID) & _NO_ID != number:
        raise OSError(errno.EPERM, f"{name}({number}) was refused")


def setgroups(groups: Sequence[int]) -> None:
    """Set the calling thread's supplementary groups; glibc's function would change all threads (nptl(7))."""
    array = (ctypes.c_uint * len(groups))(*groups)
    call = ctypes.c_long(_calls().number("setgroups"))
    if _calls().syscall(call, ctypes.c_size_t(len(groups)), array) < 0:
        _fail()


def raise_capability(capability: int) -> None:
    """Make a permitted capability effective in the calling thread (capset(2)); EPERM if not permitted."""
    data = _capget()
    data[0] |= 1 << capability
    capset(bytes(data))


class Capabilities(NamedTuple):
    """A thread's capabilities below 32 as bits, and the others' words as they are: capget(2)."""

    effective: int
    permitted: int
    inheritable: int
    more: Tuple[int, ...]

    def packed(self) -> bytes:
        """Return them as `capset` takes them."""
        return struct.pack("6I", *self[:3], *self.more)


def get_capabilities() -> Capabilities:
    """Return the calling thread's capabilities (capget(2))."""
    effective, permitted, inheritable, *more = _capget()
    return Capabilities(effective, permitted, inheritable, tuple(more))


def _capget() -> "ctypes.Array[ctypes.c_uint]":
    calls = _calls()
    data = (ctypes.c_uint * 6)()
    if calls.capabilities(calls.number("capget"), _CAPABILITY_HEADER, data) < 0:
        _fail()
    return data


def capset(packed: bytes) -> None:
    """Set the calling thread's capabilities (capset(2)); EPERM for what is not permitted."""
    capset_function()(packed)


def capset_function() -> Callable[[bytes], None]:
    """Return `capset` for who calls it with each open file: everything but its argument looked up."""
    call, number, header = _calls().capabilities, _calls().number("capset"), _CAPABILITY_HEADER

    def capset(packed: bytes) -> None:
        if call(number, header, packed) < 0:
            _fail()

    return capset


def unshare(flags: int) -> None:
    """Give the calling thread its own copy of what CLONE_ flags name (unshare(2))."""
    if _calls().function("unshare")(flags) < 0:
        _fail()


def fallocate(descriptor: int, mode: int, offset: int, length: int) -> None:
    """Reserve, punch or zero a range of a file (fallocate(2))."""
    # In glibc for 32-bit machines, off_t has 32 bits without the 64 (bits/fcntl-linux.h); musl has one only.
    function = _calls().function("fallocate64", "fallocate")
    result = function(descriptor, mode, ctypes.c_int64(offset), ctypes.c_int64(length))
    if result < 0:
        _fail()


def copy_file_range(
    source: int, source_offset: int, target: int, target_offset: int, length: int
) -> int:
    """Copy between files; return how many bytes (copy_file_range(2); os has it from Python 3.8 on)."""
    copied = _calls().copy_file_range(
        source,
        ctypes.byref(ctypes.c_int64(source_offset)),
        target,
        ctypes.byref(ctypes.c_int64(target_offset)),
        length,
        0,
    )
    if copied < 0:
        _fail()
    return int(copied)


def syncfs(descriptor: int) -> None:
    """Write back the filesystem that an open file is on (syncfs(2))."""
    if _calls().function("syncfs")(descriptor) < 0:
        _fail()


def fanotify_init(flags: int, event_flags: int) -> int:
    """Return a descriptor for events (fanotify_init(2)); EINVAL for flags newer than the kernel."""
    descriptor = _calls().function("fanotify_init")(
        ctypes.c_uint(flags), ctypes.c_uint(event_flags)
    )
    if descriptor < 0:
        _fail()
    return int(descriptor)


def fanotify_mark(descriptor: int, flags: int, mask: int, directory: int) -> None:
    """Say which events of what `directory` stands for are wanted (fanotify_mark(2))."""
    result = _calls().function("fanotify_mark")(
        descriptor, ctypes.c_uint(flags), ctypes.c_uint64(mask), directory, b"."
    )
    if result < 0:
        _fail()


def open_by_handle_at(mount: int, handle: bytes, flags: int) -> int:
    """Open the file of a `struct file_handle` on the filesystem of `mount` (open_by_handle_at(2)).

    ESTALE: the file is gone.
    """
    descriptor = _calls().function("open_by_handle_at")(mount, ctypes.c_char_p(handle), flags)
    if descriptor < 0:
        _fail()
    return int(descriptor)
