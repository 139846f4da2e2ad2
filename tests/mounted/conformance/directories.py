"""mkdir, rmdir, link counts, . and .., working directories."""

import errno
import os
import stat
import subprocess

from .descriptors import opened
from .expectations import raises_errno, umask
from .processes import Bell, Child
from .registry import stock_cannot


def _links(path):
    return path.stat().st_nlink


def mkdir_makes_a_directory_with_the_mode_given(mount, backing):
    """Mode and kind are right on both sides."""
    with umask(0):
        os.mkdir(str(mount / "directory"), 0o751)
    for side in (mount, backing):
        mode = (side / "directory").stat().st_mode
        assert stat.S_ISDIR(mode)
        assert stat.S_IMODE(mode) == 0o751
    assert os.listdir(str(mount / "directory")) == []


def mkdir_over_an_existing_name_fails(mount, backing):
    """EEXIST, whatever is there: a directory, a file or a dangling symlink."""
    (mount / "directory").mkdir()
    (mount / "file").write_bytes(b"content")
    os.symlink("nowhere", str(mount / "link"))
    for name in ("directory", "file", "link"):
        with raises_errno(errno.EEXIST):
            os.mkdir(str(mount / name))
    assert (backing / "file").read_bytes() == b"content"


def mkdir_over_a_name_made_on_the_backing_side_fails(mount, backing):
    """EEXIST for a name that the mount has never looked up."""
    (backing / "directory").mkdir()
    with raises_errno(errno.EEXIST):
        os.mkdir(str(mount / "directory"))


def mkdir_below_a_missing_directory_fails(mount, backing):
    """ENOENT, and nothing is made."""
    with raises_errno(errno.ENOENT):
        os.mkdir(str(mount / "missing" / "directory"))
    assert os.listdir(str(backing)) == []


def rmdir_removes_an_empty_directory(mount, backing):
    """The name is gone on both sides."""
    (mount / "directory").mkdir()
    (mount / "directory").rmdir()
    assert os.listdir(str(mount)) == os.listdir(str(backing)) == []
    with raises_errno(errno.ENOENT):
        (mount / "directory").stat()


def rmdir_of_a_directory_with_entries_fails(mount, backing):
    """ENOTEMPTY, and the entries stay."""
    (mount / "directory").mkdir()
    (mount / "directory" / "file").write_bytes(b"content")
    with raises_errno(errno.ENOTEMPTY):
        (mount / "directory").rmdir()
    assert (backing / "directory" / "file").read_bytes() == b"content"


def rmdir_sees_entries_made_on_the_backing_side(mount, backing):
    """ENOTEMPTY also for what the mount has never looked up."""
    (mount / "directory").mkdir()
    (backing / "directory" / "file").write_bytes(b"content")
    with raises_errno(errno.ENOTEMPTY):
        (mount / "directory").rmdir()
    assert (backing / "directory" / "file").exists()


def rmdir_of_a_file_fails(mount, backing):
    """ENOTDIR, and the file stays; a symlink to a directory is no directory either."""
    (mount / "file").write_bytes(b"content")
    (mount / "directory").mkdir()
    os.symlink("directory", str(mount / "link"))
    for name in ("file", "link"):
        with raises_errno(errno.ENOTDIR):
            os.rmdir(str(mount / name))
    assert sorted(os.listdir(str(backing))) == ["directory", "file", "link"]


def rmdir_of_dot_fails(mount, backing):
    """EINVAL for a path that ends in . (rmdir(2))."""
    (mount / "directory").mkdir()
    with raises_errno(errno.EINVAL):
        os.rmdir(str(mount / "directory") + "/.")
    assert (backing / "directory").is_dir()


def unlink_of_a_directory_fails(mount, backing):
    """EISDIR, and the directory stays."""
    (mount / "directory").mkdir()
    with raises_errno(errno.EISDIR):
        os.unlink(str(mount / "directory"))
    assert (backing / "directory").is_dir()


def a_name_can_be_reused_as_another_kind(mount, backing):
    """A directory removed may come back as a file, a symlink, a fifo and a directory again."""
    name = mount / "name"
    for _ in range(3):
        name.mkdir()
        (name / "inside").write_bytes(b"")
        (name / "inside").unlink()
        name.rmdir()
        name.write_bytes(b"content")
        assert (backing / "name").is_file()
        name.unlink()
        os.symlink("target", str(name))
        assert (backing / "name").is_symlink()
        name.unlink()
        os.mkfifo(str(name))
        assert (backing / "name").is_fifo()
        name.unlink()
    assert os.listdir(str(mount)) == []


def the_link_count_of_a_directory_follows_its_subdirectories(mount, backing):
    """mkdir and rmdir within show at once, as the backing filesystem counts."""
    (mount / "directory").mkdir()
    for number in range(3):
        (mount / "directory" / f"sub{number}").mkdir()
        assert _links(mount / "directory") == _links(backing / "directory")
    (mount / "directory" / "sub0").rmdir()
    assert _links(mount / "directory") == _links(backing / "directory")


