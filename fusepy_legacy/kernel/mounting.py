"""mount(2) and umount2(2) as root, fusermount3 or fusermount for everyone else."""

import array
import contextlib
import ctypes
import errno
import os
import re
import shutil
import socket
import subprocess
from typing import Dict, List, NamedTuple, Optional, Union

from fusepy_legacy.kernel import options as option_table
from fusepy_legacy.kernel.negotiation import READAHEAD
from fusepy_legacy.kernel.options import Kind

# linux/mount.h: what each flag option sets and clears.
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 1, 2, 4, 8
_MS_SYNCHRONOUS, _MS_DIRSYNC, _MS_NOATIME = 16, 128, 1024
_FLAGS = {
    "ro": (_MS_RDONLY, 0),
    "rw": (0, _MS_RDONLY),
    "suid": (0, _MS_NOSUID),
    "nosuid": (_MS_NOSUID, 0),
    "dev": (0, _MS_NODEV),
    "nodev": (_MS_NODEV, 0),
    "exec": (0, _MS_NOEXEC),
    "noexec": (_MS_NOEXEC, 0),
    "sync": (_MS_SYNCHRONOUS, 0),
    "async": (0, _MS_SYNCHRONOUS),
    "dirsync": (_MS_DIRSYNC, 0),
    "atime": (0, _MS_NOATIME),
    "noatime": (_MS_NOATIME, 0),
}
_MNT_DETACH = 2

_Options = Dict[str, Union[str, bool]]


class _Mounted(NamedTuple):
    """What tells one mount from all others, wherever it is by now (proc(5), mountinfo)."""

    id: bytes
    device: bytes


class Mount:
    """A FUSE mount: `descriptor` is its open /dev/fuse.

    As root nothing else is needed. Otherwise, and for auto_unmount, a helper mounts (fusermount(1)); with
    auto_unmount it stays, and unmounts when the socket to it closes with this process.
    """

    def __init__(self, mountpoint: str, options: _Options) -> None:
        """Mount. Raises OSError when the kernel refuses, or the helper does."""
        self.mountpoint = mountpoint
        real_path = os.fsencode(os.path.realpath(mountpoint))
        self._direct = os.geteuid() == 0 and "auto_unmount" not in options
        self._helper_socket: Union[socket.socket, None] = None
        self.descriptor = self._mount(options) if self._direct else self._mount_by_helper(options)
        os.set_blocking(self.descriptor, False)
        self._mounted = _topmost_mounts().get(real_path)
        if self._mounted is not None and self._direct and "max_readahead" not in options:
            _widen_readahead(self._mounted.device.decode("ascii"))

    def close(self) -> None:
        """Close the device; when it was not unmounted before, whoever uses the mount gets ENOTCONN."""
        os.close(self.descriptor)
        if self._helper_socket is not None:
            self._helper_socket.close()

    def place(self) -> Optional[str]:
        """Return where it is: whoever renames what the mount point lies in takes it along.

        None when somebody has unmounted it, maybe lazily, or mounted something else there since.
        """
        topmost = _topmost_mounts()
        if not topmost:  # without /proc it has to be where it was
            return self.mountpoint
        for path, mounted in topmost.items():
            if mounted == self._mounted:
                return os.fsdecode(path)
        return None

    def unmount(self, lazy: bool) -> None:
        """Unmount, now or, with `lazy`, out of sight now and for good when nobody uses it any more.

        Raises OSError; EBUSY when it is in use and `lazy` is false, EINVAL when it is not there.
        """
        place = self.place()
        if place is None:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), self.mountpoint)
        if os.geteuid() == 0:
            if _libc().umount2(os.fsencode(place), _MNT_DETACH if lazy else 0) < 0:
                _fail(place)
            return
        command = [_helper(), "-u", "-q", *(["-z"] if lazy else []), "--", place]
        if subprocess.call(command) != 0:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), place)

    def _mount(self, options: _Options) -> int:
        descriptor = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        try:
            root_mode = os.stat(self.mountpoint).st_mode & 0o170000
            data = [
                f"fd={descriptor}",
                f"rootmode={root_mode:o}",
                f"user_id={os.getuid()}",
                f"group_id={os.getgid()}",
            ]
            if "allow_other" in options or "allow_root" in options:
                data.append("allow_other")
            if "default_permissions" in options:
                data.append("default_permissions")
            if "max_read" in options:
                data.append(f"max_read={options['max_read']}")
            subtype = options.get("subtype")
            result = _libc().mount(
                os.fsencode(str(options.get("fsname") or subtype or "/dev/fuse")),
                os.fsencode(self.mountpoint),
                os.fsencode(f"fuse.{subtype}" if subtype else "fuse"),
                ctypes.c_ulong(_mount_flags(options)),
                os.fsencode(",".join(data)),
            )
            if result < 0:
                _fail(self.mountpoint)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _mount_by_helper(self, options: _Options) -> int:
        """Let the set-user-id helper mount; it sends the device over the socket _FUSE_COMMFD."""
        ours, theirs = socket.socketpair()
        command = [_helper(), "-o", _helper_options(options), "--", self.mountpoint]
        environment = dict(os.environ, _FUSE_COMMFD=str(theirs.fileno()))
        helper = subprocess.Popen(
            command,
            env=environment,
            pass_fds=[theirs.fileno()],
            stderr=subprocess.PIPE,
            universal_newlines=True,
        )
        theirs.close()
        descriptor = _received_descriptor(ours)
        if "auto_unmount" in options and descriptor >= 0:
            self._helper_socket = ours
            assert helper.stderr is not None
            helper.stderr.close()
            helper.returncode = 0  # it lives as long as the mount, and is nobody's to wait for
            return descriptor
        ours.close()
        _, message = helper.communicate()
        if descriptor < 0 or helper.returncode:
            lines = message.strip().splitlines()
            raise OSError(errno.EPERM, lines[-1] if lines else "fusermount failed", self.mountpoint)
        return descriptor


