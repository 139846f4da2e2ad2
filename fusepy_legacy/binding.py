"""The module `fuse` of fuse-python, or one clear line that says why it is not there.

Its C module needs libfuse 2. Where that is missing, the kernel engine takes its place.
"""

import contextlib

from fusepy_legacy.kernel import entry

with contextlib.suppress(ImportError):
    entry.stand_in()

try:
    import fuse
except Exception as error:  # fusepy's raises OSError where it finds no libfuse
    raise ImportError(
        f"fuse-python cannot be imported ({error}); install it with: pip install fuse-python"
    ) from error

if not hasattr(fuse, "Fuse"):
    # PyPI's fusepy installs a module of the same name with another API.
    where = getattr(fuse, "__file__", None) or "a directory of that name"
    raise ImportError(
        f"the module fuse in {where} is not fuse-python's but fusepy's; "
        "replace it with: pip uninstall fusepy && pip install --force-reinstall fuse-python"
    )

from fuseparts.subbedopts import SubbedOpt

__all__ = ["SubbedOpt", "fuse"]
