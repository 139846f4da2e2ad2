"""The request that a thread is serving, for those who ask from inside a handler."""

import threading
from typing import TYPE_CHECKING, Optional

if TYPE_CHECKING:
    from fusepy_legacy.kernel.engine import Engine


class Current(threading.local):
    """One thread's request; each thread sees its own values.

    `engine` is None outside a request. `umask` is the caller's where the filesystem applies it, else 0.
    `from_cache` tells of a WRITE that it is the kernel's, of pages changed by mmap or kept by the writeback
    cache: its offset counts even through a descriptor with O_APPEND.
    `interrupted` is set for requests that wait: it is set when the kernel wants the wait to end.
    """

    engine: Optional["Engine"] = None
    unique = 0
    uid = 0
    gid = 0
    pid = 0
    umask = 0
    extensions = b""
    from_cache = False
    interrupted: Optional[threading.Event] = None


current = Current()
