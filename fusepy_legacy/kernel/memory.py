"""Memory that a long walk took goes back to the system.

Two things keep it, measured with 100,000 nodes looked up and forgotten three times: glibc serves large
blocks from its heap once it has seen one freed, and the resident size grew from 63 to 73 to 90 MB; and
CPython's free lists hold on to tuples that lie scattered over arenas. With both functions below it stayed
at 65 to 79 MB, and fell by up to 28 MB after the first FORGET.
"""

import ctypes
import gc

# malloc.h
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3

_OBJECTS = 50000  # made and not freed, before the collector looks for cycles among them

_LARGE = 4 << 20  # bytes; more than any request, which would cost page faults each time


def give_back_large_blocks() -> None:
    """Let malloc(3) map each large block by itself, for the whole process, so that free(3) returns it.

    Left alone, glibc raises the limit with each large block that is freed, up to 32 MiB (mallopt(3)). Does
    nothing with a libc that has no mallopt.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE)
        mallopt(_M_TRIM_THRESHOLD, _LARGE)


def empty_free_lists() -> None:
    """Let CPython give up objects that it keeps for later; a full collection does."""
    gc.collect()


def collect_seldom() -> None:
    """Let the cyclic collector run seldom, and not look at what is there by now, for the whole process.

    What the kernel looks up stays, so a walk makes the collector look at more and more, each time in vain:
    of a walk of 100,000 names it took a tenth of the time. What cycles there are, of exceptions mostly, is
    still found.
    """
    if hasattr(gc, "freeze"):  # Python 3.7
        gc.freeze()
    gc.set_threshold(_OBJECTS, 10, 10)
