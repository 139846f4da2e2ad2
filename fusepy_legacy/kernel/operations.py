"""The filesystem's handlers, as fuse-python hands them over, with plain Python's error handling.

fuse-python wraps each handler in an ErrnoWrapper that turns OSError into a negative number. Here the
number would be turned back at once, so the handler is called directly.
"""

import inspect
import os
from typing import Any, Callable, Dict, Optional

Callback = Callable[..., Any]

# What `read` returns when another process answers the request, through the same device.
ELSEWHERE: Any = object()

_METHOD_PROXY = "mpx"  # Fuse.Methproxy.proxyclass: takes a path, arguments, and the object last


class Operations:
    """The handlers by name. `operations.getattr` is one, or None when the filesystem has none.

    `methods` are those that fuse-python only hands on to the open file's method of that name.
    """

    def __init__(self, callbacks: Dict[str, Callback]) -> None:
        self._callbacks = {name: unwrapped(callback) for name, callback in callbacks.items()}
        self.methods = frozenset(
            name
            for name, callback in self._callbacks.items()
            if type(callback).__name__ == _METHOD_PROXY and vars(callback) == {"name": name}
        )

    def __getattr__(self, name: str) -> Optional[Callback]:
        callback = self._callbacks.get(name)
        setattr(self, name, callback)  # found without this method the next time
        return callback

    def takes(self, name: str, count: int) -> bool:
        """Tell whether a handler has parameters for so many arguments: some are new since it was written.

        `*arguments` does not count; fuse-python's wrappers hand them on to a handler that may not take them.
        """
        callback = self._callbacks.get(name)
        if callback is None:
            return False
        try:
            parameters = inspect.signature(callback).parameters.values()
        except ValueError:
            return False
        positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        return sum(parameter.kind in positional for parameter in parameters) >= count


def call(callback: Callback, *arguments: Any) -> Any:
    """Call a handler; raise the OSError that it means when it returns a negative number."""
    result = callback(*arguments)
    if result.__class__ is int and result < 0:
        raise OSError(-result, os.strerror(-result))
    return result


def unwrapped(callback: Callback) -> Callback:
    """Return the handler in fuse-python's wrapper, or the handler itself where there is none."""
    if type(callback).__name__ == "ErrnoWrapper":
        return callback.func  # type: ignore[attr-defined, no-any-return]
    return callback
