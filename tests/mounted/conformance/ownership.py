"""Whose file it is: creation, setgid directories, loss of setuid."""

import functools
import mmap
import os
import socket
import stat
import subprocess

from . import libc
from .descriptors import opened
from .expectations import require_root, umask
from .processes import NOBODY, Identity, run, run_as_nobody
from .registry import stock_cannot


def _owner(path):
    found = os.lstat(str(path))
    return found.st_uid, found.st_gid


def _mode(path):
    return stat.S_IMODE(os.lstat(str(path)).st_mode)


def _create(name, mode=0o644):
    with opened(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode):
        pass


def _belongs_to_its_maker(mount, backing, make):
    """What nobody makes under the name "new" is nobody's, on both sides at once."""
    mount.chmod(0o777)
    run_as_nobody(mount, lambda: make("new"))
    assert _owner(mount / "new") == (NOBODY, NOBODY)
    assert _owner(backing / "new") == (NOBODY, NOBODY)


def a_file_belongs_to_who_made_it(mount, backing):
    """User and group of the caller of open."""
    _belongs_to_its_maker(mount, backing, _create)


def a_directory_belongs_to_who_made_it(mount, backing):
    """User and group of the caller of mkdir."""
    _belongs_to_its_maker(mount, backing, os.mkdir)


def a_symlink_belongs_to_who_made_it(mount, backing):
    """User and group of the caller of symlink."""
    _belongs_to_its_maker(mount, backing, lambda name: os.symlink("target", name))


def a_fifo_belongs_to_who_made_it(mount, backing):
    """User and group of the caller of mkfifo."""
    _belongs_to_its_maker(mount, backing, os.mkfifo)


def a_node_belongs_to_who_made_it(mount, backing):
    """User and group of the caller of mknod, for a regular file."""
    _belongs_to_its_maker(mount, backing, lambda name: os.mknod(name, stat.S_IFREG | 0o644))


def a_socket_belongs_to_who_made_it(mount, backing):
    """User and group of the caller of bind."""

    def bind(name):
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(name)

    _belongs_to_its_maker(mount, backing, bind)


def what_root_makes_belongs_to_root(mount, backing):
    """After others made files, root's are root's again."""
    require_root()
    mount.chmod(0o777)
    run_as_nobody(mount, lambda: _create("other"))
    (mount / "file").write_bytes(b"")
    (mount / "directory").mkdir()
    assert _owner(backing / "file") == _owner(backing / "directory") == (0, os.getegid())


def user_and_group_are_both_the_callers(mount, backing):
    """Ids of several callers in turn, with groups apart from the user, are kept apart."""
    mount.chmod(0o777)
    for uid, gid in ((1001, 2002), (70000, 80000), (4294967294, 4294967293), (1001, 100)):
        name = f"file-{uid}-{gid}"
        run(lambda name=name: _create(name), Identity(uid, gid), mount)
        assert _owner(mount / name) == _owner(backing / name) == (uid, gid)


def a_setgid_directory_gives_its_group_to_files(mount, backing):
    """New files have the directory's group, whatever groups the caller is in (inode(7))."""
    require_root()
    os.chown(str(mount), 0, 4242)
    mount.chmod(0o2777)
    run_as_nobody(mount, lambda: _create("file"))
    run_as_nobody(mount, lambda: os.mkfifo("fifo"))
    run_as_nobody(mount, lambda: os.symlink("target", "link"))
    for name in ("file", "fifo", "link"):
        assert _owner(mount / name) == _owner(backing / name) == (NOBODY, 4242)
    assert not _mode(backing / "file") & stat.S_ISGID


def a_setgid_directory_gives_group_and_bit_to_directories(mount, backing):
    """New directories have the directory's group and pass it on (inode(7))."""
    require_root()
    os.chown(str(mount), 0, 4242)
    mount.chmod(0o2777)

    def make():
        os.mkdir("directory")
        os.mkdir("directory/sub")
        _create("directory/sub/file")

    run_as_nobody(mount, make)
    for name in ("directory", "directory/sub"):
        assert _owner(mount / name) == _owner(backing / name) == (NOBODY, 4242)
        assert _mode(mount / name) == _mode(backing / name) == 0o2755
    assert _owner(backing / "directory" / "sub" / "file") == (NOBODY, 4242)


