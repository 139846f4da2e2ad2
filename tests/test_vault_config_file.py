"""The config on the disk: a file that is never half written."""

import errno
import os
import stat
from pathlib import Path
from typing import Any, Tuple

import pytest

from fusepy_legacy.vault.config_file import write_config


def written(directory: Path) -> Tuple[str, bytes, int]:
    """The only file of a directory: name, content, mode."""
    (path,) = directory.iterdir()
    return path.name, path.read_bytes(), stat.S_IMODE(path.stat().st_mode)


def test_a_config_is_written_once(tmp_path: Path) -> None:
    """Mode 0400; a second one is EEXIST unless it is to replace the first, and leaves it alone."""
    write_config(str(tmp_path), b"first")
    assert written(tmp_path) == ("gocryptfs.conf", b"first", 0o400)
    with pytest.raises(FileExistsError):
        write_config(str(tmp_path), b"second")
    assert written(tmp_path) == ("gocryptfs.conf", b"first", 0o400)
    write_config(str(tmp_path), b"second", replace=True)
    assert written(tmp_path) == ("gocryptfs.conf", b"second", 0o400)


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_the_old_config_stays_when_the_new_one_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """A full or failing disk: the error is raised, the old file stays, no other file is left."""
    write_config(str(tmp_path), b"first")

    def fail(*arguments: Any, **named: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="No space left"):
        write_config(str(tmp_path), b"second", replace=True)
    assert written(tmp_path) == ("gocryptfs.conf", b"first", 0o400)


def test_no_half_config_is_left_when_the_first_one_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failing disk at the first writing leaves an empty directory."""

    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"):
        write_config(str(tmp_path), b"first")
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """VirtualBox's shared folders answer EINVAL: the config is there, so it is not said to be missing."""
    fsync = os.fsync

    def fail(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fail)
    write_config(str(tmp_path), b"first")
    write_config(str(tmp_path), b"second", replace=True)
    assert written(tmp_path) == ("gocryptfs.conf", b"second", 0o400)
