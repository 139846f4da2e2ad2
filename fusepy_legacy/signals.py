"""A signal that calls a function in a thread of its own.

Python's handlers run in the main thread between two of its instructions. On the stock engine that thread is
inside the C module for as long as the mount lasts, so a thread waits for the signal instead: sigwait(3).
"""

import signal
import threading
from typing import Callable, Optional, Set


class SignalThread:
    """Calls `action` for each signal of a `number`, from `start` to `stop`.

    Create it in the main thread before there are others: all threads must block the signal, and they inherit
    that. Start it in the process that serves. `action` must not raise.
    """

    def __init__(self, number: int, action: Callable[[], None]) -> None:
        self._number = number
        self._action = action
        self._thread: Optional[threading.Thread] = None
        self._stopping = False
        self._before: Set[int] = set(signal.pthread_sigmask(signal.SIG_BLOCK, {number}))

    def start(self) -> None:
        """Start the thread; what was sent since the creation counts."""
        self._thread = threading.Thread(target=self._wait, name="signals", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and give the signal back its former meaning in the calling thread."""
        self._stopping = True
        if self._thread is not None and self._thread.ident is not None:
            signal.pthread_kill(self._thread.ident, self._number)
            self._thread.join()
        signal.pthread_sigmask(signal.SIG_SETMASK, self._before)

    def _wait(self) -> None:
        while True:
            signal.sigwait({self._number})
            if self._stopping:
                return
            self._action()
