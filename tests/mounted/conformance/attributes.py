"""stat, chmod, chown, access, umask."""

import os
import stat
import subprocess
import time

import pytest

from .descriptors import opened
from .expectations import eventually, require_root, umask
from .processes import run_as_nobody
from .registry import stock_cannot


def _attributes(path):
    found = os.lstat(str(path))
    return found.st_mode, found.st_nlink, found.st_uid, found.st_gid, found.st_size


def _mode(path):
    return stat.S_IMODE(os.lstat(str(path)).st_mode)


def _owner(path):
    found = os.lstat(str(path))
    return found.st_uid, found.st_gid


def a_file_has_the_attributes_of_its_backing_file(mount, backing):
    """Kind, mode, links, owner, group and size are the same on both sides."""
    (mount / "file").write_bytes(b"content")
    assert _attributes(mount / "file") == _attributes(backing / "file")
    assert (mount / "file").stat().st_size == 7


def a_file_made_on_the_backing_side_has_its_attributes_on_the_mount(mount, backing):
    """What was never looked at before is right at the first look."""
    (backing / "file").write_bytes(b"content")
    (backing / "file").chmod(0o640)
    assert _attributes(mount / "file") == _attributes(backing / "file")


def a_directory_has_the_attributes_of_its_backing_directory(mount, backing):
    """Kind, mode, links, owner and group of a directory are the same on both sides."""
    (mount / "directory").mkdir(0o750)
    assert _attributes(mount / "directory") == _attributes(backing / "directory")
    assert stat.S_ISDIR((mount / "directory").stat().st_mode)


def a_symlink_has_the_attributes_of_its_backing_symlink(mount, backing):
    """lstat of a symlink tells of the link itself; its size is the length of the target."""
    os.symlink("somewhere", str(mount / "link"))
    assert _attributes(mount / "link") == _attributes(backing / "link")
    assert os.lstat(str(mount / "link")).st_size == len("somewhere")


def chmod_sets_every_permission_bit(mount, backing):
    """Each mode given is the mode found on both sides."""
    (mount / "file").write_bytes(b"")
    for mode in (0o000, 0o400, 0o020, 0o001, 0o644, 0o755, 0o1777, 0o2755, 0o4755, 0o7777):
        (mount / "file").chmod(mode)
        assert (_mode(mount / "file"), _mode(backing / "file")) == (mode, mode)


def chmod_of_a_directory_sets_its_mode(mount, backing):
    """Directories take sticky and setgid too."""
    (mount / "directory").mkdir()
    for mode in (0o700, 0o1777, 0o2755, 0o3771):
        (mount / "directory").chmod(mode)
        assert (_mode(mount / "directory"), _mode(backing / "directory")) == (mode, mode)


def chmod_keeps_kind_owner_and_content(mount, backing):
    """A change of the mode changes nothing else."""
    (mount / "file").write_bytes(b"content")
    before = _attributes(backing / "file")
    (mount / "file").chmod(0o600)
    assert _attributes(backing / "file")[1:] == before[1:]
    assert stat.S_ISREG((mount / "file").stat().st_mode)
    assert (backing / "file").read_bytes() == b"content"


def fchmod_sets_the_mode_of_an_open_file(mount, backing):
    """fchmod on a descriptor is seen by path on both sides."""
    with opened(str(mount / "file"), os.O_CREAT | os.O_RDWR) as descriptor:
        os.fchmod(descriptor, 0o611)
        assert _mode(mount / "file") == 0o611
    assert _mode(backing / "file") == 0o611


def fchmod_works_on_a_descriptor_opened_for_reading(mount, backing):
    """The right to change the mode does not come from the open flags."""
    (mount / "file").write_bytes(b"")
    with opened(str(mount / "file"), os.O_RDONLY) as descriptor:
        os.fchmod(descriptor, 0o606)
    assert _mode(backing / "file") == 0o606


def chmod_follows_a_symlink(mount, backing):
    """chmod of a symlink's path changes the file it leads to."""
    (mount / "file").write_bytes(b"")
    os.symlink("file", str(mount / "link"))
    os.chmod(str(mount / "link"), 0o604)
    assert _mode(backing / "file") == 0o604


def chown_sets_owner_and_group(mount, backing):
    """Both ids given are the ids found on both sides."""
    require_root()
    (mount / "file").write_bytes(b"")
    os.chown(str(mount / "file"), 1234, 5678)
    assert _owner(mount / "file") == (1234, 5678)
    assert _owner(backing / "file") == (1234, 5678)


