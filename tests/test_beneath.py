"""fusepy_legacy.beneath: paths to descriptors, and no way out of the root."""

import contextlib
import errno
import fcntl
import os
import shutil
import signal
import stat
import threading
import time
from pathlib import Path
from typing import Callable, Iterator, List

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fusepy_legacy import syscalls
from fusepy_legacy.beneath import PATH_MAX, Beneath, _pieces
from tests.errnos import raises_errno
from tests.mounted.commands import output_of
from tests.mounted.mounting import unmount

# What a path that leads out, or through a symlink, is answered with. A symlink where a directory must be
# is ENOTDIR to open(2) with O_DIRECTORY | O_NOFOLLOW, and ELOOP to openat2(2).
REFUSED = (errno.ELOOP, errno.ENOTDIR, errno.EXDEV)

# Each way to ask for a file. They return what tells the file inside from the one outside.
WAYS_TO_ASK = {
    "open": lambda beneath, path: read_descriptor(beneath.open(path, os.O_RDONLY)),
    "stat": lambda beneath, path: beneath.stat(path).st_size,
    "parent": lambda beneath, path: read_in_parent(beneath, path),
    "reference": lambda beneath, path: read_reference(beneath, path),
}
INSIDE, OUTSIDE = b"inside", b"outside the root"


def read_descriptor(descriptor: int) -> bytes:
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def read_in_parent(beneath: Beneath, path: str) -> bytes:
    with beneath.parent(path) as (directory, name):
        return read_descriptor(os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=directory))


def read_reference(beneath: Beneath, path: str) -> bytes:
    with beneath.reference(path) as reference:
        return read_descriptor(os.open(reference, os.O_RDONLY))


def means_inside(answer: object) -> bool:
    return answer in (INSIDE, len(INSIDE))


