"""pread(2) until everything is read."""

import os
from pathlib import Path

import pytest

from fusepy_legacy.pread import read_fully


def test_short_reads_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one call leaves out, the next ones bring; the result is short at the end of the file only."""
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, length, offset: pread(fd, min(length, 3), offset))
    content = bytes(range(20))
    path = tmp_path / "file"
    path.write_bytes(content)
    descriptor = os.open(str(path), os.O_RDONLY)
    try:
        assert read_fully(descriptor, 10, 5) == content[5:15]
        assert read_fully(descriptor, 100, 5) == content[5:]
        assert read_fully(descriptor, 10, 20) == b""
        assert read_fully(descriptor, 0, 5) == b""
    finally:
        os.close(descriptor)
