"""Hard links and symlinks."""

import errno
import os
import stat

from .descriptors import opened
from .expectations import eventually, raises_errno
from .registry import stock_cannot


def link_gives_a_file_a_second_name(mount, backing):
    """Both names lead to the same file, on the backing side too."""
    (mount / "one").write_bytes(b"content")
    os.link(str(mount / "one"), str(mount / "two"))
    assert (mount / "two").read_bytes() == b"content"
    assert os.path.samefile(str(backing / "one"), str(backing / "two"))


def link_raises_the_link_count(mount, backing):
    """The new name shows the count at once."""
    (mount / "one").write_bytes(b"content")
    os.link(str(mount / "one"), str(mount / "two"))
    assert (mount / "two").stat().st_nlink == 2
    assert (backing / "one").stat().st_nlink == 2
    os.link(str(mount / "two"), str(mount / "three"))
    assert (mount / "three").stat().st_nlink == 3
    assert (backing / "one").stat().st_nlink == 3


def unlinking_one_name_keeps_the_other(mount, backing):
    """The file lives as long as it has a name."""
    (mount / "one").write_bytes(b"content")
    os.link(str(mount / "one"), str(mount / "two"))
    (mount / "one").unlink()
    assert (mount / "two").read_bytes() == b"content"
    assert os.listdir(str(backing)) == ["two"]
    assert (backing / "two").stat().st_nlink == 1
    assert eventually(lambda: (mount / "two").stat().st_nlink == 1)


def content_written_under_one_name_is_read_under_the_other(mount, backing):
    """There is one content."""
    (mount / "one").write_bytes(b"old")
    os.link(str(mount / "one"), str(mount / "two"))
    with opened(str(mount / "one"), os.O_WRONLY | os.O_APPEND) as descriptor:
        os.write(descriptor, b" and new")
    assert (backing / "two").read_bytes() == b"old and new"
    assert eventually(lambda: (mount / "two").read_bytes() == b"old and new")


@stock_cannot("libfuse 2.9 makes each hard link an inode with caches of its own")
def hard_links_are_one_inode(mount, backing):
    """Both names have one inode number, and a change by one shows by the other at once."""
    (mount / "one").write_bytes(b"old")
    os.link(str(mount / "one"), str(mount / "two"))
    assert os.path.samefile(str(mount / "one"), str(mount / "two"))
    assert (mount / "one").stat().st_nlink == (mount / "two").stat().st_nlink == 2
    (mount / "one").chmod(0o604)
    assert (mount / "two").stat().st_mode & 0o7777 == 0o604
    with opened(str(mount / "two")) as reader:
        assert os.read(reader, 100) == b"old"
        with opened(str(mount / "one"), os.O_WRONLY | os.O_APPEND) as writer:
            os.write(writer, b" and new")
        assert os.fstat(reader).st_size == 11
        assert os.read(reader, 100) == b" and new"
    (mount / "one").unlink()
    assert (mount / "two").stat().st_nlink == 1


@stock_cannot("libfuse 2.9 makes each hard link an inode with caches of its own")
def hard_links_made_on_the_backing_side_are_one_inode(mount, backing):
    """du and tar recognize them by st_ino, and the mount treats them as one file."""
    (backing / "one").write_bytes(b"content")
    os.link(str(backing / "one"), str(backing / "two"))
    one, two = (mount / "one").stat(), (mount / "two").stat()
    assert (one.st_ino, one.st_nlink) == (two.st_ino, two.st_nlink)
    os.truncate(str(mount / "one"), 3)
    assert (mount / "two").stat().st_size == 3


def link_into_another_directory_works(mount, backing):
    """A second name may be anywhere on the mount."""
    (mount / "directory").mkdir()
    (mount / "file").write_bytes(b"content")
    os.link(str(mount / "file"), str(mount / "directory" / "file"))
    assert os.path.samefile(str(backing / "file"), str(backing / "directory" / "file"))


def link_over_an_existing_name_fails(mount, backing):
    """EEXIST, and what is there stays."""
    (mount / "one").write_bytes(b"one")
    (mount / "two").write_bytes(b"two")
    with raises_errno(errno.EEXIST):
        os.link(str(mount / "one"), str(mount / "two"))
    assert (backing / "two").read_bytes() == b"two"


def link_of_a_directory_fails(mount, backing):
    """EPERM (link(2))."""
    (mount / "directory").mkdir()
    with raises_errno(errno.EPERM):
        os.link(str(mount / "directory"), str(mount / "other"))
    assert os.listdir(str(backing)) == ["directory"]


def link_of_a_missing_file_fails(mount, backing):
    """ENOENT."""
    with raises_errno(errno.ENOENT):
        os.link(str(mount / "missing"), str(mount / "other"))


def link_of_a_symlink_is_a_link_to_the_symlink(mount, backing):
    """linkat without AT_SYMLINK_FOLLOW gives the link itself a second name."""
    os.symlink("nowhere", str(mount / "one"))
    os.link(str(mount / "one"), str(mount / "two"), follow_symlinks=False)
    assert os.readlink(str(mount / "two")) == os.readlink(str(backing / "two")) == "nowhere"
    assert os.lstat(str(backing / "two")).st_nlink == 2


def link_gives_nodes_a_second_name(mount, backing):
    """A fifo can have two names too."""
    os.mkfifo(str(mount / "one"))
    os.link(str(mount / "one"), str(mount / "two"))
    assert (backing / "two").is_fifo()
    assert (backing / "two").stat().st_nlink == 2