def refuse_openat2(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*arguments: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(syscalls, "openat2", refuse)


@pytest.fixture(params=["openat2", "walk"])
def walking(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to walk: openat2(2), and component by component as on kernels without it."""
    if request.param == "walk":
        refuse_openat2(monkeypatch, errno.ENOSYS)
        return "walk"
    root = os.open("/", os.O_PATH)
    try:
        os.close(syscalls.openat2(root, ".", os.O_PATH, 0, 0))
    except OSError as error:
        pytest.skip(f"openat2 is not to be had here: {error}")
    finally:
        os.close(root)
    return "openat2"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with /a/b/c/secret in it, and a directory outside that has the same names."""
    for top, content in (("root", INSIDE), ("outside", OUTSIDE)):
        directory = tmp_path / top / "a" / "b" / "c"
        directory.mkdir(parents=True)
        (directory / "secret").write_bytes(content)
    return tmp_path / "root"


@pytest.fixture
def beneath(root: Path, walking: str) -> Iterator[Beneath]:
    """The root, opened."""
    opened = Beneath(str(root))
    yield opened
    opened.close()


@pytest.fixture(params=sorted(WAYS_TO_ASK))
def ask(request: pytest.FixtureRequest) -> Callable[[Beneath, str], object]:
    """Each way to ask for a file."""
    return WAYS_TO_ASK[request.param]


def test_a_file_is_found_by_its_path_from_the_root(
    beneath: Beneath, ask: Callable[[Beneath, str], object]
) -> None:
    """open, stat, parent and reference all mean the file inside."""
    assert means_inside(ask(beneath, "/a/b/c/secret"))


def test_the_root_is_a_slash(beneath: Beneath, root: Path) -> None:
    """A path of one slash means the root itself, to every way of asking."""
    expected = root.stat()
    assert os.path.samestat(beneath.stat("/"), expected)
    descriptor = beneath.open("/", os.O_RDONLY | os.O_DIRECTORY)
    assert os.listdir(descriptor) == ["a"]
    os.close(descriptor)
    with beneath.parent("/") as (directory, name):
        assert os.path.samestat(os.stat(name, dir_fd=directory), expected)
    with beneath.reference("/") as reference:
        assert os.path.samestat(os.stat(reference), expected)


@pytest.mark.parametrize("relation", ["absolute", "relative", "inside"])
@pytest.mark.parametrize("component", ["a", "a/b", "a/b/c"])
def test_a_symlink_on_the_way_is_not_followed(
    beneath: Beneath,
    root: Path,
    ask: Callable[[Beneath, str], object],
    component: str,
    relation: str,
) -> None:
    """A directory that has become a symlink is an error, wherever it is and wherever it leads."""
    link = root / component
    link.rename(root / "moved")
    outside = root.parent / "outside" / component
    targets = {
        "absolute": str(outside),
        "relative": os.path.relpath(str(outside), str(link.parent)),
        "inside": str(root / "moved"),
    }
    link.symlink_to(targets[relation])
    assert (link / "").is_dir(), "the link leads somewhere, for who follows it"
    with raises_errno(*REFUSED):
        ask(beneath, "/a/b/c/secret")


@pytest.mark.parametrize("path", ["/link", "/a/b/link"])
def test_a_symlink_at_the_end_is_meant_itself(beneath: Beneath, root: Path, path: str) -> None:
    """stat, parent and reference give the symlink, and open refuses it with ELOOP."""
    link = root / path[1:]
    link.symlink_to(root.parent / "outside" / "a" / "b" / "c" / "secret")
    assert beneath.stat(path).st_ino == link.lstat().st_ino
    with beneath.parent(path) as (directory, name):
        assert os.readlink(name, dir_fd=directory) == os.readlink(str(link))
    with beneath.reference(path) as reference:
        assert os.stat(reference).st_ino == link.lstat().st_ino
        with raises_errno(errno.ELOOP):
            os.open(reference, os.O_RDONLY)
    for flags in (os.O_RDONLY, os.O_WRONLY | os.O_TRUNC, os.O_WRONLY | os.O_CREAT):
        with raises_errno(errno.ELOOP):
            beneath.open(path, flags, 0o600)


@pytest.mark.parametrize("path", ["/dangling", "/a/b/dangling"])
def test_a_dangling_symlink_creates_nothing_at_its_target(
    beneath: Beneath, root: Path, path: str
) -> None:
    """O_CREAT through a symlink to a missing file is refused; with O_EXCL it is EEXIST."""
    target = root.parent / "outside" / "created"
    (root / path[1:]).symlink_to(target)
    with raises_errno(errno.ELOOP):
        beneath.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    with pytest.raises(FileExistsError):
        beneath.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    assert not target.exists()


@pytest.mark.parametrize(
    "path", ["/..", "/../outside", "/../outside/a/b/c/secret", "/a/../../outside", "/a/b/../../.."]
)
def test_dot_dot_does_not_leave_the_root(
    beneath: Beneath, ask: Callable[[Beneath, str], object], path: str
) -> None:
    """A walk upwards out of the root is EXDEV; the kernel never sends one."""
    with raises_errno(errno.EXDEV):
        ask(beneath, path)


def test_a_second_slash_does_not_make_a_path_of_the_machine(
    beneath: Beneath, root: Path, ask: Callable[[Beneath, str], object]
) -> None:
    """The path //x is not the machine's /x."""
    with raises_errno(errno.EXDEV, errno.ENOENT):
        ask(beneath, f"/{root.parent / 'outside' / 'a' / 'b' / 'c' / 'secret'}")


def test_a_directory_swapped_for_a_symlink_during_the_walk_never_leads_out(
    beneath: Beneath, root: Path
) -> None:
    """For a second, a directory is a symlink to the outside every other moment: inside, or an error."""
    (root / "trap").symlink_to(root.parent / "outside" / "a")
    running = True
    descriptor = os.open(str(root), os.O_PATH)

    def swap() -> None:
        while running:
            syscalls.renameat2(descriptor, "a", descriptor, "trap", syscalls.RENAME_EXCHANGE)

    answers: List[object] = []
    refusals = set()
    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            for ask in WAYS_TO_ASK.values():
                try:
                    answers.append(ask(beneath, "/a/b/c/secret"))
                except OSError as error:
                    refusals.add(error.errno)
    finally:
        running = False
        swapper.join()
        os.close(descriptor)
    assert {means_inside(answer) for answer in answers} == {True}
    assert refusals, "no walk ever met the symlink"
    assert refusals <= set(REFUSED)


LONG_NAMES = ["x" * 200] * 25 + ["\u00e9" * 127] * 4  # over 6,000 bytes
LONG_PATH = "/" + "/".join(LONG_NAMES)


@pytest.fixture
def long_root(tmp_path: Path) -> Iterator[Path]:
    """A root with a chain of directories whose path is longer than PATH_MAX."""
    directory = os.open(str(tmp_path), os.O_RDONLY)
    for name in LONG_NAMES:
        os.mkdir(name, dir_fd=directory)
        following = os.open(name, os.O_RDONLY, dir_fd=directory)
        os.close(directory)
        directory = following
    os.close(directory)
    yield tmp_path
    shutil.rmtree(str(tmp_path / LONG_NAMES[0]))


def test_paths_longer_than_path_max_work(long_root: Path, walking: str) -> None:
    """A file too deep for one system call is created, opened, statted, referred to and unlinked."""
    path = LONG_PATH + "/file"
    assert len(os.fsencode(path)) > PATH_MAX + 1000
    beneath = Beneath(str(long_root))
    try:
        descriptor = beneath.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o640)
        os.write(descriptor, INSIDE)
        os.close(descriptor)
        for ask in WAYS_TO_ASK.values():
            assert means_inside(ask(beneath, path))
        assert stat.S_ISDIR(beneath.stat(LONG_PATH).st_mode)
        with beneath.parent(path) as (directory, name):
            assert name == "file"
            os.unlink(name, dir_fd=directory)
        with pytest.raises(FileNotFoundError):
            beneath.stat(path)
    finally:
        beneath.close()


def test_a_symlink_in_any_piece_of_a_long_path_is_not_followed(
    long_root: Path, walking: str
) -> None:
    """Cutting a long path into pieces lets no symlink through at the cuts."""
    beneath = Beneath(str(long_root))
    answers = set()
    try:
        for depth in range(1, len(LONG_NAMES)):
            directory_path = "/" + "/".join(LONG_NAMES[:depth])
            with beneath.parent(directory_path) as (directory, name):
                os.rename(name, "moved", src_dir_fd=directory, dst_dir_fd=directory)
                os.symlink("moved", name, dir_fd=directory)
                try:
                    beneath.stat(LONG_PATH)
                    answers.add("followed")
                except OSError as error:
                    answers.add(error.errno)
                finally:
                    os.unlink(name, dir_fd=directory)
                    os.rename("moved", name, src_dir_fd=directory, dst_dir_fd=directory)
    finally:
        beneath.close()
    assert answers <= set(REFUSED)
    assert answers


components = st.builds(
    lambda character, count: character * count,
    st.sampled_from(["a", "\u00e9", "\u20ac", "\U0001f600", "\udcff"]),
    st.integers(min_value=1, max_value=63),
)


@given(st.lists(components, min_size=1, max_size=60))
@example(["a" * 255] * 15 + ["b" * 254])
@example(["a" * 255] * 15 + ["b" * 254, "c"])  # 4,096 bytes: one more than fits
@example(["a" * 255] * 16)
@example(["\U0001f600" * 63] * 17)
def test_pieces_are_the_path_and_each_fits_into_a_system_call(names: List[str]) -> None:
    """Joined by slashes the pieces are the path again; each is shorter than PATH_MAX, counting the NUL."""
    path = "/".join(names)
    pieces = _pieces(path)
    assert "/".join(pieces) == path
    assert all(0 < len(os.fsencode(piece)) < PATH_MAX for piece in pieces)


def test_open_creates_with_the_mode_given(beneath: Beneath, root: Path) -> None:
    """The permission bits arrive; file type bits in the mode do no harm; at the top and further down."""
    umask = os.umask(0)
    try:
        for path in ("/top", "/a/b/deep"):
            os.close(beneath.open(path, os.O_CREAT | os.O_WRONLY, stat.S_IFREG | 0o4751))
            assert (root / path[1:]).stat().st_mode == stat.S_IFREG | 0o4751
    finally:
        os.umask(umask)


@pytest.mark.parametrize("path", ["/a", "/a/b"])
def test_open_makes_unnamed_files(beneath: Beneath, root: Path, path: str) -> None:
    """O_TMPFILE works, with its mode."""
    try:
        os.close(os.open(str(root), os.O_TMPFILE | os.O_RDWR))
    except OSError as error:
        pytest.skip(f"the filesystem of {root} has no O_TMPFILE: {error}")
    descriptor = beneath.open(path, os.O_TMPFILE | os.O_RDWR, 0o600)
    status = os.fstat(descriptor)
    os.close(descriptor)
    assert (status.st_mode, status.st_nlink) == (stat.S_IFREG | 0o600, 0)


@pytest.mark.parametrize("path", ["/file", "/a/file"])
def test_open_ignores_flags_that_are_the_kernels_own(
    beneath: Beneath, root: Path, path: str
) -> None:
    """O_LARGEFILE and __FMODE_EXEC, which FUSE hands on, and a mode without O_CREAT, are no EINVAL."""
    (root / path[1:]).write_bytes(INSIDE)
    descriptor = beneath.open(path, os.O_RDONLY | 0o100000 | 0x20, 0o644)
    assert read_descriptor(descriptor) == INSIDE


def test_large_files_can_be_opened_on_every_machine(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """32-bit kernels want O_LARGEFILE from openat2 for files over 2 GiB, and refuse it beside O_PATH."""
    large = 0o100000  # asm-generic/fcntl.h
    opened: List[int] = []

    def openat2(directory: int, path: str, flags: int, mode: int, resolve: int) -> int:
        opened.append(flags)
        return os.open(path, flags & ~large, mode, dir_fd=directory)

    monkeypatch.setattr(os, "O_LARGEFILE", large)
    monkeypatch.setattr(syscalls, "openat2", openat2)
    beneath = Beneath(str(root))
    os.close(beneath.open("/a/b/c/secret", os.O_RDONLY))
    assert opened.pop() & large
    os.close(beneath.open("/a/b/c/secret", os.O_PATH))
    assert [flags for flags in opened if flags & large] == []
    beneath.close()


@pytest.mark.parametrize("path", ["/file", "/a/file"])
def test_open_keeps_the_flags_that_mean_something(beneath: Beneath, root: Path, path: str) -> None:
    """O_APPEND, O_EXCL, O_TRUNC, O_DSYNC do what they do; close-on-exec is always set."""
    (root / path[1:]).write_bytes(INSIDE)
    descriptor = beneath.open(path, os.O_WRONLY | os.O_APPEND)
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, b"!")
    assert not os.get_inheritable(descriptor)
    os.close(descriptor)
    assert (root / path[1:]).read_bytes() == INSIDE + b"!"
    with pytest.raises(FileExistsError):
        beneath.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with pytest.raises(NotADirectoryError):
        beneath.open(path, os.O_RDONLY | os.O_DIRECTORY)
    os.close(beneath.open(path, os.O_WRONLY | os.O_TRUNC))
    assert (root / path[1:]).read_bytes() == b""


def test_names_that_are_not_utf8_work(beneath: Beneath, root: Path) -> None:
    """Bytes that are no UTF-8 arrive as os.fsdecode makes them, and mean the same file."""
    name = os.fsdecode(b"\xff\xfe")
    for path in (f"/{name}", f"/a/{name}"):
        os.close(beneath.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        assert stat.S_ISREG(beneath.stat(path).st_mode)
    assert b"\xff\xfe" in os.listdir(os.fsencode(str(root / "a")))


def test_errors_name_what_is_wrong(beneath: Beneath, ask: Callable[[Beneath, str], object]) -> None:
    """A missing file is ENOENT, a file on the way ENOTDIR, a name over 255 bytes ENAMETOOLONG."""
    for path, expected in (
        ("/missing", errno.ENOENT),
        ("/a/missing/file", errno.ENOENT),
        ("/a/b/c/secret/file", errno.ENOTDIR),
        ("/" + "x" * 256, errno.ENAMETOOLONG),
        ("/a/" + "x" * 256, errno.ENAMETOOLONG),
        ("/a/" + "x" * 256 + "/file", errno.ENAMETOOLONG),
    ):
        with raises_errno(expected):
            ask(beneath, path)


def test_failures_leave_no_descriptor_open(beneath: Beneath, root: Path) -> None:
    """Each walk that ends half-way closes what it has opened."""
    (root / "a" / "b" / "link").symlink_to("c")
    before = os.listdir("/proc/self/fd")
    for path in (
        "/missing",
        "/a/missing/file",
        "/a/b/c/missing",
        "/a/b/link/secret",
        "/a/b/c/secret/file",
        "/a/b/../../..",
        "/a/b/" + "x" * 256,
        LONG_PATH,
        "/a/b/c" + LONG_PATH,
        "/a/b/c/" + "/".join(["."] * PATH_MAX) + "/missing",
    ):
        for ask in WAYS_TO_ASK.values():
            with raises_errno(*REFUSED, errno.ENOENT, errno.ENAMETOOLONG):
                ask(beneath, path)
    with pytest.raises(KeyError), beneath.parent("/a/b/c/secret"):
        raise KeyError
    with pytest.raises(KeyError), beneath.reference("/a/b/c/secret"):
        raise KeyError
    assert os.listdir("/proc/self/fd") == before


def test_a_root_that_cannot_be_opened_leaves_no_descriptor_open(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The constructor closes what it has opened when it fails, at whichever of its steps."""
    before = os.listdir("/proc/self/fd")
    with pytest.raises(FileNotFoundError):
        Beneath(str(root / "missing"))
    with pytest.raises(NotADirectoryError):
        Beneath(str(root / "a" / "b" / "c" / "secret"))
    with pytest.raises(FileNotFoundError):
        Beneath(str(root), str(root / "missing"))
    refuse_openat2(monkeypatch, errno.ENOMEM)
    with raises_errno(errno.ENOMEM):
        Beneath(str(root), str(root / "a"))
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM])
def test_without_openat2_the_walk_takes_over(
    root: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """An old kernel says ENOSYS, an old container's seccomp filter EPERM: both are no reason to fail."""
    refuse_openat2(monkeypatch, number)
    beneath = Beneath(str(root))
    assert means_inside(beneath.stat("/a/b/c/secret").st_size)
    beneath.close()


def test_openat2_is_asked_again_when_a_rename_got_in_its_way(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EAGAIN and EINTR are not handed on."""
    answers = [errno.EAGAIN, errno.EINTR, errno.EAGAIN]

    def openat2(directory: int, path: str, flags: int, mode: int, resolve: int) -> int:
        if path != "." and answers:
            number = answers.pop()
            raise OSError(number, os.strerror(number))
        return os.open(path, flags, mode, dir_fd=directory)

    monkeypatch.setattr(syscalls, "openat2", openat2)
    beneath = Beneath(str(root))
    assert means_inside(beneath.stat("/a/b/c/secret").st_size)
    assert not answers
    beneath.close()


@pytest.fixture
def covered(root: Path, walking: str) -> Iterator[Beneath]:
    """A root whose /a/b is covered by a mount."""
    opened = Beneath(str(root), str(root / "a" / "b"))
    try:
        with covering(root / "a" / "b"):
            yield opened
    finally:
        opened.close()


@contextlib.contextmanager
def covering(directory: Path) -> Iterator[None]:
    """Mount something over a directory for the block, wherever that is moved meanwhile."""
    if os.geteuid() != 0:
        pytest.skip("mounts")
    with contextlib.ExitStack() as stack:
        above = stack.enter_context(descriptor_of(directory.parent))
        stack.callback(lambda: unmount(Path(os.readlink(f"/proc/self/fd/{above}"), directory.name)))
        output_of("mount", "-t", "tmpfs", "tmpfs", directory)
        (directory / "c").mkdir()
        (directory / "c" / "secret").write_bytes(b"in the mount, where no answer comes")
        yield


@contextlib.contextmanager
def descriptor_of(directory: Path) -> Iterator[int]:
    """A directory's descriptor, which stays with it through renames."""
    descriptor = os.open(str(directory), os.O_PATH)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def inode_below(covered: Beneath) -> int:
    """Return the inode number of the covered directory."""
    assert covered.covered is not None
    return os.fstat(covered.covered.descriptor).st_ino


def test_a_covered_directory_is_reached_below_the_mount(
    covered: Beneath, root: Path, ask: Callable[[Beneath, str], object]
) -> None:
    """A path through the mount point means what was there before the mount, in every way of asking."""
    assert means_inside(ask(covered, "/a/b/c/secret"))
    below = inode_below(covered)
    assert covered.stat("/a/b").st_ino == below != (root / "a" / "b").stat().st_ino
    with covered.parent("/a/b") as (directory, name):
        assert os.stat(name, dir_fd=directory).st_ino == below
    with covered.parent("/a/b/file") as (directory, name):
        assert os.fstat(directory).st_ino == below
        assert name == "file"


def test_a_covered_directory_has_no_way_out_either(
    covered: Beneath, root: Path, ask: Callable[[Beneath, str], object]
) -> None:
    """Walks upwards and symlinks below the mount point are refused as elsewhere."""
    assert covered.covered is not None
    target = str(root.parent / "outside" / "a" / "b")
    os.symlink(target, "link", dir_fd=covered.covered.descriptor)
    for path in ("/a/b/..", "/a/b/../outside/a/b/c/secret", "/a/b/link/c/secret"):
        with raises_errno(*REFUSED):
            ask(covered, path)


def test_a_name_that_begins_like_the_mount_point_is_another_file(
    covered: Beneath, root: Path
) -> None:
    """Only /a/b is covered: /a/bc is not, nor is /a."""
    (root / "a" / "bc").write_bytes(INSIDE)
    assert means_inside(covered.stat("/a/bc").st_size)
    assert os.path.samestat(covered.stat("/a"), (root / "a").stat())


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("a", "z", "/z/b/c/secret"),
        ("a", "other/deeper", "/other/deeper/b/c/secret"),
        ("a/bc", "z", "/a/b/c/secret"),
        ("other", "z", "/a/b/c/secret"),
    ],
)
def test_a_rename_above_the_mount_point_takes_it_along(
    covered: Beneath, root: Path, old: str, new: str, expected: str
) -> None:
    """Whoever renames, the covered directory has its new path; other renames change nothing."""
    (root / "a" / "bc").mkdir()
    (root / "other").mkdir()
    (root / old).rename(root / new)
    assert means_inside(covered.stat(expected).st_size)


def test_a_mount_point_that_leaves_the_root_covers_nothing(covered: Beneath, root: Path) -> None:
    """What has its path then is just a directory."""
    (root / "a").rename(root.parent / "away")
    (root / "a" / "b").mkdir(parents=True)
    (root / "a" / "b" / "file").write_bytes(INSIDE)
    assert means_inside(covered.stat("/a/b/file").st_size)


def test_the_mount_point_is_found_through_symlinks(root: Path, walking: str) -> None:
    """Root and mount point may be given by symlinks, and by paths that are not normal."""
    alias = root.parent / "alias"
    alias.symlink_to(root)
    beneath = Beneath(f"{alias}/.", f"{root}//a/../a/b")
    try:
        with covering(root / "a" / "b"):
            assert means_inside(beneath.stat("/a/b/c/secret").st_size)
    finally:
        beneath.close()


def test_the_mount_point_is_found_through_bind_mounts(root: Path, walking: str) -> None:
    """The root may be reached by another path than the directories above the mount point."""
    alias = root.parent / "alias"
    alias.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounts")
    output_of("mount", "--bind", root, alias)
    try:
        beneath = Beneath(str(alias), str(root / "a" / "b"))
        assert beneath.covered is not None
        assert beneath.covered.path() == "/a/b"
        beneath.close()
    finally:
        unmount(alias)


def test_the_covered_entry_is_known_in_its_directory(covered: Beneath, root: Path) -> None:
    """It is an entry of the one directory that holds the mount point, also after a rename of that."""
    (root / "other" / "b").mkdir(parents=True)
    (root / "a").rename(root / "z")
    assert covered.covered is not None
    with descriptor_of(root / "z") as above, descriptor_of(root / "other") as other:
        assert covered.covered.is_entry(above, "b")
        assert not covered.covered.is_entry(above, "c")
        assert not covered.covered.is_entry(other, "b")


@pytest.mark.parametrize("path", ["/file", "/a/file"])
def test_a_held_path_leads_to_its_file_without_the_name(
    beneath: Beneath, root: Path, path: str
) -> None:
    """After the file was unlinked and another one took the name, and until `close`."""
    file = root / path[1:]
    file.write_bytes(INSIDE)
    held = beneath.hold(path)
    assert held == path
    file.unlink()
    file.write_bytes(OUTSIDE)
    assert read_descriptor(beneath.open(held, os.O_RDONLY)) == INSIDE
    assert read_reference(beneath, held) == INSIDE
    assert beneath.stat(held).st_nlink == 0
    held.close()


def test_a_held_directory_and_a_held_symlink_need_no_name(beneath: Beneath, root: Path) -> None:
    """As parents, they lead to themselves: "." and "" from their own descriptors."""
    (root / "gone").mkdir()
    (root / "way").symlink_to("nowhere")
    directory, link = beneath.hold("/gone"), beneath.hold("/way")
    (root / "gone").rmdir()
    (root / "way").unlink()
    with beneath.parent(directory) as (descriptor, name):
        assert stat.S_ISDIR(os.stat(name, dir_fd=descriptor).st_mode)
    with beneath.parent(link) as (descriptor, name):
        assert os.readlink(name, dir_fd=descriptor) == "nowhere"
    directory.close()
    link.close()


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_WRONLY])
@pytest.mark.parametrize("path", ["/fifo", "/a/fifo"])
def test_a_fifo_makes_nobody_wait(beneath: Beneath, root: Path, path: str, flags: int) -> None:
    """Someone may have put it in a file's place; its other end is not waited for."""
    os.mkfifo(str(root / path[1:]))
    if flags == os.O_RDONLY:
        os.close(beneath.open(path, flags))
    else:
        with raises_errno(errno.ENXIO):
            beneath.open(path, flags)


