"""rename: what it replaces, what it refuses, what it takes along."""

import errno
import os

from .expectations import raises_errno


def _tree(side):
    return sorted(
        os.path.relpath(os.path.join(where, name), str(side))
        for where, directories, files in os.walk(str(side))
        for name in directories + files
    )


def rename_moves_a_file(mount, backing):
    """The old name is gone and the new one there, on both sides."""
    (mount / "old").write_bytes(b"content")
    (mount / "old").rename(mount / "new")
    assert _tree(mount) == _tree(backing) == ["new"]
    assert (mount / "new").read_bytes() == (backing / "new").read_bytes() == b"content"
    assert not (mount / "old").exists()


def rename_moves_a_file_into_another_directory(mount, backing):
    """Between directories too."""
    (mount / "one").mkdir()
    (mount / "two").mkdir()
    (mount / "one" / "file").write_bytes(b"content")
    (mount / "one" / "file").rename(mount / "two" / "moved")
    assert _tree(mount) == _tree(backing) == ["one", "two", "two/moved"]
    assert (backing / "two" / "moved").read_bytes() == b"content"


def rename_keeps_the_file_itself(mount, backing):
    """Inode, mode, owner and size stay."""
    (mount / "old").write_bytes(b"content")
    (mount / "old").chmod(0o4751)
    before = (backing / "old").stat()
    (mount / "old").rename(mount / "new")
    after = (backing / "new").stat()
    for field in ("st_ino", "st_mode", "st_uid", "st_gid", "st_size", "st_mtime_ns"):
        assert getattr(after, field) == getattr(before, field)
    assert (mount / "new").stat().st_mode == after.st_mode


def rename_replaces_a_file(mount, backing):
    """The file that had the name before is gone."""
    (mount / "old").write_bytes(b"old content")
    (mount / "new").write_bytes(b"new")
    (mount / "old").rename(mount / "new")
    assert _tree(mount) == _tree(backing) == ["new"]
    assert (mount / "new").read_bytes() == (backing / "new").read_bytes() == b"old content"
    assert (mount / "new").stat().st_size == 11


def rename_replaces_a_symlink_and_not_its_target(mount, backing):
    """The link is replaced; what it led to stays."""
    (mount / "target").write_bytes(b"target")
    os.symlink("target", str(mount / "link"))
    (mount / "file").write_bytes(b"file")
    (mount / "file").rename(mount / "link")
    assert not (backing / "link").is_symlink()
    assert (backing / "link").read_bytes() == b"file"
    assert (backing / "target").read_bytes() == b"target"


def rename_moves_a_symlink_and_not_its_target(mount, backing):
    """The link itself gets the new name, with its text."""
    os.symlink("target", str(mount / "link"))
    (mount / "target").write_bytes(b"content")
    (mount / "link").rename(mount / "moved")
    assert os.readlink(str(mount / "moved")) == os.readlink(str(backing / "moved")) == "target"
    assert _tree(backing) == ["moved", "target"]


def rename_replaces_an_empty_directory(mount, backing):
    """By another directory, with what is in it."""
    (mount / "old").mkdir()
    (mount / "old" / "file").write_bytes(b"content")
    (mount / "new").mkdir()
    (mount / "old").rename(mount / "new")
    assert _tree(mount) == _tree(backing) == ["new", "new/file"]


def rename_over_a_directory_with_entries_fails(mount, backing):
    """ENOTEMPTY or EEXIST (rename(2)), and both stay."""
    (mount / "old").mkdir()
    (mount / "new").mkdir()
    (mount / "new" / "file").write_bytes(b"content")
    with raises_errno(errno.ENOTEMPTY, errno.EEXIST):
        (mount / "old").rename(mount / "new")
    assert _tree(mount) == _tree(backing) == ["new", "new/file", "old"]


def rename_of_a_directory_into_itself_fails(mount, backing):
    """EINVAL for every depth, and the tree stays."""
    (mount / "one" / "two" / "three").mkdir(parents=True)
    for target in ("one/below", "one/two/below", "one/two/three/below"):
        with raises_errno(errno.EINVAL):
            (mount / "one").rename(mount / target)
    assert _tree(mount) == _tree(backing) == ["one", "one/two", "one/two/three"]


def rename_onto_an_ancestor_fails(mount, backing):
    """ENOTEMPTY (rename(2)), and the tree stays."""
    (mount / "one" / "two" / "three").mkdir(parents=True)
    with raises_errno(errno.ENOTEMPTY, errno.EEXIST):
        (mount / "one" / "two" / "three").rename(mount / "one")
    assert _tree(backing) == ["one", "one/two", "one/two/three"]


def rename_of_a_file_over_a_directory_fails(mount, backing):
    """EISDIR, also for an empty one."""
    (mount / "file").write_bytes(b"content")
    (mount / "directory").mkdir()
    with raises_errno(errno.EISDIR):
        (mount / "file").rename(mount / "directory")
    assert _tree(backing) == ["directory", "file"]