def the_link_count_of_a_directory_follows_a_rename(mount, backing):
    """A subdirectory moved counts where it is."""
    (mount / "from").mkdir()
    (mount / "to").mkdir()
    (mount / "from" / "sub").mkdir()
    assert _links(mount / "from") == _links(backing / "from")
    (mount / "from" / "sub").rename(mount / "to" / "sub")
    assert _links(mount / "from") == _links(backing / "from")
    assert _links(mount / "to") == _links(backing / "to")


def ls_shows_dot_and_dot_dot(mount, backing):
    """ls -a lists both, each once, with what else is there."""
    (mount / "file").write_bytes(b"")
    listed = subprocess.check_output(["ls", "-a", str(mount)]).split(b"\n")
    assert listed == [b".", b"..", b"file", b""]


def dot_and_dot_dot_lead_where_they_should(mount, backing):
    """. is the directory itself and .. the one above."""
    (mount / "directory" / "sub").mkdir(parents=True)
    directory = mount / "directory"
    assert os.path.samefile(str(directory / "sub" / ".."), str(directory))
    assert os.path.samefile(str(directory) + "/.", str(directory))
    assert os.path.samefile(str(directory / "sub" / ".." / ".."), str(mount))


def dot_dot_follows_a_rename(mount, backing):
    """.. of a directory that moved is its new parent."""
    (mount / "from" / "sub").mkdir(parents=True)
    (mount / "to").mkdir()
    (mount / "from" / "sub").rename(mount / "to" / "sub")
    assert os.path.samefile(str(mount / "to" / "sub" / ".."), str(mount / "to"))


def names_relative_to_an_open_directory_work(mount, backing):
    """openat(2) and its family take a directory of the mount."""
    with opened(str(mount), os.O_RDONLY | os.O_DIRECTORY) as directory:
        os.mkdir("sub", dir_fd=directory)
        with opened("sub/file", os.O_CREAT | os.O_WRONLY, dir_fd=directory) as descriptor:
            os.write(descriptor, b"content")
        os.rename("sub/file", "file", src_dir_fd=directory, dst_dir_fd=directory)
        assert os.stat("file", dir_fd=directory).st_size == 7
        os.rmdir("sub", dir_fd=directory)
    assert (backing / "file").read_bytes() == b"content"
    assert os.listdir(str(backing)) == ["file"]


def an_open_directory_survives_a_rename(mount, backing):
    """A descriptor of a directory leads to it under its new name."""
    (mount / "directory").mkdir()
    with opened(str(mount / "directory"), os.O_RDONLY | os.O_DIRECTORY) as directory:
        (mount / "directory").rename(mount / "renamed")
        with opened("file", os.O_CREAT | os.O_WRONLY, dir_fd=directory) as descriptor:
            os.write(descriptor, b"content")
        assert os.listdir(directory) == ["file"]
    assert (backing / "renamed" / "file").read_bytes() == b"content"


def an_open_directory_that_was_removed_is_empty(mount, backing):
    """Nothing can be made in it any more, and nothing is found."""
    (mount / "directory").mkdir()
    with opened(str(mount / "directory"), os.O_RDONLY | os.O_DIRECTORY) as directory:
        (mount / "directory").rmdir()
        with raises_errno(errno.ENOENT):
            os.mkdir("sub", dir_fd=directory)
        with raises_errno(errno.ENOENT):
            os.stat("sub", dir_fd=directory)
    assert os.listdir(str(backing)) == []


def _number_of(function):
    try:
        function()
    except OSError as error:
        return error.errno
    return 0


@stock_cannot("libfuse 2.9 knows a directory by its path alone")
def no_name_is_taken_from_a_directory_that_has_replaced_another(mount, backing):
    """Who works in the first one meanwhile may be refused, but must not lose what is in the second."""

    def make(side):
        (side / "directory" / "sub").mkdir(parents=True)
        for name in ("unlinked", "renamed", "replaced"):
            (side / "directory" / name).write_bytes(b"content")

    make(mount)
    names = sorted(os.listdir(str(mount / "directory")))
    with opened(str(mount / "directory"), os.O_PATH | os.O_DIRECTORY) as directory:
        for name in names:
            os.stat(name, dir_fd=directory)
        (backing / "directory").rename(backing / "old")
        make(backing)
        keywords = {"src_dir_fd": directory, "dst_dir_fd": directory}
        for take in (
            lambda: os.unlink("unlinked", dir_fd=directory),
            lambda: os.rmdir("sub", dir_fd=directory),
            lambda: os.rename("renamed", "replaced", **keywords),
        ):
            assert _number_of(take) in (0, errno.ESTALE)
    assert sorted(os.listdir(str(backing / "directory"))) == names
    (mount / "directory" / "unlinked").unlink()
    assert not (backing / "directory" / "unlinked").exists()


