"""fusepy_legacy.kernel.entry: which mount a call of fuse-python's is about."""

import errno
from typing import Any, List, Optional

import pytest

from fusepy_legacy.kernel import entry
from fusepy_legacy.kernel.context import current


class Session:
    """A mount that knows every path; `engine` is what its requests are served with."""

    def __init__(self) -> None:
        self.engine = object()
        self.invalidated: List[str] = []

    def invalidate(self, path: str) -> bool:
        self.invalidated.append(path)
        return True


@pytest.mark.parametrize(
    ("mounts", "asked", "serving", "expected"),
    [
        (2, 1, None, 1),  # a filesystem that is mounted
        (2, 0, 1, 0),  # the same, from a handler of another
        (2, None, 1, 1),  # none that is known, from a handler: its own mount
        (1, None, None, 0),  # none that is known, with one mount: that
        (2, None, None, None),
        (0, None, None, None),
    ],
)
def test_the_mount_of_an_invalidation(
    monkeypatch: pytest.MonkeyPatch,
    mounts: int,
    asked: Optional[int],
    serving: Optional[int],
    expected: Optional[int],
) -> None:
    """That of the filesystem, else of the request, else the only one; ENOENT when there is none."""
    sessions = [Session() for _ in range(mounts)]
    filesystems = [object() for _ in range(mounts)]
    table: Any = list(zip(filesystems, sessions))
    monkeypatch.setattr(entry, "_sessions", table)
    engine: Any = None if serving is None else sessions[serving].engine
    monkeypatch.setattr(current, "engine", engine)
    filesystem = object() if asked is None else filesystems[asked]
    found = -errno.ENOENT if expected is None else 0
    assert entry.FuseInvalidate(filesystem, "/file") == found
    assert [session.invalidated for session in sessions] == [
        ["/file"] if number == expected else [] for number in range(mounts)
    ]