def rename_of_a_directory_over_a_file_fails(mount, backing):
    """ENOTDIR."""
    (mount / "file").write_bytes(b"content")
    (mount / "directory").mkdir()
    with raises_errno(errno.ENOTDIR):
        (mount / "directory").rename(mount / "file")
    assert _tree(backing) == ["directory", "file"]
    assert (backing / "file").read_bytes() == b"content"


def rename_of_a_missing_name_fails(mount, backing):
    """ENOENT, and the target stays."""
    (mount / "file").write_bytes(b"content")
    with raises_errno(errno.ENOENT):
        (mount / "missing").rename(mount / "file")
    assert (backing / "file").read_bytes() == b"content"


def rename_into_a_missing_directory_fails(mount, backing):
    """ENOENT, and the file stays."""
    (mount / "file").write_bytes(b"content")
    with raises_errno(errno.ENOENT):
        (mount / "file").rename(mount / "missing" / "file")
    assert (backing / "file").read_bytes() == b"content"


def rename_onto_itself_changes_nothing(mount, backing):
    """The same name twice is a success."""
    (mount / "file").write_bytes(b"content")
    (mount / "file").rename(mount / "file")
    assert (mount / "file").read_bytes() == (backing / "file").read_bytes() == b"content"


def rename_between_two_names_of_a_file_changes_nothing(mount, backing):
    """Both hard links stay (rename(2))."""
    (mount / "one").write_bytes(b"content")
    os.link(str(mount / "one"), str(mount / "two"))
    (mount / "one").rename(mount / "two")
    assert _tree(mount) == _tree(backing) == ["one", "two"]
    assert (mount / "one").read_bytes() == (mount / "two").read_bytes() == b"content"


def rename_takes_a_deep_tree_along(mount, backing):
    """Everything below a renamed directory is found under the new name, and only there."""
    below = []
    for number in range(5):
        branch = "/".join(f"level{depth}-{number}" for depth in range(20))
        (mount / "old" / branch).mkdir(parents=True)
        (mount / "old" / branch / "leaf").write_bytes(b"%d" % number)
        below.append(branch)
    (mount / "old").rename(mount / "new")
    for number, branch in enumerate(below):
        assert (mount / "new" / branch / "leaf").read_bytes() == b"%d" % number
        assert (backing / "new" / branch / "leaf").read_bytes() == b"%d" % number
        with raises_errno(errno.ENOENT):
            (mount / "old" / branch / "leaf").stat()
    (mount / "new" / below[0] / "leaf").write_bytes(b"changed")
    assert (backing / "new" / below[0] / "leaf").read_bytes() == b"changed"
    assert _tree(mount) == _tree(backing)


def rename_to_and_fro_keeps_the_names_below_right(mount, backing):
    """Paths are followed through several renames at several levels."""
    (mount / "a" / "b" / "c").mkdir(parents=True)
    (mount / "a" / "b" / "c" / "file").write_bytes(b"content")
    (mount / "a" / "b").rename(mount / "b")
    (mount / "a").rename(mount / "b" / "a")
    (mount / "b" / "c").rename(mount / "b" / "a" / "c")
    (mount / "b").rename(mount / "z")
    assert _tree(mount) == _tree(backing) == ["z", "z/a", "z/a/c", "z/a/c/file"]
    assert (mount / "z" / "a" / "c" / "file").read_bytes() == b"content"


def rename_swaps_two_directories_by_a_third_name(mount, backing):
    """Each name leads to the other's content afterwards."""
    for name in ("one", "two"):
        (mount / name).mkdir()
        (mount / name / "file").write_bytes(name.encode())
    (mount / "one").rename(mount / "aside")
    (mount / "two").rename(mount / "one")
    (mount / "aside").rename(mount / "two")
    for side in (mount, backing):
        assert (side / "one" / "file").read_bytes() == b"two"
        assert (side / "two" / "file").read_bytes() == b"one"


def rename_moves_nodes(mount, backing):
    """Fifos move as files do."""
    os.mkfifo(str(mount / "fifo"))
    (mount / "fifo").rename(mount / "moved")
    assert (backing / "moved").is_fifo()
    assert _tree(backing) == ["moved"]


def rename_frees_the_old_name(mount, backing):
    """A new file under the old name is another file."""
    (mount / "old").write_bytes(b"first")
    (mount / "old").rename(mount / "new")
    (mount / "old").write_bytes(b"second")
    for side in (mount, backing):
        assert (side / "old").read_bytes() == b"second"
        assert (side / "new").read_bytes() == b"first"


def rename_works_right_after_the_backing_side_made_the_file(mount, backing):
    """A name the mount never looked up can be renamed."""
    (backing / "old").write_bytes(b"content")
    (mount / "old").rename(mount / "new")
    assert (backing / "new").read_bytes() == b"content"
    assert _tree(mount) == ["new"]
