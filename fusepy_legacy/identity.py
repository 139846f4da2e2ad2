"""Act as the calling user in one thread, so that what is created belongs to that user at birth.

Only a daemon that runs as root can, and needs to: anyone else's daemon serves its own user. setfsuid(2)
and setfsgid(2) act on the calling thread alone.

The kernel has checked the caller's permissions before it sent the request (default_permissions), with all
groups and ACLs. Leaving fsuid 0 drops CAP_DAC_OVERRIDE, and then the backing filesystem would refuse a
caller who got in through a supplementary group, which the thread does not have. So that one capability is
raised again. The others that go with fsuid 0 stay dropped: CAP_FSETID, CAP_FOWNER, CAP_CHOWN.

The umask belongs to all threads of a process, until a thread asks for one of its own (unshare(2), CLONE_FS).
The backing filesystem has to know it: a default ACL counts instead of it (acl(5)).
"""

import os
import stat
import threading
from typing import Callable, List, NamedTuple, Optional, Sequence

from fusepy_legacy import syscalls


class Caller(NamedTuple):
    """Who made a request: ids of the process, and its number in this process's PID namespace.

    `umask` is what the filesystem has to apply itself; 0 where the kernel has done so. `groups` returns the
    supplementary groups that count for a new file, and may be slow.
    """

    uid: int
    gid: int
    pid: int
    umask: int = 0
    groups: Callable[[], Sequence[int]] = tuple


class ActingAs:
    """Context manager: the calling thread's new files belong to `caller`.

    `mode` is that of the file to create. With S_ISGID in it the backing filesystem asks whether the caller
    is a member of the directory's group (inode_init_owner in the kernel's fs/inode.c), so only then are
    the supplementary groups looked up.

    Raises OSError when an id cannot be taken on; then none has been.
    """

    __slots__ = ("caller", "mode", "groups", "umask", "acting")

    def __init__(self, caller: Caller, mode: int = 0) -> None:
        uid, gid, _, umask, _ = caller
        self.caller = caller
        self.mode = mode
        self.groups: Optional[List[int]] = None
        self.umask = umask
        self.acting = (uid != 0 or gid != 0) and os.geteuid() == 0

    def __enter__(self) -> None:
        if self.umask:
            _own_umask(self.umask)
        if self.acting:
            try:
                self._take_on()
            except BaseException:
                self._restore()
                raise

    def __exit__(self, *exception: object) -> None:
        self._restore()

    def _take_on(self) -> None:
        if self.mode & stat.S_ISGID:
            self.groups = os.getgroups()
            syscalls.setgroups(self.caller.groups())
        syscalls.setfsgid(self.caller.gid)
        if self.caller.uid != 0:
            syscalls.setfsuid(self.caller.uid)
            syscalls.raise_capability(syscalls.CAP_DAC_OVERRIDE)

    def _restore(self) -> None:
        if self.umask:
            os.umask(0)
        if not self.acting:
            return
        # Back at fsuid 0, the kernel makes the dropped capabilities effective again (capabilities(7)).
        syscalls.setfsuid(0)
        syscalls.setfsgid(os.getegid())
        if self.groups is not None:
            syscalls.setgroups(self.groups)
            self.groups = None


class Registering:
    """Context manager: what a thread registers for kernel I/O loses set-id bits when it is written.

    The kernel writes a backing file with the rights of the thread that has registered it (fs/fuse/backing.c).
    With CAP_FSETID it would leave the bits to a file that has got them since it was opened.

    One object serves all threads that have the capabilities of the one that makes it.
    """

    __slots__ = ("all", "less", "set")

    def __init__(self) -> None:
        capabilities = syscalls.get_capabilities()
        effective = capabilities.effective & ~(1 << syscalls.CAP_FSETID)
        self.set = syscalls.capset_function()
        self.all = capabilities.packed()
        self.less = capabilities._replace(effective=effective).packed()

    def __enter__(self) -> None:
        self.set(self.less)

    def __exit__(self, *exception: object) -> None:
        self.set(self.all)


class _Thread(threading.local):
    """Whether the thread has a umask of its own."""

    has_umask = False


_thread = _Thread()


def _own_umask(umask: int) -> None:
    if not _thread.has_umask:
        syscalls.unshare(syscalls.CLONE_FS)
        _thread.has_umask = True
    os.umask(umask)
