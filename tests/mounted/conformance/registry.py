"""Which functions are checks, and which of them the stock engine is known to fail."""

import inspect
import pathlib
from types import ModuleType
from typing import Callable, List

Check = Callable[[pathlib.Path, pathlib.Path], None]


def stock_cannot(reason: str, always: bool = True) -> Callable[[Check], Check]:
    """Mark a check that fails on the stock engine; the reason is in its attribute stock_cannot.

    Unless it fails `always`, it may hold, with other versions of Python for instance.
    """

    def mark(check: Check) -> Check:
        check.stock_cannot = reason  # type: ignore[attr-defined]
        check.stock_cannot_ever = always  # type: ignore[attr-defined]
        return check

    return mark


def checks_of(module: ModuleType) -> List[Check]:
    """The public functions that the module itself defines, in the order of its text."""
    return [
        function
        for name, function in vars(module).items()
        if inspect.isfunction(function)
        and function.__module__ == module.__name__
        and not name.startswith("_")
    ]
