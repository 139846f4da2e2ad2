"""What the kernel means is what it gets, though the source was changed behind its caches.

The timeouts are of a minute here, so that the kernel believes what it has seen for the whole of a test.
"""

import os
import stat
from pathlib import Path
from typing import Any, Callable, Iterator, NamedTuple

import pytest

from tests.mounted.conformance.processes import Bell, Child, Identity
from tests.mounted.mounting import Sides, passthrough, roots_mount, write_roots

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="acts as several users")

USER = Identity(54001, 54101)
BELIEVING = ("attr_timeout=60", "entry_timeout=60", "negative_timeout=60")


class Place(NamedTuple):
    """The same directory on both sides; it is the user's on the backing side."""

    mount: Path
    backing: Path


@pytest.fixture(params=["top", "root", "roots"])
def place(request: pytest.FixtureRequest, sides: Sides, tmp_path: Path) -> Iterator[Place]:
    """The top of a mirror or below it, or in one of several roots; the kernel believes what it has seen."""
    home = sides.backing / "home"
    home.mkdir()
    os.chown(str(home), *USER[:2])
    if request.param == "top":
        with passthrough(home, sides.mount, *BELIEVING):
            yield Place(sides.mount, home)
    elif request.param == "root":
        with passthrough(sides.backing, sides.mount, *BELIEVING):
            yield Place(sides.mount / "home", home)
    else:
        roots = write_roots(tmp_path / "roots.ini", label=[sides.backing])
        with roots_mount(roots, sides.mount, *BELIEVING):
            yield Place(sides.mount / "label" / "home", home)


def own(path: Path, content: str, mode: int, *owner: int) -> None:
    """Make a file, root's unless an owner is given."""
    path.write_text(content)
    path.chmod(mode)
    os.chown(str(path), *(owner or (0, 0)))


def outcome(function: Callable[[], Any]) -> Any:
    """Return what a function returns, or the errno that it raises."""
    try:
        return function()
    except OSError as error:
        return error.errno


def after(
    place: Place, look: Callable[[], Any], change: Callable[[], Any], act: Callable[[], Any]
) -> Any:
    """Let the user look, then root change the source, then the user act; return what came of that.

    The user works in the mount's directory: the one that it is below is not for all.
    """

    def user() -> Any:
        look()
        looked.ring()
        changed.wait()
        return outcome(act)

    with Bell() as looked, Bell() as changed, Child(user, USER, place.mount) as child:
        looked.wait()
        change()
        changed.ring()
        return child.result()


CHANGES = {
    "chmod": lambda path: os.chmod(path, 0o666),
    "truncate": lambda path: os.truncate(path, 0),
    "open": lambda path: os.open(path, os.O_WRONLY | os.O_TRUNC),
    "utime": lambda path: os.utime(path, (1, 1)),
    "setxattr": lambda path: os.setxattr(path, "user.x", b"1"),
    "link": lambda path: os.link(path, path + " too"),
}


@pytest.mark.parametrize("change", sorted(CHANGES))
def test_a_file_put_in_the_place_of_anothers_is_not_his(place: Place, change: str) -> None:
    """The rights that were checked are those of the file that was there before."""
    secret = place.backing / "secret"
    own(place.backing / "file", "mine", 0o644, *USER[:2])
    own(secret, "root's", 0o600)
    before = secret.stat()
    came_of_it = after(
        place,
        lambda: os.stat("file"),
        lambda: secret.rename(place.backing / "file"),
        lambda: CHANGES[change]("file"),
    )
    assert came_of_it in (1, 13), came_of_it  # EPERM, EACCES
    replaced = place.backing / "file"
    now = replaced.stat()
    assert replaced.read_text() == "root's"
    assert (now.st_mode, now.st_nlink) == (before.st_mode, 1)
    assert now.st_mtime_ns == before.st_mtime_ns
    assert os.listxattr(str(replaced)) == []


@pytest.mark.parametrize("act", ["unlink", "rename"])
def test_a_sticky_directory_protects_a_new_file(place: Place, act: str) -> None:
    """Whose a file is decides who may take its name, so it has to be the same file."""
    os.chown(str(place.backing), 0, 0)
    place.backing.chmod(0o1777)
    own(place.backing / "file", "mine", 0o644, *USER[:2])
    own(place.backing / "secret", "root's", 0o600)
    acts = {"unlink": lambda: os.unlink("file"), "rename": lambda: os.rename("file", "file 2")}
    came_of_it = after(
        place,
        lambda: os.stat("file"),
        lambda: (place.backing / "secret").rename(place.backing / "file"),
        acts[act],
    )
    assert came_of_it == 1  # EPERM
    assert (place.backing / "file").read_text() == "root's"