def chown_of_the_owner_alone_keeps_the_group(mount, backing):
    """A group of -1 means unchanged (chown(2))."""
    require_root()
    (mount / "file").write_bytes(b"")
    os.chown(str(mount / "file"), 11, 22)
    os.chown(str(mount / "file"), 33, -1)
    assert _owner(mount / "file") == _owner(backing / "file") == (33, 22)


def chown_of_the_group_alone_keeps_the_owner(mount, backing):
    """An owner of -1 means unchanged (chown(2))."""
    require_root()
    (mount / "file").write_bytes(b"")
    os.chown(str(mount / "file"), 11, 22)
    os.chown(str(mount / "file"), -1, 44)
    assert _owner(mount / "file") == _owner(backing / "file") == (11, 44)


def ids_have_32_bits(mount, backing):
    """User and group ids beyond 31 bits arrive, up to the largest one, 4294967294."""
    require_root()
    (mount / "file").write_bytes(b"")
    for uid, gid in ((2147483647, 2147483648), (4294967294, 3000000000), (70000, 4294967294)):
        os.chown(str(mount / "file"), uid, gid)
        assert _owner(mount / "file") == _owner(backing / "file") == (uid, gid)


def fchown_sets_owner_and_group_of_an_open_file(mount, backing):
    """fchown on a descriptor is seen by path on both sides."""
    require_root()
    with opened(str(mount / "file"), os.O_CREAT | os.O_RDWR) as descriptor:
        os.fchown(descriptor, 1234, 5678)
        assert _owner(mount / "file") == (1234, 5678)
    assert _owner(backing / "file") == (1234, 5678)


def chown_of_a_directory_sets_its_owner(mount, backing):
    """Directories change hands as files do."""
    require_root()
    (mount / "directory").mkdir()
    os.chown(str(mount / "directory"), 1234, 5678)
    assert _owner(mount / "directory") == _owner(backing / "directory") == (1234, 5678)


def lchown_changes_the_symlink_and_not_its_target(mount, backing):
    """The link has an owner of its own."""
    require_root()
    (mount / "file").write_bytes(b"")
    os.symlink("file", str(mount / "link"))
    os.lchown(str(mount / "link"), 1234, 5678)
    assert _owner(mount / "link") == _owner(backing / "link") == (1234, 5678)
    assert _owner(backing / "file") == (os.geteuid(), os.getegid())


def chown_follows_a_symlink(mount, backing):
    """chown of a symlink's path changes the file it leads to."""
    require_root()
    (mount / "file").write_bytes(b"")
    os.symlink("file", str(mount / "link"))
    os.chown(str(mount / "link"), 1234, 5678)
    assert _owner(backing / "file") == (1234, 5678)
    assert _owner(backing / "link") == (os.geteuid(), os.getegid())


def umask_applies_to_new_files(mount, backing):
    """The caller's umask takes bits from the mode of a new file."""
    for mask, expected in ((0o000, 0o666), (0o022, 0o644), (0o077, 0o600)):
        with umask(mask), opened(str(mount / f"file{mask}"), os.O_CREAT | os.O_WRONLY, 0o666):
            assert _mode(mount / f"file{mask}") == expected
        assert _mode(backing / f"file{mask}") == expected


def umask_applies_to_new_directories(mount, backing):
    """The caller's umask takes bits from the mode of a new directory."""
    for mask, expected in ((0o000, 0o777), (0o027, 0o750), (0o077, 0o700)):
        with umask(mask):
            (mount / f"directory{mask}").mkdir()
        assert _mode(mount / f"directory{mask}") == expected
        assert _mode(backing / f"directory{mask}") == expected


def umask_applies_to_new_nodes(mount, backing):
    """The caller's umask takes bits from the mode of what mknod makes."""
    with umask(0o026):
        os.mknod(str(mount / "file"), stat.S_IFREG | 0o666)
        os.mkfifo(str(mount / "fifo"), 0o777)
    assert _mode(mount / "file") == _mode(backing / "file") == 0o640
    assert _mode(mount / "fifo") == _mode(backing / "fifo") == 0o751


def umask_spares_a_mode_set_by_chmod(mount, backing):
    """Only creation is subject to the umask."""
    with umask(0o077):
        (mount / "file").write_bytes(b"")
        (mount / "file").chmod(0o666)
    assert _mode(backing / "file") == 0o666


def a_new_file_has_the_special_bits_of_its_mode(mount, backing):
    """setuid, setgid and sticky given at creation by root are kept."""
    require_root()
    with umask(0), opened(str(mount / "file"), os.O_CREAT | os.O_WRONLY, 0o7755):
        pass
    assert _mode(mount / "file") == _mode(backing / "file") == 0o7755


