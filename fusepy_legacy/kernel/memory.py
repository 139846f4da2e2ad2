"""Memory that a long walk took goes back to the system.

What keeps it, measured with 100,000 nodes looked up and forgotten four times: glibc serves large blocks from
its heap once it has seen one freed, has a heap for each thread, and gives back their ends only; and CPython's
free lists hold on to tuples that lie scattered over arenas. With both functions below the resident size was
75 to 81 MB and fell to 45 to 59; with one worker it was 73 and fell to 34. What is left then are arenas of
which the threads still use a little.
"""

import ctypes
import gc

# malloc.h
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8

_OBJECTS = 50000  # made and not freed, before the collector looks for cycles among them

_LARGE = 4 << 20  # bytes; more than any request, which would cost page faults each time


def give_back_large_blocks() -> None:
    """Let malloc(3) map each large block by itself, for free(3) to return it, and have one heap for the rest.

    It is for the whole process. Left alone, glibc raises the limit with each large block that is freed, up to
    32 MiB (mallopt(3)). Does nothing with a libc that has no mallopt.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE)
        mallopt(_M_TRIM_THRESHOLD, _LARGE)
        mallopt(_M_ARENA_MAX, 1)


def give_back_free_memory() -> None:
    """Let CPython give up the objects that it keeps for later, by a full collection, and libc free pages."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def collect_seldom() -> None:
    """Let the cyclic collector run seldom, and not look at what is there by now, for the whole process.

    What the kernel looks up stays, so a walk makes the collector look at more and more, each time in vain:
    of a walk of 100,000 names it took a tenth of the time. What cycles there are, of exceptions mostly, is
    still found.
    """
    if hasattr(gc, "freeze"):  # Python 3.7
        gc.freeze()
    gc.set_threshold(_OBJECTS, 10, 10)
