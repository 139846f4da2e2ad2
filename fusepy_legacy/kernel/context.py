"""The request that a thread is serving, for those who ask from inside a handler."""

import threading
from typing import TYPE_CHECKING, List, Optional, Tuple

if TYPE_CHECKING:
    from fusepy_legacy.kernel.engine import Engine


class Current(threading.local):
    """One thread's request; each thread sees its own values.

    `engine` is None outside a request. `header` holds the fields of abi.IN_HEADER. `umask` is the caller's
    where the filesystem applies it, else 0.
    `at_offset` tells of a WRITE that its offset counts even through a descriptor with O_APPEND: it is the
    kernel's, of pages changed by mmap or kept by the writeback cache, or the program appends no more.
    `interrupted` is set for requests that wait: it is set when the kernel wants the wait to end.
    """

    engine: Optional["Engine"] = None
    header: Tuple[int, ...] = (0,) * 8
    umask = 0
    extensions = b""
    at_offset = False
    interrupted: Optional[threading.Event] = None

    @property
    def unique(self) -> int:
        """The request's number."""
        return self.header[2]

    @property
    def uid(self) -> int:
        """The user id of who asks."""
        return self.header[4]

    @property
    def gid(self) -> int:
        """The group id of who asks."""
        return self.header[5]

    @property
    def pid(self) -> int:
        """The process that asks, 0 when it is in no PID namespace of ours."""
        return self.header[6]


current = Current()


def process_groups(pid: int) -> List[int]:
    """Return a process's supplementary groups from /proc; none when it is gone (proc_pid_status(5))."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as status:
            for line in status:
                if line.startswith("Groups:"):
                    return [int(group) for group in line.split()[1:]]
    except (FileNotFoundError, ProcessLookupError):
        pass
    return []
