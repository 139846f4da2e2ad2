"""Filesystems over FUSE on the fuse-python API, with open files as objects.

The public names are here; each is imported when it is first used, so that a missing fuse-python can be
reported by whoever needs it.
"""

import importlib
import sys
import types
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Filesystem": "filesystem",
    "MountError": "errors",
    "Passthrough": "passthrough",
    "PassthroughDirectory": "passthrough",
    "PassthroughFile": "passthrough",
}

__all__ = [
    "Filesystem",
    "MountError",
    "Passthrough",
    "PassthroughDirectory",
    "PassthroughFile",
    "__version__",
]


class _Package(types.ModuleType):
    """This package; PEP 562's module __getattr__ came with Python 3.7."""

    def __getattr__(self, name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
        setattr(self, name, value)
        return value


sys.modules[__name__].__class__ = _Package