def a_setgid_directory_takes_the_setgid_bit_from_files_of_others(mount, backing):
    """Who is not in the group cannot make a setgid program of it (open(2) via inode_init_owner)."""
    require_root()
    os.chown(str(mount), 0, 4242)
    mount.chmod(0o2777)
    run_as_nobody(mount, lambda: _create("file", 0o2755))
    assert _mode(mount / "file") == _mode(backing / "file") == 0o755


def a_new_file_is_never_roots_for_a_moment(mount, backing):
    """The owner can reopen and chmod its file right after creating it."""
    mount.chmod(0o1777)

    def work():
        for number in range(20):
            _create(f"file{number}", 0o600)
            os.chmod(f"file{number}", 0o640)
            with opened(f"file{number}", os.O_RDWR) as descriptor:
                os.write(descriptor, b"content")

    run_as_nobody(mount, work)
    assert {_owner(backing / f"file{number}") for number in range(20)} == {(NOBODY, NOBODY)}


def _special_file(mount, mode):
    """A file of nobody's with the mode, writable for all."""
    require_root()
    (mount / "file").write_bytes(b"content")
    os.chown(str(mount / "file"), 1234, 5678)
    (mount / "file").chmod(mode)
    assert _mode(mount / "file") == mode


def writing_takes_setuid_and_setgid_away(mount, backing):
    """From a file that an ordinary user writes to (write(2), inode(7))."""
    _special_file(mount, 0o6777)

    def write():
        with opened("file", os.O_WRONLY) as descriptor:
            return os.write(descriptor, b"x")

    assert run_as_nobody(mount, write) == 1
    assert _mode(backing / "file") == 0o777
    assert _mode(mount / "file") == 0o777


def the_loss_of_setuid_is_seen_by_who_asks_for_the_mode_alone(mount, backing):
    """As stat(1) does, by statx(2): a write makes only size and times new for the kernel by itself."""

    def mode():
        return subprocess.check_output(["stat", "-c", "%a", str(mount / "file")])

    def write(flags):
        with opened("file", os.O_WRONLY | flags) as descriptor, mmap.mmap(-1, 4096) as page:
            os.writev(descriptor, [page])

    for flags in (0, os.O_DIRECT, os.O_TRUNC):
        _special_file(mount, 0o6777)
        assert mode() == b"6777\n"
        run_as_nobody(mount, functools.partial(write, flags))
        assert mode() == b"777\n"


@stock_cannot(
    "without HANDLE_KILLPRIV_V2 the kernel leaves it (fs/fuse/dir.c, fuse_setattr)", always=False
)
def setgid_without_the_right_to_execute_goes_as_below(mount, backing):
    """Since Linux 6.2 a write of who is not in the file's group takes that away too (fs/attr.c)."""
    for groups in ((), (5678,)):
        modes = []
        for directory in mount, backing:
            _special_file(directory, 0o2766)
            run_as_nobody(directory, functools.partial(_write_a_byte, "file"), groups)
            modes.append(_mode(directory / "file"))
        assert modes[0] == modes[1]


def _write_a_byte(name):
    with opened(name, os.O_WRONLY) as descriptor:
        os.write(descriptor, b"x")


def writing_by_root_keeps_setuid(mount, backing):
    """Root may edit setuid programs in place."""
    _special_file(mount, 0o6755)
    with opened(str(mount / "file"), os.O_WRONLY) as descriptor:
        os.write(descriptor, b"x")
    assert _mode(mount / "file") == _mode(backing / "file") == 0o6755


def truncating_takes_setuid_and_setgid_away(mount, backing):
    """From a file that an ordinary user truncates, by path or by open."""
    for shorten in (
        lambda: os.truncate("file", 3),
        lambda: os.close(os.open("file", os.O_WRONLY | os.O_TRUNC)),
    ):
        _special_file(mount, 0o6777)
        run_as_nobody(mount, shorten)
        assert _mode(backing / "file") == 0o777
        assert _mode(mount / "file") == 0o777


