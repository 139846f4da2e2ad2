"""Open files survive what happens to their names."""

import os

from .descriptors import opened, read_all
from .expectations import eventually, require_root, require_user_attributes
from .registry import stock_cannot

_RDWR = os.O_CREAT | os.O_RDWR

_HIDDEN = "libfuse 2.9 renames an unlinked open file to .fuse_hidden instead of unlinking it"


def _still_works(descriptor):
    """Every kind of access through the descriptor of a file that holds b"content"."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    assert read_all(descriptor) == b"content"
    os.pwrite(descriptor, b" and more", 7)
    assert os.pread(descriptor, 100, 0) == b"content and more"
    os.ftruncate(descriptor, 3)
    assert os.pread(descriptor, 100, 0) == b"con"
    os.fsync(descriptor)


def an_open_file_survives_a_rename(mount, backing):
    """The descriptor goes on with the file under its new name."""
    (mount / "file").write_bytes(b"content")
    with opened(str(mount / "file"), os.O_RDWR) as descriptor:
        (mount / "file").rename(mount / "renamed")
        _still_works(descriptor)
        assert os.fstat(descriptor).st_size == 3
    assert (backing / "renamed").read_bytes() == b"con"
    assert os.listdir(str(backing)) == ["renamed"]


def an_open_file_survives_a_rename_into_another_directory(mount, backing):
    """The descriptor goes on with the file wherever it is."""
    (mount / "file").write_bytes(b"content")
    (mount / "directory").mkdir()
    with opened(str(mount / "file"), os.O_RDWR) as descriptor:
        (mount / "file").rename(mount / "directory" / "file")
        _still_works(descriptor)
    assert (backing / "directory" / "file").read_bytes() == b"con"


def an_open_file_survives_a_rename_of_its_directory(mount, backing):
    """The descriptor goes on with the file when something above it moves."""
    (mount / "one" / "two").mkdir(parents=True)
    (mount / "one" / "two" / "file").write_bytes(b"content")
    with opened(str(mount / "one" / "two" / "file"), os.O_RDWR) as descriptor:
        (mount / "one").rename(mount / "uno")
        _still_works(descriptor)
        assert os.fstat(descriptor).st_size == 3
    assert (backing / "uno" / "two" / "file").read_bytes() == b"con"


def an_open_file_survives_a_rename_on_the_backing_side(mount, backing):
    """The descriptor holds the file, whatever anyone does to its name."""
    (mount / "file").write_bytes(b"content")
    with opened(str(mount / "file"), os.O_RDWR) as descriptor:
        (backing / "file").rename(backing / "renamed")
        _still_works(descriptor)
    assert (backing / "renamed").read_bytes() == b"con"
    assert os.listdir(str(backing)) == ["renamed"]


def an_open_file_is_not_confused_with_a_new_one_on_the_backing_side(mount, backing):
    """What takes the name on the backing side is another file."""
    (mount / "file").write_bytes(b"content")
    with opened(str(mount / "file"), os.O_RDWR) as descriptor:
        (backing / "file").rename(backing / "renamed")
        (backing / "file").write_bytes(b"another")
        _still_works(descriptor)
    assert (backing / "renamed").read_bytes() == b"con"
    assert (backing / "file").read_bytes() == b"another"


def an_unlinked_open_file_still_works(mount, backing):
    """Reading, writing and truncating go on through the descriptor."""
    (mount / "file").write_bytes(b"content")
    with opened(str(mount / "file"), os.O_RDWR) as descriptor:
        (mount / "file").unlink()
        assert not (mount / "file").exists()
        assert not (backing / "file").exists()
        _still_works(descriptor)
        assert os.fstat(descriptor).st_size == 3
    assert eventually(lambda: os.listdir(str(backing)) == [])


def an_unlinked_new_file_still_works(mount, backing):
    """The same for a descriptor that created the file, as tempfile does."""
    with opened(str(mount / "file"), _RDWR | os.O_EXCL, 0o600) as descriptor:
        (mount / "file").unlink()
        os.write(descriptor, b"content")
        _still_works(descriptor)
    assert eventually(lambda: os.listdir(str(backing)) == [])


def two_descriptors_of_an_unlinked_file_see_each_other(mount, backing):
    """They still share one file."""
    with opened(str(mount / "file"), _RDWR) as one, opened(str(mount / "file"), _RDWR) as two:
        (mount / "file").unlink()
        os.write(one, b"content")
        assert os.read(two, 100) == b"content"


@stock_cannot(_HIDDEN)
def an_unlinked_open_file_leaves_no_name_behind(mount, backing):
    """Neither side lists anything while the file is open."""
    (mount / "file").write_bytes(b"content")
    with opened(str(mount / "file"), os.O_RDWR):
        (mount / "file").unlink()
        assert os.listdir(str(mount)) == []
        assert os.listdir(str(backing)) == []


@stock_cannot(_HIDDEN)
def an_unlinked_open_file_has_no_links(mount, backing):
    """fstat reports 0 links."""
    with opened(str(mount / "file"), _RDWR) as descriptor:
        assert os.fstat(descriptor).st_nlink == 1
        (mount / "file").unlink()
        # The kernel counts down by itself; after a change it has the filesystem's own count.
        os.fchmod(descriptor, 0o600)
        assert os.fstat(descriptor).st_nlink == 0


@stock_cannot(_HIDDEN)
def a_directory_whose_open_files_were_unlinked_can_be_removed(mount, backing):
    """rm -r works while somebody has a file open."""
    (mount / "directory").mkdir()
    with opened(str(mount / "directory" / "file"), _RDWR) as descriptor:
        os.write(descriptor, b"content")
        (mount / "directory" / "file").unlink()
        (mount / "directory").rmdir()
        assert os.listdir(str(backing)) == []
        _still_works(descriptor)


def an_unlinked_open_file_can_be_cut(mount, backing):
    """By who may write it, also when another has it open for reading."""
    path = str(mount / "file")
    (mount / "file").write_bytes(b"content")
    with opened(path, os.O_RDWR) as descriptor, opened(path) as reader:
        (mount / "file").unlink()
        os.ftruncate(descriptor, 3)
        assert os.fstat(reader).st_size == 3
        assert read_all(reader) == b"con"


def attributes_of_an_unlinked_open_file_can_be_changed(mount, backing):
    """fchmod, fchown and futimens work without a name."""
    require_root()
    with opened(str(mount / "file"), _RDWR) as descriptor:
        (mount / "file").unlink()
        os.fchmod(descriptor, 0o612)
        os.fchown(descriptor, 1234, 5678)
        os.utime(descriptor, (1000000000, 1000000007))
        found = os.fstat(descriptor)
    assert found.st_mode & 0o7777 == 0o612
    assert (found.st_uid, found.st_gid) == (1234, 5678)
    assert (int(found.st_atime), int(found.st_mtime)) == (1000000000, 1000000007)


@stock_cannot("libfuse 2.9 asks for attributes by a path that is gone", always=False)
def extended_attributes_of_an_unlinked_open_file_are_its_own(mount, backing):
    """They are set, read, listed and removed without a name, also when it is another file's by now."""
    path = str(mount / "file")
    require_user_attributes(backing)
    for lose_name in (os.unlink, _replace, lambda path: (backing / "file").unlink()):
        with opened(path, _RDWR) as descriptor:
            os.setxattr(descriptor, "user.one", b"1")
            lose_name(path)
            os.setxattr(descriptor, "user.two", b"2")
            assert os.getxattr(descriptor, "user.one") == b"1"
            assert sorted(os.listxattr(descriptor)) == ["user.one", "user.two"]
            os.removexattr(descriptor, "user.one")
            assert os.listxattr(descriptor) == ["user.two"]
        if os.path.exists(path):
            assert os.listxattr(path) == []


