"""opendir, readdir, seekdir: every entry exactly once."""

import errno
import os
import stat

from .expectations import raises_errno
from .libc import DirectoryStream
from .processes import run_as_nobody
from .registry import stock_cannot


def _fill(directory, count):
    names = [f"entry{number:05}" for number in range(count)]
    for name in names:
        with open(str(directory / name), "wb"):
            pass
    return names


def _names(entries):
    return [os.fsdecode(entry.name) for entry in entries]


def _without_dots(entries):
    return [entry for entry in entries if entry.name not in (b".", b"..")]


def an_empty_directory_lists_nothing(mount, backing):
    """Only . and .. are there."""
    assert os.listdir(str(mount)) == []
    with DirectoryStream(mount) as stream:
        assert sorted(entry.name for entry in stream.read_rest()) == [b".", b".."]


def what_is_made_on_either_side_is_listed(mount, backing):
    """Entries made through the mount and, before a first look, on the backing side."""
    (backing / "directly").write_bytes(b"")
    (mount / "through").write_bytes(b"")
    for side in (mount, backing):
        assert sorted(os.listdir(str(side))) == ["directly", "through"]


def five_thousand_entries_are_listed_once_each(mount, backing):
    """A directory much larger than one reply of the kernel's buffer is complete."""
    names = _fill(backing, 5000)
    assert sorted(os.listdir(str(mount))) == names


def entries_with_long_names_are_listed_once_each(mount, backing):
    """Names that fill the buffer quickly are all there."""
    names = sorted(f"{number:05}".ljust(255, "n") for number in range(600))
    for name in names:
        (backing / name).mkdir()
    assert sorted(os.listdir(str(mount))) == names


def a_listing_tells_the_kind_of_each_entry(mount, backing):
    """scandir's is_file, is_dir and is_symlink agree with lstat."""
    (mount / "file").write_bytes(b"")
    (mount / "directory").mkdir()
    os.symlink("file", str(mount / "link"))
    os.mkfifo(str(mount / "fifo"))
    with os.scandir(str(mount)) as entries:
        kinds = {
            entry.name: (
                entry.is_file(follow_symlinks=False),
                entry.is_dir(follow_symlinks=False),
                entry.is_symlink(),
            )
            for entry in entries
        }
    assert kinds == {
        "file": (True, False, False),
        "directory": (False, True, False),
        "link": (False, False, True),
        "fifo": (False, False, False),
    }


def a_kind_in_a_listing_is_right_or_unknown(mount, backing):
    """d_type is DT_UNKNOWN or that of lstat, never another (readdir(3))."""
    (mount / "file").write_bytes(b"")
    (mount / "directory").mkdir()
    os.symlink("file", str(mount / "link"))
    os.mkfifo(str(mount / "fifo"))
    with DirectoryStream(mount) as stream:
        entries = _without_dots(stream.read_rest())
    assert len(entries) == 4
    for entry in entries:
        mode = os.lstat(os.path.join(os.fsencode(str(mount)), entry.name)).st_mode
        # DT_* are the kind bits of st_mode, shifted (dirent.h, IFTODT).
        assert entry.type in (0, stat.S_IFMT(mode) >> 12)


def attributes_after_a_listing_are_right(mount, backing):
    """What a listing brings along (readdirplus) is what stat would have found."""
    for number in range(50):
        (backing / f"file{number}").write_bytes(b"x" * number)
    with os.scandir(str(mount)) as entries:
        sizes = {entry.name: entry.stat().st_size for entry in entries}
    assert sizes == {f"file{number}": number for number in range(50)}


def rewinddir_starts_again(mount, backing):
    """The second pass gives the same entries as the first."""
    names = _fill(backing, 300)
    with DirectoryStream(mount) as stream:
        first = _names(_without_dots(stream.read_rest()))
        stream.rewind()
        second = _names(_without_dots(stream.read_rest()))
    assert sorted(first) == sorted(second) == names


def rewinddir_from_the_middle_starts_again(mount, backing):
    """A pass that was broken off is forgotten."""
    names = _fill(backing, 300)
    with DirectoryStream(mount) as stream:
        for _ in range(100):
            stream.read()
        stream.rewind()
        assert sorted(_names(_without_dots(stream.read_rest()))) == names


