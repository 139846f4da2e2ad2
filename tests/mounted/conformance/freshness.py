"""Changes made on the backing side, after the mount has looked, show up soon."""

import os
import stat

from .descriptors import opened
from .expectations import eventually


def a_new_file_is_found_at_once(mount, backing):
    """Nothing was known of the name, so nothing needs to run out."""
    (backing / "file").write_bytes(b"content")
    assert (mount / "file").read_bytes() == b"content"


def a_new_file_with_the_inode_number_of_a_removed_one_is_found_at_once(mount, backing):
    """Filesystems hand out inode numbers again; the number alone does not tell two files apart."""
    for number in range(20):
        (backing / f"file{number}").write_bytes(b"%d" % number)
        assert (mount / f"file{number}").read_bytes() == b"%d" % number
        (backing / f"file{number}").unlink()


def a_new_directory_with_the_inode_number_of_a_removed_one_is_found_at_once(mount, backing):
    """The same for directories and what is made in them."""
    for number in range(20):
        (backing / f"directory{number}").mkdir()
        (mount / f"directory{number}" / "file").write_bytes(b"content")
        assert os.listdir(str(backing / f"directory{number}")) == ["file"]
        (backing / f"directory{number}" / "file").unlink()
        (backing / f"directory{number}").rmdir()


def a_name_that_was_missing_is_found_soon(mount, backing):
    """That there was nothing is not remembered for long."""
    assert not (mount / "file").exists()
    (backing / "file").write_bytes(b"content")
    assert eventually(lambda: (mount / "file").read_bytes() == b"content")


def a_new_name_is_listed_soon(mount, backing):
    """A listing is not remembered for long."""
    (backing / "one").write_bytes(b"")
    assert os.listdir(str(mount)) == ["one"]
    (backing / "two").write_bytes(b"")
    assert eventually(lambda: sorted(os.listdir(str(mount))) == ["one", "two"])


def a_removed_file_vanishes_soon(mount, backing):
    """A name is not remembered for long."""
    (mount / "file").write_bytes(b"content")
    assert (mount / "file").exists()
    (backing / "file").unlink()
    assert eventually(lambda: not (mount / "file").exists())
    assert os.listdir(str(mount)) == []


def a_removed_directory_vanishes_soon(mount, backing):
    """With everything below it."""
    (mount / "directory" / "sub").mkdir(parents=True)
    assert (mount / "directory" / "sub").exists()
    (backing / "directory" / "sub").rmdir()
    (backing / "directory").rmdir()
    assert eventually(lambda: not (mount / "directory").exists())
    assert eventually(lambda: not (mount / "directory" / "sub").exists())


def a_renamed_file_moves_soon(mount, backing):
    """The old name goes, and the new one leads to the file."""
    (mount / "old").write_bytes(b"content")
    (backing / "old").rename(backing / "new")
    assert (mount / "new").read_bytes() == b"content"
    assert eventually(lambda: not (mount / "old").exists())


def a_renamed_directory_moves_soon(mount, backing):
    """What is below is found under the new name, and can be written there."""
    (mount / "old").mkdir()
    (mount / "old" / "file").write_bytes(b"content")
    (backing / "old").rename(backing / "new")
    assert eventually(lambda: (mount / "new" / "file").read_bytes() == b"content")
    assert eventually(lambda: not (mount / "old").exists())
    (mount / "new" / "file").write_bytes(b"written")
    assert (backing / "new" / "file").read_bytes() == b"written"


def a_changed_mode_shows_soon(mount, backing):
    """Attributes are not remembered for long."""
    (mount / "file").write_bytes(b"content")
    (mount / "file").chmod(0o600)
    (backing / "file").chmod(0o604)
    assert eventually(lambda: (mount / "file").stat().st_mode & 0o7777 == 0o604)


def a_grown_file_is_read_to_its_new_end_soon(mount, backing):
    """tail -f works on the mount."""
    (mount / "file").write_bytes(b"old")
    with opened(str(mount / "file")) as reader:
        assert os.read(reader, 100) == b"old"
        with opened(str(backing / "file"), os.O_WRONLY | os.O_APPEND) as writer:
            os.write(writer, b" and new")
        found = []
        assert eventually(lambda: os.fstat(reader).st_size == 11)
        assert eventually(lambda: found.append(os.read(reader, 100)) or b"".join(found))
    assert b"".join(found) == b" and new"


def a_shortened_file_ends_earlier_soon(mount, backing):
    """Size and content follow."""
    (mount / "file").write_bytes(b"0123456789")
    assert (mount / "file").read_bytes() == b"0123456789"
    os.truncate(str(backing / "file"), 4)
    assert eventually(lambda: (mount / "file").stat().st_size == 4)
    assert eventually(lambda: (mount / "file").read_bytes() == b"0123")


def content_rewritten_in_place_is_read_soon(mount, backing):
    """Even when the size is the same as before."""
    (mount / "file").write_bytes(b"old content")
    assert (mount / "file").read_bytes() == b"old content"
    with opened(str(backing / "file"), os.O_WRONLY) as writer:
        os.write(writer, b"new")
    assert eventually(lambda: (mount / "file").read_bytes() == b"new content")


def a_replaced_file_is_read_soon(mount, backing):
    """An editor on the backing side saves by rename."""
    (mount / "file").write_bytes(b"old content")
    assert (mount / "file").read_bytes() == b"old content"
    (backing / "new").write_bytes(b"new content")
    (backing / "new").rename(backing / "file")
    assert eventually(lambda: (mount / "file").read_bytes() == b"new content")


def a_name_that_changed_its_kind_shows_soon(mount, backing):
    """A file that became a directory is one, and can be worked in."""
    (mount / "name").write_bytes(b"content")
    (backing / "name").unlink()
    (backing / "name").mkdir()
    assert eventually(lambda: stat.S_ISDIR((mount / "name").stat().st_mode))
    (mount / "name" / "file").write_bytes(b"content")
    assert (backing / "name" / "file").read_bytes() == b"content"


def a_symlink_that_changed_its_target_leads_there_soon(mount, backing):
    """The target is not remembered for ever."""
    os.symlink("old", str(mount / "link"))
    assert os.readlink(str(mount / "link")) == "old"
    (backing / "link").unlink()
    os.symlink("new", str(backing / "link"))
    assert eventually(lambda: os.readlink(str(mount / "link")) == "new")


def a_new_file_under_a_removed_name_is_the_new_one_soon(mount, backing):
    """Content, size and mode are those of what is there now."""
    (mount / "file").write_bytes(b"old content that is long")
    (mount / "file").chmod(0o600)
    (backing / "file").unlink()
    (backing / "file").write_bytes(b"new")
    (backing / "file").chmod(0o640)
    assert eventually(lambda: (mount / "file").read_bytes() == b"new")
    assert eventually(lambda: (mount / "file").stat().st_mode & 0o7777 == 0o640)


def what_is_written_over_a_change_of_the_backing_side_is_kept(mount, backing):
    """The last writer wins, and nothing stale is written back."""
    (mount / "file").write_bytes(b"0123456789")
    with opened(str(mount / "file"), os.O_RDWR) as descriptor:
        assert os.pread(descriptor, 10, 0) == b"0123456789"
        with opened(str(backing / "file"), os.O_WRONLY) as writer:
            os.write(writer, b"ABCDE")
        os.pwrite(descriptor, b"xy", 7)
    assert (backing / "file").read_bytes() == b"ABCDE56xy9"