def every_change_of_data_takes_bits_away_that_came_after_the_open(mount, backing):
    """write, sendfile and ftruncate by an ordinary user, through a descriptor from before."""
    _changes_take_bits_away(
        mount,
        backing,
        lambda source, target: os.pwrite(target, b"x", 0),
        lambda source, target: os.sendfile(target, source, 0, 3),
        lambda source, target: os.ftruncate(target, 5),
    )


def a_file_that_gets_setuid_while_it_is_open_can_be_opened_again(mount, backing):
    """And run, read and written as ever."""
    _special_file(mount, 0o755)
    with opened(str(mount / "file"), os.O_RDWR) as descriptor:
        os.fchmod(descriptor, 0o6755)
        with opened(str(mount / "file")) as reader:
            os.pwrite(descriptor, b"CON", 0)
            assert os.pread(reader, 7, 0) == b"CONtent"
        with opened(str(mount / "file"), os.O_RDWR) as writer:
            os.pwrite(writer, b"TENT", 3)
    assert (backing / "file").read_bytes() == (mount / "file").read_bytes() == b"CONTENT"


@stock_cannot("libfuse 2.9 makes neither of these calls")
def allocation_and_copies_take_bits_away(mount, backing):
    """fallocate and copy_file_range too."""
    _changes_take_bits_away(
        mount,
        backing,
        lambda source, target: libc.fallocate(target, 0, 0, 100),
        lambda source, target: libc.copy_file_range(source, 0, target, 0, 5),
    )


def _changes_take_bits_away(mount, backing, *changes):
    _special_file(mount, 0o777)
    (mount / "source").write_bytes(b"content")
    for change in changes:
        with opened(str(mount / "file"), os.O_RDWR) as target:
            with opened(str(mount / "source")) as source:
                os.fchmod(target, 0o6777)
                run_as_nobody(mount, lambda change=change, ends=(source, target): change(*ends))
        assert _mode(backing / "file") == 0o777
        assert _mode(mount / "file") == 0o777


def chown_takes_setuid_and_setgid_away(mount, backing):
    """Also when root calls it, but no setgid without the right to execute (chown(2))."""
    for before, after in ((0o6755, 0o755), (0o6745, 0o2745)):
        _special_file(mount, before)
        os.chown(str(mount / "file"), 4321, -1)
        assert _mode(mount / "file") == _mode(backing / "file") == after


def chown_of_a_directory_keeps_setgid(mount, backing):
    """The bit of a directory is inheritance, not privilege."""
    require_root()
    (mount / "directory").mkdir()
    (mount / "directory").chmod(0o2755)
    os.chown(str(mount / "directory"), 4321, 8765)
    assert _mode(mount / "directory") == _mode(backing / "directory") == 0o2755


def chmod_by_an_owner_outside_the_group_loses_setgid(mount, backing):
    """Who is not in the file's group cannot set its setgid bit (chmod(2))."""
    require_root()
    (mount / "file").write_bytes(b"content")
    os.chown(str(mount / "file"), NOBODY, 5678)
    run_as_nobody(mount, lambda: os.chmod("file", 0o2755))
    assert _mode(mount / "file") == _mode(backing / "file") == 0o755
    run_as_nobody(mount, lambda: os.chmod("file", 0o2755), groups=[5678])
    assert _mode(mount / "file") == _mode(backing / "file") == 0o2755


def the_umask_is_that_of_the_caller(mount, backing):
    """Not the filesystem's, and not the one of whoever called before."""
    mount.chmod(0o777)

    def create(name, mask):
        with umask(mask):
            _create(name, 0o666)

    for name, mask, expected in (("one", 0o077, 0o600), ("two", 0, 0o666), ("six", 0o026, 0o640)):
        run_as_nobody(mount, lambda name=name, mask=mask: create(name, mask))
        assert _mode(mount / name) == _mode(backing / name) == expected