def rewinddir_shows_what_changed_since(mount, backing):
    """Entries made and removed after opendir are seen after rewinddir (rewinddir(3))."""
    _fill(mount, 10)
    with DirectoryStream(mount) as stream:
        stream.read_rest()
        (mount / "entry00003").unlink()
        (mount / "new").write_bytes(b"")
        stream.rewind()
        names = _names(_without_dots(stream.read_rest()))
    assert sorted(names) == sorted(os.listdir(str(backing)))
    assert "new" in names


@stock_cannot(
    "with Python 3.11 and 3.12 it lists nothing after the end was reached, unless it starts again",
    always=False,
)
def seekdir_returns_to_where_telldir_was(mount, backing):
    """From each position that was told, the rest of the listing is the same."""
    _fill(backing, 400)
    with DirectoryStream(mount) as stream:
        positions, entries = [], []
        while True:
            position = stream.tell()
            entry = stream.read()
            if entry is None:
                break
            positions.append(position)
            entries.append(entry)
        for index in (0, 1, 2, 57, 200, 399, 401, 100, 3):
            stream.seek(positions[index])
            assert stream.read_rest() == entries[index:]


def reading_past_the_end_of_a_listing_stays_at_the_end(mount, backing):
    """The end is reported again and again."""
    _fill(mount, 3)
    with DirectoryStream(mount) as stream:
        assert len(stream.read_rest()) == 5
        assert stream.read() is None
        assert stream.read() is None


def deleting_while_listing_empties_a_directory(mount, backing):
    """A pass that unlinks each entry it meets meets them all."""
    _fill(backing, 1500)
    with os.scandir(str(mount)) as entries:
        for entry in entries:
            os.unlink(entry.path)
    assert os.listdir(str(mount)) == os.listdir(str(backing)) == []


def creating_while_listing_repeats_no_entry(mount, backing):
    """What was there is listed once; what is new, at most once."""
    names = _fill(backing, 500)
    seen = []
    with os.scandir(str(mount)) as entries:
        for number, entry in enumerate(entries):
            seen.append(entry.name)
            if number < 200:
                (mount / f"new{number}").write_bytes(b"")
    assert len(seen) == len(set(seen))
    assert set(names) <= set(seen)


def renaming_while_listing_loses_no_other_entry(mount, backing):
    """Entries that nobody touched are listed once each."""
    names = _fill(backing, 500)
    seen = []
    with os.scandir(str(mount)) as entries:
        for number, entry in enumerate(entries):
            seen.append(entry.name)
            if number == 10:
                for name in names[::50]:
                    (mount / name).rename(mount / f"renamed-{name}")
    untouched = sorted(set(names) - set(names[::50]))
    assert [name for name in sorted(seen) if name in untouched] == untouched


def two_listings_at_a_time_do_not_disturb_each_other(mount, backing):
    """Each stream has a position of its own."""
    names = _fill(backing, 300)
    with DirectoryStream(mount) as one, DirectoryStream(mount) as two:
        first = [one.read() for _ in range(150)]
        second = two.read_rest()
        first += one.read_rest()
    for entries in (first, second):
        assert sorted(_names(_without_dots(entries))) == names


def listing_a_file_fails(mount, backing):
    """ENOTDIR."""
    (mount / "file").write_bytes(b"")
    with raises_errno(errno.ENOTDIR):
        os.listdir(str(mount / "file"))


def listing_a_missing_directory_fails(mount, backing):
    """ENOENT."""
    with raises_errno(errno.ENOENT):
        os.listdir(str(mount / "missing"))


def a_directory_that_may_not_be_searched_can_be_listed(mount, backing):
    """The r bit alone gives the names, the x bit is needed to look at what they name."""
    (mount / "directory").mkdir()
    (mount / "directory" / "file").write_bytes(b"")
    (mount / "directory").chmod(0o744)
    assert run_as_nobody(mount, lambda: os.listdir("directory")) == ["file"]
    with raises_errno(errno.EACCES):
        run_as_nobody(mount, lambda: os.stat("directory/file"))


def a_dangling_symlink_is_listed(mount, backing):
    """Names come without a look at where they lead."""
    os.symlink("nowhere", str(backing / "dangling"))
    assert os.listdir(str(mount)) == ["dangling"]