def sync_filesystem(path: str) -> None:
    """Write back what the page cache holds of the filesystem of `path`: syncfs(2). Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if _libc().syncfs(descriptor) < 0:
            _fail(path)
    finally:
        os.close(descriptor)


def _topmost_mounts() -> Dict[bytes, _Mounted]:
    """Return what is mounted at each path, the topmost where several are (proc(5), mountinfo)."""
    topmost: Dict[bytes, _Mounted] = {}
    with contextlib.suppress(OSError), open("/proc/self/mountinfo", "rb") as table:
        for line in table:
            fields = line.split()
            topmost[_unescaped(fields[4])] = _Mounted(fields[0], fields[2])
    return topmost


def _unescaped(path: bytes) -> bytes:
    """Undo the octal escapes of blanks, line ends and backslashes in mountinfo."""
    return re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match.group(1), 8)]), path)


def _widen_readahead(device: str) -> None:
    """Let the kernel read ahead further than the 128 KiB that it allows every filesystem (root only).

    Sequential reads in 1 MiB blocks, Linux 6.18, tmpfs below: 2.1 GB/s with 128 KiB, 2.5 with 512, no more
    with 1024. Without it everything works, so no failure here is one.
    """
    with contextlib.suppress(OSError):
        with open(f"/sys/class/bdi/{device}/read_ahead_kb", "w") as setting:
            setting.write(str(READAHEAD // 1024))


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _fail(path: str) -> None:
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number), path)


def _mount_flags(options: _Options) -> int:
    flags = _MS_NOSUID | _MS_NODEV
    for name, (wanted, unwanted) in _FLAGS.items():
        if name in options:
            flags = flags & ~unwanted | wanted
    return flags


def _helper() -> str:
    for name in ("fusermount3", "fusermount"):
        path = shutil.which(name)
        if path is not None:
            return path
    raise OSError(errno.ENOENT, "neither fusermount3 nor fusermount is installed (package fuse3)")


def _helper_options(options: _Options) -> str:
    words: List[str] = []
    for name, value in options.items():
        row = option_table.find(name)
        if row is None or row.kind not in (Kind.MOUNT, Kind.FLAG) or name == "nonempty":
            continue
        if name == "allow_root":
            name = "allow_other"  # the engine keeps the others out
        text = str(value).replace("\\", "\\\\").replace(",", "\\,")
        word = name if value is True else f"{name}={text}"
        if word not in words:
            words.append(word)
    return ",".join(words)


def _received_descriptor(channel: socket.socket) -> int:
    """Return the descriptor that comes over a socket (unix(7), SCM_RIGHTS), -1 when none does."""
    descriptors = array.array("i")
    _, ancillary, _, _ = channel.recvmsg(1, socket.CMSG_SPACE(descriptors.itemsize))
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    if not descriptors:
        return -1
    os.set_inheritable(descriptors[0], False)
    return int(descriptors[0])