def a_descriptor_may_write_to_the_read_only_file_it_created(mount, backing):
    """The mode given to open applies to later opens only (open(2))."""

    def create():
        with opened("file", os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o400) as descriptor:
            return os.write(descriptor, b"content")

    mount.chmod(0o777)
    assert run_as_nobody(mount, create) == 7
    assert (backing / "file").read_bytes() == b"content"
    assert _mode(backing / "file") == 0o400


def access_answers_by_the_mode_for_an_ordinary_user(mount, backing):
    """access(2) of another's file follows the bits for others."""
    (mount / "file").write_bytes(b"")
    kinds = (os.R_OK, os.W_OK, os.X_OK)
    for mode in range(8):
        (mount / "file").chmod(0o700 | mode)
        answers = run_as_nobody(mount, lambda: [os.access("file", kind) for kind in kinds])
        assert answers == [bool(mode & 4), bool(mode & 2), bool(mode & 1)]


def access_lets_root_read_and_write_everything_and_run_what_anyone_may(mount, backing):
    """Root is refused only the execution of a file that has no x bit at all."""
    require_root()
    (mount / "file").write_bytes(b"")
    (mount / "file").chmod(0o000)
    assert os.access(str(mount / "file"), os.R_OK | os.W_OK)
    assert not os.access(str(mount / "file"), os.X_OK)
    (mount / "file").chmod(0o001)
    assert os.access(str(mount / "file"), os.X_OK)


def access_of_a_missing_name_fails(mount, backing):
    """F_OK tells whether the name is there."""
    assert not os.access(str(mount / "file"), os.F_OK)
    (backing / "other").write_bytes(b"")
    assert os.access(str(mount / "other"), os.F_OK)


def allocated_blocks_are_those_of_the_backing_file(mount, backing):
    """st_blocks shows a sparse file as sparse, for du and tar."""
    with opened(str(mount / "file"), os.O_CREAT | os.O_RDWR) as descriptor:
        os.pwrite(descriptor, b"x" * 65536, 16 << 20)
        os.fsync(descriptor)
    assert (mount / "file").stat().st_blocks == (backing / "file").stat().st_blocks
    assert (mount / "file").stat().st_blocks * 512 < 16 << 20


def device_and_inode_identify_a_file(mount, backing):
    """Different files differ in st_ino, and a file keeps its own, also when renamed."""
    (mount / "one").write_bytes(b"")
    (mount / "two").write_bytes(b"")
    one, two = (mount / "one").stat(), (mount / "two").stat()
    assert one.st_dev == two.st_dev
    assert one.st_ino != two.st_ino
    (mount / "one").rename(mount / "three")
    assert (mount / "three").stat().st_ino == one.st_ino
    assert sorted(os.listdir(str(backing))) == ["three", "two"]


@stock_cannot("libfuse 2.9 cannot tell the size of what the kernel asks for")
def inode_flags_are_those_of_the_backing_file(mount, backing):
    """chattr and lsattr work, also on a directory: ioctl_iflags(2)."""
    require_root()
    (mount / "directory").mkdir()
    (mount / "file").write_bytes(b"content")
    for name in ("directory", "file"):
        path = str(backing / name)
        if subprocess.call(["chattr", "+d", path], stderr=subprocess.DEVNULL):
            pytest.skip("the backing filesystem has no inode flags")
        assert _inode_flags(str(mount / name)) == _inode_flags(path)
        subprocess.check_call(["chattr", "-d", "+A", str(mount / name)])
        assert _inode_flags(str(mount / name)) == _inode_flags(path)
        assert "A" in _inode_flags(path)
        assert "d" not in _inode_flags(path)


@stock_cannot("libfuse 2.9 cannot tell the size of what the kernel asks for")
def changing_inode_flags_sets_the_ctime(mount, backing):
    """Also where the status has just been asked for."""
    require_root()
    (mount / "file").write_bytes(b"content")
    if subprocess.call(["chattr", "+d", str(backing / "file")], stderr=subprocess.DEVNULL):
        pytest.skip("the backing filesystem has no inode flags")
    before = (mount / "file").stat()
    assert eventually(lambda: time.time() > before.st_ctime + 0.02)
    subprocess.check_call(["chattr", "-d", str(mount / "file")])
    assert (mount / "file").stat().st_ctime > before.st_ctime


def _inode_flags(path):
    listed = subprocess.check_output(["lsattr", "-d", path], universal_newlines=True)
    return listed.split()[0]
