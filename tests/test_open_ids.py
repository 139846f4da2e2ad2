"""Of several opens of a file, those with the ID of the first may use the kernel's cache."""

from pathlib import Path

from fusepy_legacy.views.open_ids import OpenIds


def test_one_id_at_a_time(tmp_path: Path) -> None:
    """Another may not, until the last open with the first is over; and nothing is remembered then."""
    path, other = tmp_path / "file", tmp_path / "other"
    path.touch()
    other.touch()
    ids, status = OpenIds(), path.stat()
    assert ids.opened(status, b"one")
    assert ids.opened(status, b"one")
    assert not ids.opened(status, b"two")
    assert ids.opened(other.stat(), b"two")
    ids.released(status)
    assert not ids.opened(status, b"two")
    ids.released(status)
    assert ids.opened(status, b"two")
    assert not ids.opened(status, b"one")
    ids.released(status)
    ids.released(other.stat())
    assert len(ids) == 0