@pytest.mark.parametrize("path", ["/file", "/a/file"])
def test_a_lease_is_waited_for(beneath: Beneath, root: Path, path: str) -> None:
    """Who opens a file has it when who has leased it has let go: fcntl(2), F_SETLEASE."""
    (root / path[1:]).write_bytes(INSIDE)
    leased = os.open(str(root / path[1:]), os.O_RDWR)
    before = signal.signal(signal.SIGIO, lambda number, frame: os.close(leased))
    try:
        fcntl.fcntl(leased, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        assert read_descriptor(beneath.open(path, os.O_RDONLY)) == INSIDE
    finally:
        signal.signal(signal.SIGIO, before)


@pytest.mark.parametrize("path", ["/link", "/a/link"])
def test_holding_a_symlink_follows_it_nowhere(beneath: Beneath, root: Path, path: str) -> None:
    """The symlink itself is held, and cannot be opened."""
    link = root / path[1:]
    link.symlink_to(root.parent / "outside" / "a" / "b" / "c" / "secret")
    held = beneath.hold(path)
    with raises_errno(errno.ELOOP):
        beneath.open(held, os.O_RDONLY)
    with beneath.reference(held) as reference:
        assert os.stat(reference).st_ino == link.lstat().st_ino
    held.close()


@pytest.mark.parametrize("mountpoint", ["root", "outside", "."])
def test_a_mount_point_that_is_not_inside_covers_nothing(
    root: Path, walking: str, mountpoint: str
) -> None:
    """On the root itself, beside it or above it, the root's descriptor is all that is needed."""
    beneath = Beneath(str(root), str(root.parent / mountpoint))
    try:
        assert beneath.covered is None
        assert means_inside(beneath.stat("/a/b/c/secret").st_size)
    finally:
        beneath.close()


def test_the_root_directory_of_the_machine_can_be_the_root(tmp_path: Path, walking: str) -> None:
    """With "/" as the root, a mount point anywhere is covered."""
    beneath = Beneath("/", str(tmp_path))
    try:
        assert beneath.covered is not None
        assert beneath.covered.path() == os.path.realpath(str(tmp_path))
        assert os.path.samestat(beneath.stat(str(tmp_path)), tmp_path.stat())
    finally:
        beneath.close()