@stock_cannot("libfuse 2.9 knows a directory by its path alone")
def nothing_is_removed_below_a_directory_that_has_replaced_another(mount, backing):
    """A rm -r in the first one does not get into the second."""
    for name in ("directory", "other"):
        (backing / name / "sub").mkdir(parents=True)
        (backing / name / "sub" / "file").write_bytes(b"content")

    def remove():
        with opened("sub", os.O_RDONLY | os.O_DIRECTORY, dir_fd=directory) as sub:
            for name in os.listdir(sub):
                os.unlink(name, dir_fd=sub)

    with opened(str(mount / "directory"), os.O_PATH | os.O_DIRECTORY) as directory:
        (backing / "directory").rename(backing / "old")
        (backing / "other").rename(backing / "directory")
        assert _number_of(remove) in (0, errno.ESTALE)
    assert (backing / "directory" / "sub" / "file").read_bytes() == b"content"
    assert (mount / "directory" / "sub" / "file").read_bytes() == b"content"


def a_directory_cannot_be_opened_for_writing(mount, backing):
    """EISDIR for every way to write."""
    (mount / "directory").mkdir()
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC | os.O_WRONLY):
        with raises_errno(errno.EISDIR):
            os.open(str(mount / "directory"), flags)


def a_directory_cannot_be_read_as_a_file(mount, backing):
    """EISDIR."""
    (mount / "directory").mkdir()
    with opened(str(mount / "directory")) as directory, raises_errno(errno.EISDIR):
        os.read(directory, 1)


def fsync_of_a_directory_works(mount, backing):
    """Databases sync the directory after they made or renamed a file."""
    (mount / "file").write_bytes(b"")
    with opened(str(mount), os.O_RDONLY | os.O_DIRECTORY) as directory:
        os.fsync(directory)


def a_tree_is_removed_completely(mount, backing):
    """rm -r on the mount leaves nothing on the backing side."""
    for number in range(5):
        branch = mount / "tree" / f"branch{number}" / "twig"
        branch.mkdir(parents=True)
        for leaf in range(5):
            (branch / f"leaf{leaf}").write_bytes(b"green")
    subprocess.check_call(["rm", "-r", str(mount / "tree")])
    assert os.listdir(str(mount)) == os.listdir(str(backing)) == []


@stock_cannot("libfuse 2.9 asks for the attributes of an open directory by a path that is gone")
def an_open_directory_that_was_removed_has_attributes(mount, backing):
    """fstat, fchmod, fchown and futimens reach it, whichever side removed it."""
    for side in (mount, backing):
        (mount / "directory").mkdir()
        with opened(str(mount / "directory")) as descriptor:
            (side / "directory").rmdir()
            os.fchmod(descriptor, 0o700)
            os.utime(descriptor, (1000, 2000))
            found = os.fstat(descriptor)
            assert found.st_mode & 0o7777 == 0o700
            assert found.st_mtime == 2000


def _look_around():
    """Do in the working directory, which was removed, what a shell there might do; return what it finds."""
    failures = []
    for make in (os.mkdir, os.mkfifo, os.stat):
        try:
            make("name")
        except OSError as error:
            failures.append(error.errno)
    os.chmod(".", 0o700)
    os.utime(".", (1000, 2000))
    found = os.stat(".")
    mode, links, mtime = stat.S_IMODE(found.st_mode), found.st_nlink, found.st_mtime
    return failures, os.listdir("."), mode, links, mtime, os.path.isdir("..")


@stock_cannot("libfuse 2.9 asks for a directory by a path that is gone")
def a_directory_that_was_removed_can_be_worked_in(mount, backing):
    """A shell whose directory was removed, or replaced, can still list it: it is empty, and stays so."""

    def remove(directory):
        directory.rmdir()

    def replace(directory):
        (mount / "other").mkdir()
        (mount / "other").rename(directory)

    for take in remove, replace:
        (mount / "directory").mkdir()
        with Bell() as arrived, Bell() as taken:

            def work(arrived=arrived, taken=taken):
                os.chdir(str(mount / "directory"))
                arrived.ring()
                taken.wait()
                return _look_around()

            with Child(work) as child:
                arrived.wait()
                take(mount / "directory")
                taken.ring()
                assert child.result() == ([errno.ENOENT] * 3, [], 0o700, 0, 2000.0, True)


def a_directory_that_could_not_be_removed_is_as_before(mount, backing):
    """ENOTEMPTY changes nothing for who works in it."""
    (mount / "directory" / "below").mkdir(parents=True)
    os.stat(str(mount / "directory"))
    with raises_errno(errno.ENOTEMPTY):
        (mount / "directory").rmdir()
    (mount / "directory").rename(mount / "elsewhere")
    (mount / "directory").mkdir()
    assert os.listdir(str(mount / "elsewhere")) == ["below"]
    assert os.listdir(str(mount / "directory")) == []
