"""Files that are open are shown with the size that they had then."""

import os
from pathlib import Path

from fusepy_legacy.views.open_sizes import OpenSizes


def test_a_file_that_grows_keeps_its_size_while_it_is_open(tmp_path: Path) -> None:
    """All opens at a time have one size; with the last it is over, and nothing is remembered."""
    path = tmp_path / "file"
    path.write_bytes(b"1")
    sizes, first = OpenSizes(), path.stat()
    assert (sizes.shown(first), len(sizes)) == (1, 0)
    assert sizes.opened(first) == 1
    path.write_bytes(b"123")
    assert sizes.shown(path.stat()) == 1
    second = path.stat()
    assert sizes.opened(second) == 1
    sizes.released(first)
    assert sizes.shown(path.stat()) == 1
    sizes.released(second)
    assert (sizes.shown(path.stat()), len(sizes)) == (3, 0)


def test_a_file_that_is_cut_is_shown_cut(tmp_path: Path) -> None:
    """There is nothing behind its end that could be read; what is added later is not shown."""
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    sizes = OpenSizes()
    sizes.opened(path.stat())
    os.truncate(str(path), 2)
    assert sizes.shown(path.stat()) == 2
    assert sizes.opened(path.stat()) == 2
    path.write_bytes(b"123")
    assert sizes.shown(path.stat()) == 2