def a_symlink_leads_to_its_target(mount, backing):
    """A relative target is found from the link's directory."""
    (mount / "directory").mkdir()
    (mount / "file").write_bytes(b"content")
    os.symlink("../file", str(mount / "directory" / "link"))
    assert (mount / "directory" / "link").read_bytes() == b"content"
    assert os.readlink(str(backing / "directory" / "link")) == "../file"


def an_absolute_symlink_is_kept_as_it_is(mount, backing):
    """The target is text, never rewritten for the mirror."""
    (mount / "file").write_bytes(b"content")
    os.symlink(str(mount / "file"), str(mount / "link"))
    os.symlink("/", str(mount / "root"))
    assert (mount / "link").read_bytes() == b"content"
    assert os.readlink(str(backing / "link")) == str(mount / "file")
    assert os.readlink(str(mount / "root")) == os.readlink(str(backing / "root")) == "/"


def a_symlink_may_lead_out_of_the_mount(mount, backing):
    """The caller's kernel follows it, outside the mirror."""
    os.symlink("/dev/null", str(mount / "link"))
    assert stat.S_ISCHR((mount / "link").stat().st_mode)
    assert (mount / "link").read_bytes() == b""


def a_dangling_symlink_is_a_link_to_nothing(mount, backing):
    """lstat and readlink find it, stat and open do not find its target."""
    os.symlink("nowhere", str(mount / "link"))
    assert os.readlink(str(mount / "link")) == "nowhere"
    assert stat.S_ISLNK(os.lstat(str(mount / "link")).st_mode)
    for call in (os.stat, lambda path: os.open(path, os.O_RDONLY)):
        with raises_errno(errno.ENOENT):
            call(str(mount / "link"))


def a_symlink_made_on_the_backing_side_is_followed(mount, backing):
    """Nothing but the target text counts."""
    (backing / "file").write_bytes(b"content")
    os.symlink("file", str(backing / "link"))
    assert os.readlink(str(mount / "link")) == "file"
    assert (mount / "link").read_bytes() == b"content"


def symlink_targets_of_4095_bytes_are_kept(mount, backing):
    """PATH_MAX less the final NUL is the longest target."""
    for length in (1, 59, 60, 255, 1024, 4094, 4095):
        target = ("t" * 200 + "/") * 21
        os.symlink(target[:length], str(mount / f"link{length}"))
        assert os.readlink(str(mount / f"link{length}")) == target[:length]
        assert os.readlink(str(backing / f"link{length}")) == target[:length]
        assert os.lstat(str(mount / f"link{length}")).st_size == length


def symlink_targets_of_4096_bytes_are_refused(mount, backing):
    """ENAMETOOLONG, and nothing is made."""
    with raises_errno(errno.ENAMETOOLONG):
        os.symlink("t" * 4096, str(mount / "link"))
    assert os.listdir(str(backing)) == []


def symlink_targets_may_be_any_bytes(mount, backing):
    """Targets that are not UTF-8, or no path at all, come back as given."""
    for number, target in enumerate((b"\xff\xfe", b" ", b"line\nfeed", b"//..//.", b"%s")):
        link = os.fsencode(str(mount / f"link{number}"))
        os.symlink(target, link)
        assert os.readlink(link) == target
        assert os.readlink(os.fsencode(str(backing / f"link{number}"))) == target


def a_loop_of_symlinks_is_detected(mount, backing):
    """ELOOP."""
    os.symlink("two", str(mount / "one"))
    os.symlink("one", str(mount / "two"))
    os.symlink("self", str(mount / "self"))
    for name in ("one", "two", "self", "self/below"):
        with raises_errno(errno.ELOOP):
            os.stat(str(mount / name))


def a_chain_of_symlinks_is_followed(mount, backing):
    """30 links in a row lead to the file."""
    (mount / "link0").write_bytes(b"content")
    for number in range(30):
        os.symlink(f"link{number}", str(mount / f"link{number + 1}"))
    assert (mount / "link30").read_bytes() == b"content"


def symlink_over_an_existing_name_fails(mount, backing):
    """EEXIST, and what is there stays."""
    (mount / "file").write_bytes(b"content")
    with raises_errno(errno.EEXIST):
        os.symlink("target", str(mount / "file"))
    assert (backing / "file").read_bytes() == b"content"


def an_empty_symlink_target_is_refused(mount, backing):
    """ENOENT (symlink(2))."""
    with raises_errno(errno.ENOENT):
        os.symlink("", str(mount / "link"))


def readlink_of_something_else_fails(mount, backing):
    """EINVAL for a file and a directory, ENOENT for nothing."""
    (mount / "file").write_bytes(b"content")
    (mount / "directory").mkdir()
    for name in ("file", "directory"):
        with raises_errno(errno.EINVAL):
            os.readlink(str(mount / name))
    with raises_errno(errno.ENOENT):
        os.readlink(str(mount / "missing"))


def unlink_removes_the_symlink_and_not_its_target(mount, backing):
    """The file stays."""
    (mount / "file").write_bytes(b"content")
    os.symlink("file", str(mount / "link"))
    (mount / "link").unlink()
    assert os.listdir(str(backing)) == ["file"]


def a_symlink_to_a_directory_is_walked_through(mount, backing):
    """Files are made, found and listed behind it."""
    (mount / "directory").mkdir()
    os.symlink("directory", str(mount / "link"))
    (mount / "link" / "file").write_bytes(b"content")
    assert os.listdir(str(mount / "link")) == ["file"]
    assert (backing / "directory" / "file").read_bytes() == b"content"
