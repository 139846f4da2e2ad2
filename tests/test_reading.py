"""All that was asked for, and no waiting for what is no file."""

import errno
import os
from pathlib import Path

import pytest

from fusepy_legacy.reading import read_fully, read_regular
from tests.errnos import raises_errno


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


def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path) -> None:
    """A file's content comes up to the limit; a FIFO without a writer is an error, and at once."""
    path = tmp_path / "file"
    path.write_bytes(b"content")
    assert read_regular(str(path), 100) == b"content"
    assert read_regular(str(path), 3) == b"con"
    os.mkfifo(str(tmp_path / "fifo"))
    with raises_errno(errno.EINVAL):
        read_regular(str(tmp_path / "fifo"), 100)
