"""The request that a thread is serving, for those who ask from inside a handler."""

import threading
from typing import TYPE_CHECKING, Optional

if TYPE_CHECKING:
    from fusepy_legacy.kernel.engine import Engine


class Current(threading.local):
    """One thread's request; each thread sees its own values.

    `engine` is None outside a request. `umask` is the caller's where the filesystem applies it, else 0.
    `interrupted` is set for requests that wait: it is set when the kernel wants the wait to end.
    """

    engine: Optional["Engine"] = None
    unique = 0
    uid = 0
    gid = 0
    pid = 0
    umask = 0
    extensions = b""
    interrupted: Optional[threading.Event] = None


current = Current()