def _replace(path):
    with open(path + ".new", "w") as new:
        new.write("another")
    os.rename(path + ".new", path)


@stock_cannot("libfuse 2.9 asks for attributes by a path that is gone")
def extended_attributes_of_a_removed_open_directory_are_its_own(mount, backing):
    """The same for a directory."""
    require_user_attributes(backing)
    (mount / "directory").mkdir()
    with opened(str(mount / "directory"), os.O_DIRECTORY) as descriptor:
        (mount / "directory").rmdir()
        os.setxattr(descriptor, "user.name", b"value")
        assert os.getxattr(descriptor, "user.name") == b"value"


def an_unlinked_open_file_can_be_opened_again(mount, backing):
    """/proc/self/fd leads to it: for less rights, for more, and to cut it off (proc_pid_fd(5))."""
    (mount / "file").write_bytes(b"content")
    with opened(str(mount / "file"), os.O_RDONLY) as descriptor:
        (mount / "file").unlink()
        again = f"/proc/self/fd/{descriptor}"
        with opened(again, os.O_RDWR) as other:
            assert os.pwrite(other, b"C", 0) == 1
            assert os.pread(descriptor, 100, 0) == b"Content"
        with opened(again, os.O_WRONLY | os.O_TRUNC):
            assert os.fstat(descriptor).st_size == 0
    assert eventually(lambda: os.listdir(str(backing)) == [])


