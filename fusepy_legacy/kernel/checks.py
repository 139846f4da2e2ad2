"""What can be told to be wrong before a mount is tried, in words that say what to do."""

import errno
import os
import stat

_DEVICE = os.makedev(10, 229)  # Documentation/admin-guide/devices.txt


class CheckError(Exception):
    """A mount cannot succeed; `str()` is one line for the user."""


def check_mountpoint(mountpoint: str, nonempty: bool) -> None:
    """Raise CheckError unless there is a directory to mount on; with `nonempty` it may have entries."""
    try:
        status = os.stat(mountpoint)
        entries = os.listdir(mountpoint) if stat.S_ISDIR(status.st_mode) else []
    except OSError as error:
        if error.errno == errno.ENOTCONN:
            reason = "a filesystem died there; clear it with: fusermount -u (as root: umount -l)"
        elif error.errno == errno.ENOENT:
            reason = "it does not exist; create it first"
        else:
            reason = str(error.strerror)
        raise CheckError(f"mount point {mountpoint}: {reason}") from error
    if not stat.S_ISDIR(status.st_mode):
        raise CheckError(f"mount point {mountpoint}: not a directory")
    if entries and not nonempty:
        taken = "a filesystem is mounted there" if os.path.ismount(mountpoint) else "not empty"
        raise CheckError(f"mount point {mountpoint}: {taken}; -o nonempty mounts over it")


def check_device() -> None:
    """Raise CheckError unless /dev/fuse can be opened."""
    try:
        descriptor = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            reason = "this user, or this container, may not use it"
        else:
            reason = "the kernel has no FUSE; try: modprobe fuse"
        raise CheckError(f"/dev/fuse: {error.strerror}: {reason}") from error
    if not stat.S_ISCHR(status.st_mode) or status.st_rdev != _DEVICE:
        raise CheckError("/dev/fuse is not the FUSE device; try: mknod /dev/fuse c 10 229")
