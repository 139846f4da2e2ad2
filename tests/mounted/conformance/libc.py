"""System calls that Python 3.6 has no function for."""

import ctypes
import os
from typing import Any, List, NamedTuple, Optional

import pytest

# linux/falloc.h
FALLOC_FL_KEEP_SIZE = 1
FALLOC_FL_PUNCH_HOLE = 2
FALLOC_FL_ZERO_RANGE = 16

# linux/fs.h
RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2

# linux/stat.h
UTIME_NOW = (1 << 30) - 1
UTIME_OMIT = (1 << 30) - 2

_AT_FDCWD = -100


class _Timespec(ctypes.Structure):
    _fields_ = (("tv_sec", ctypes.c_long), ("tv_nsec", ctypes.c_long))


class _Dirent(ctypes.Structure):
    _fields_ = (
        ("d_ino", ctypes.c_uint64),
        ("d_off", ctypes.c_int64),
        ("d_reclen", ctypes.c_ushort),
        ("d_type", ctypes.c_ubyte),
        ("d_name", ctypes.c_char * 256),
    )


class Entry(NamedTuple):
    """One entry of a directory stream."""

    name: bytes
    type: int


def _function(name: str, result: Any, *arguments: Any) -> Any:
    try:
        function = getattr(ctypes.CDLL(None, use_errno=True), name)
    except AttributeError:
        pytest.skip(f"the C library has no {name}")
    function.restype = result
    function.argtypes = arguments
    return function


def _checked(value: int) -> int:
    if value < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return value


def fallocate(descriptor: int, mode: int, offset: int, length: int) -> None:
    """fallocate(2); posix_fallocate would fall back to writing zeros."""
    integers = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    _checked(_function("fallocate64", ctypes.c_int, *integers)(descriptor, mode, offset, length))


def renameat2(old: os.PathLike, new: os.PathLike, flags: int) -> None:
    """renameat2(2) of two paths."""
    function = _function(
        "renameat2",
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_char_p,
        ctypes.c_int,
        ctypes.c_char_p,
        ctypes.c_uint,
    )
    _checked(function(_AT_FDCWD, os.fsencode(old), _AT_FDCWD, os.fsencode(new), flags))


def copy_file_range(
    source: int, source_offset: int, target: int, target_offset: int, length: int
) -> int:
    """copy_file_range(2) between explicit offsets: the number of bytes copied."""
    function = _function(
        "copy_file_range",
        ctypes.c_ssize_t,
        ctypes.c_int,
        ctypes.POINTER(ctypes.c_int64),
        ctypes.c_int,
        ctypes.POINTER(ctypes.c_int64),
        ctypes.c_size_t,
        ctypes.c_uint,
    )
    start, end = ctypes.c_int64(source_offset), ctypes.c_int64(target_offset)
    return _checked(function(source, ctypes.byref(start), target, ctypes.byref(end), length, 0))


def utimensat(path: os.PathLike, atime_nsec: int, mtime_nsec: int) -> None:
    """utimensat(2) with seconds 0 and these nanoseconds, UTIME_NOW or UTIME_OMIT."""
    function = _function(
        "utimensat", ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int
    )
    times = (_Timespec * 2)(_Timespec(0, atime_nsec), _Timespec(0, mtime_nsec))
    _checked(function(_AT_FDCWD, os.fsencode(path), ctypes.byref(times), 0))


def getxattr_size(path: os.PathLike, name: bytes, size: int) -> int:
    """What getxattr(2) returns with a buffer of the size; os.getxattr finds a fitting one."""
    function = _function(
        "getxattr",
        ctypes.c_ssize_t,
        ctypes.c_char_p,
        ctypes.c_char_p,
        ctypes.c_void_p,
        ctypes.c_size_t,
    )
    return _checked(function(os.fsencode(path), name, ctypes.create_string_buffer(size + 1), size))


def listxattr_size(path: os.PathLike, size: int) -> int:
    """What listxattr(2) returns with a buffer of the size."""
    function = _function(
        "listxattr", ctypes.c_ssize_t, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t
    )
    return _checked(function(os.fsencode(path), ctypes.create_string_buffer(size + 1), size))


class DirectoryStream:
    """opendir(3) and its family; . and .. are entries like the others."""

    def __init__(self, path: os.PathLike) -> None:
        self._stream = _function("opendir", ctypes.c_void_p, ctypes.c_char_p)(os.fsencode(path))
        if not self._stream:
            _checked(-1)

    def __enter__(self) -> "DirectoryStream":
        return self

    def __exit__(self, *exception: object) -> None:
        _function("closedir", ctypes.c_int, ctypes.c_void_p)(self._stream)

    def read(self) -> Optional[Entry]:
        """The next entry, or None at the end."""
        ctypes.set_errno(0)
        function = _function("readdir64", ctypes.POINTER(_Dirent), ctypes.c_void_p)
        found = function(self._stream)
        if not found:
            if ctypes.get_errno():
                _checked(-1)
            return None
        # Only the used part of d_name is there to be read (readdir(3), NOTES).
        address = ctypes.addressof(found.contents) + _Dirent.d_name.offset
        return Entry(ctypes.string_at(address), found.contents.d_type)

    def read_rest(self) -> List[Entry]:
        """All entries from here on."""
        return list(iter(self.read, None))

    def tell(self) -> int:
        """The position, for seek."""
        return _function("telldir", ctypes.c_long, ctypes.c_void_p)(self._stream)

    def seek(self, position: int) -> None:
        """Go back to a position that tell gave."""
        _function("seekdir", None, ctypes.c_void_p, ctypes.c_long)(self._stream, position)

    def rewind(self) -> None:
        """Go back to the beginning and look afresh."""
        _function("rewinddir", None, ctypes.c_void_p)(self._stream)


def splice(
    source: int, offset: Optional[int], target: int, target_offset: Optional[int], length: int
) -> int:
    """splice(2): move bytes between a file and a pipe; an offset is None for the pipe."""
    offset_pointer = ctypes.POINTER(ctypes.c_int64)
    function = _function(
        "splice",
        ctypes.c_ssize_t,
        ctypes.c_int,
        offset_pointer,
        ctypes.c_int,
        offset_pointer,
        ctypes.c_size_t,
        ctypes.c_uint,
    )
    places = [
        None if place is None else ctypes.byref(ctypes.c_int64(place))
        for place in (offset, target_offset)
    ]
    return int(_checked(function(source, places[0], target, places[1], length, 0)))