def a_name_can_be_taken_again_while_the_unlinked_file_is_open(mount, backing):
    """Old and new file are two."""
    (mount / "file").write_bytes(b"content")
    with opened(str(mount / "file"), os.O_RDWR) as descriptor:
        (mount / "file").unlink()
        (mount / "file").write_bytes(b"another")
        _still_works(descriptor)
        assert (mount / "file").read_bytes() == b"another"
    assert (backing / "file").read_bytes() == b"another"


def an_open_file_replaced_by_a_rename_still_works(mount, backing):
    """Editors save that way; who has the old file open keeps it."""
    (mount / "file").write_bytes(b"content")
    (mount / "new").write_bytes(b"another")
    with opened(str(mount / "file"), os.O_RDWR) as descriptor:
        (mount / "new").rename(mount / "file")
        _still_works(descriptor)
        assert (mount / "file").read_bytes() == b"another"
    assert (backing / "file").read_bytes() == b"another"
    assert eventually(lambda: os.listdir(str(backing)) == ["file"])


@stock_cannot(_HIDDEN)
def an_open_file_replaced_by_a_rename_has_no_links(mount, backing):
    """fstat reports 0 links, and neither side lists a remainder."""
    (mount / "file").write_bytes(b"content")
    (mount / "new").write_bytes(b"another")
    with opened(str(mount / "file"), os.O_RDWR) as descriptor:
        (mount / "new").rename(mount / "file")
        assert os.fstat(descriptor).st_nlink == 0
        assert os.listdir(str(mount)) == os.listdir(str(backing)) == ["file"]


def an_open_file_unlinked_on_the_backing_side_still_works(mount, backing):
    """The descriptor holds the file when its name is gone behind the mount's back."""
    (mount / "file").write_bytes(b"content")
    with opened(str(mount / "file"), os.O_RDWR) as descriptor:
        (backing / "file").unlink()
        _still_works(descriptor)
    assert os.listdir(str(backing)) == []


@stock_cannot("libfuse 2.9 asks for the attributes of an open file by a path that is gone")
def an_open_file_unlinked_on_the_backing_side_has_no_links_soon(mount, backing):
    """fstat finds the file itself, not its former name."""
    (mount / "file").write_bytes(b"content")
    with opened(str(mount / "file"), os.O_RDWR) as descriptor:
        (backing / "file").unlink()
        assert eventually(lambda: os.fstat(descriptor).st_nlink == 0)
        assert os.fstat(descriptor).st_size == 7


@stock_cannot("libfuse 2.9 changes the mode of an open file by a path that is gone")
def an_open_file_unlinked_on_the_backing_side_takes_a_mode(mount, backing):
    """fchmod reaches the file itself, not its former name."""
    (mount / "file").write_bytes(b"content")
    with opened(str(mount / "file"), os.O_RDWR) as descriptor:
        (backing / "file").unlink()
        os.fchmod(descriptor, 0o612)
        assert os.fstat(descriptor).st_mode & 0o7777 == 0o612


def fchmod_reaches_an_open_file_after_a_rename(mount, backing):
    """Attributes are those of the file, under whichever name."""
    (mount / "file").write_bytes(b"content")
    with opened(str(mount / "file"), os.O_RDWR) as descriptor:
        (mount / "file").rename(mount / "renamed")
        (mount / "file").write_bytes(b"another")
        os.fchmod(descriptor, 0o612)
    assert (backing / "renamed").stat().st_mode & 0o7777 == 0o612
    assert (backing / "file").stat().st_mode & 0o7777 != 0o612


def a_descriptor_survives_the_loss_of_the_right_to_open(mount, backing):
    """Permissions are checked at open, not at read and write."""
    (mount / "file").write_bytes(b"content")
    with opened(str(mount / "file"), os.O_RDWR) as descriptor:
        (mount / "file").chmod(0o000)
        _still_works(descriptor)