@pytest.mark.parametrize("cached", [True, False])
def test_a_file_that_the_kernel_does_not_know_is_not_created(place: Place, cached: bool) -> None:
    """It exists, so it is opened, and for that the caller needs the right."""

    def create() -> bytes:
        return os.read(os.open("secret", os.O_RDWR | os.O_CREAT, 0o600), 100)

    came_of_it = after(
        place,
        lambda: os.path.exists("secret") if cached else None,
        lambda: own(place.backing / "secret", "root's", 0o600),
        create,
    )
    assert came_of_it == 13  # EACCES


def swapped(place: Place) -> Callable[[], None]:
    """Return what makes "mine" and "roots" change places in the source."""

    def swap() -> None:
        aside, mine, roots = (place.backing / name for name in ("aside", "mine", "roots"))
        mine.rename(aside)
        roots.rename(mine)
        aside.rename(roots)

    return swap


@pytest.mark.parametrize("act", ["chmod", "read", "create", "mkdir", "symlink", "mknod", "link"])
def test_a_directory_put_in_the_place_of_anothers_is_not_his(place: Place, act: str) -> None:
    """Nothing is made in it, and nothing below it reached, that is not allowed there."""
    (place.backing / "mine").mkdir()
    os.chown(str(place.backing / "mine"), *USER[:2])
    own(place.backing / "mine" / "key", "mine", 0o644, *USER[:2])
    own(place.backing / "other", "mine", 0o644, *USER[:2])
    roots = place.backing / "roots"
    roots.mkdir(mode=0o700)
    own(roots / "key", "root's", 0o600)
    own(roots / "readable", "root's", 0o644)
    acts = {
        "chmod": lambda: os.chmod("mine/key", 0o644),
        "read": lambda: os.read(os.open("mine/readable", os.O_RDONLY), 100),
        "create": lambda: os.open("mine/new", os.O_CREAT | os.O_WRONLY),
        "mkdir": lambda: os.mkdir("mine/new"),
        "symlink": lambda: os.symlink("target", "mine/new"),
        "mknod": lambda: os.mknod("mine/new", 0o644 | stat.S_IFIFO),
        "link": lambda: os.link("other", "mine/new"),
    }

    def look() -> None:
        os.stat("mine/key")
        os.stat("other")

    came_of_it = after(place, look, swapped(place), acts[act])
    assert came_of_it in (1, 13), came_of_it  # EPERM, EACCES
    now = place.backing / "mine"  # which is root's
    assert sorted(os.listdir(str(now))) == ["key", "readable"]
    assert stat.S_IMODE((now / "key").stat().st_mode) == 0o600


@pytest.mark.parametrize("options", [(), ("watch",)])
def test_a_link_that_was_replaced_has_nothing_to_do_with_the_others(
    sides: Sides, options: "tuple[str, ...]"
) -> None:
    """As when rsync replaces a file of which an older backup has a link: each name is its own file's."""
    days = [sides.backing / "day1", sides.backing / "day2"]
    for day in days:
        day.mkdir()
    (days[0] / "file").write_text("version 1")
    os.link(str(days[0] / "file"), str(days[1] / "file"))
    with passthrough(sides.backing, sides.mount, *(options or BELIEVING)):
        shown = [sides.mount / "day1" / "file", sides.mount / "day2" / "file"]
        for path in (*shown, *shown[::-1]):
            path.stat()  # both names are known, the first as the last
        (days[0] / "new").write_text("version 2")
        (days[0] / "new").rename(days[0] / "file")
        assert shown[1].read_text() == "version 1"
        shown[1].chmod(0o600)
        os.truncate(str(shown[1]), 3)
        os.setxattr(str(shown[1]), "user.x", b"1")
        assert (days[0] / "file").read_text() == "version 2"
        assert stat.S_IMODE((days[0] / "file").stat().st_mode) == 0o644
        assert (days[1] / "file").read_text() == "ver"
        assert os.listxattr(str(days[0] / "file")) == []
        (days[0] / "file").unlink()
        assert shown[1].read_text() == "ver"
        os.truncate(str(shown[1]), 1)
        assert (days[1] / "file").read_text() == "v"
