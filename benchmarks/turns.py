"""The candidates' turns: their order, and each in a process of its own, as the programs are that users start.

The scheduler lets a new process begin on the CPU with the least to do, and so mostly on another than the one
that serves it. A process that had slept before its loop often shared one CPU with bindfs: a stat then took
12 µs for a while, and 30 to 45 when the loop was longer, or came from a program such as find.
"""

import multiprocessing
import random
import signal
from typing import Any, Callable, List, Sequence, TypeVar

_Candidate = TypeVar("_Candidate")


def shuffled(candidates: Sequence[_Candidate], number: int) -> List[_Candidate]:
    """Return an order of turns, the same one in each run for a `number`.

    Not a rotation, in which everyone always comes after the same one: after 256 MiB in pages of 4 KiB, which
    bindfs leaves, the next one's sequential write on ext4 was slower by up to eight times.
    """
    order = list(candidates)
    random.Random(number).shuffle(order)
    return order


def in_own_process(
    function: Callable[[], Any], patience: float, on_hang: Callable[[], None]
) -> Any:
    """Call a function in a child process; return what it returns there, or raise the OSError it raises.

    ChildProcessError when it ends in another way. After `patience` seconds `on_hang` is called, which has to
    free a child that waits for ever.
    """
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def call() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # ours would have something to say at the end
        try:
            sender.send((function(), None))
        except OSError as error:
            sender.send((None, error))
        except KeyboardInterrupt:
            pass  # the parent has it too

    with receiver:
        process = context.Process(target=call)
        process.start()
        sender.close()
        try:
            if not receiver.poll(patience):
                on_hang()
            result, error = receiver.recv()
        except EOFError:
            raise ChildProcessError("the measuring process ended early") from None
        finally:
            process.terminate()
            process.join()
    if error is not None:
        raise error
    return result
