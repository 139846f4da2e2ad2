"""Keys stay in this process: not in core dumps, not for a debugger, and not in swap where allowed.

What Python cannot do is wipe them: a bytes object is copied when it is passed on, and OpenSSL has its own
copies. They are gone when the process is.
"""

import ctypes
import errno
import logging
import os
import resource

logger = logging.getLogger(__name__)

_PR_SET_DUMPABLE = 4  # linux/prctl.h
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4  # asm-generic/mman-common.h


def forbid_dumps() -> None:
    """Let no core file be written, and nobody but root attach to this process or read its memory.

    It holds in forked children too; an exec undoes the second half (prctl(2), PR_SET_DUMPABLE), which is
    right for fusermount. Raises OSError.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def lock_memory() -> bool:
    """Keep this process out of swap, if it may lock as much as it likes; tell whether it does.

    A limit is not worth trying: under MCL_FUTURE every allocation past it would fail (mlockall(2)). Locks
    are not inherited by a fork, so the serving process calls this itself.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if os.geteuid() != 0 and soft != resource.RLIM_INFINITY:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT) == 0:
        return True
    number = ctypes.get_errno()
    if number not in (errno.EPERM, errno.ENOMEM, errno.EINVAL, errno.ENOSYS):
        raise OSError(number, os.strerror(number))
    logger.debug("memory is not locked: %s", os.strerror(number))
    return False
