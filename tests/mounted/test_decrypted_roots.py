"""Several encrypted trees at one mount, shown plain."""

import errno
import os
import shutil
import signal
from pathlib import Path
from typing import List, NamedTuple

import pytest

from tests.errnos import raises_errno
from tests.mounted.commands import Outcome, run, wait_until
from tests.mounted.encrypted_trees import KINDS, EncryptedTree, make_encrypted
from tests.mounted.encrypted_views import CRYPT, ENVIRONMENT
from tests.mounted.mounting import Mounted

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="allow_other needs root")

LONG = "l" * 200


class Trees(NamedTuple):
    """Two encrypted trees, a roots file that lists them, and where they are shown."""

    one: EncryptedTree
    two: EncryptedTree
    file: Path
    mount: Path

    def command(self, *options: str) -> List[str]:
        """Return the command that mounts them."""
        words = ("forward", f"roots={self.file}", "entry_timeout=0", "attr_timeout=0", *options)
        return [*CRYPT, str(self.mount), "-f", "-o", ",".join(words)]

    def shown(self) -> Mounted:
        """Return a context manager: the view."""
        command = self.command(f"passfile={self.one.passfile}")
        return Mounted(command, self.mount, ENVIRONMENT)

    def refused(self, *options: str) -> Outcome:
        """Return what becomes of a mount that does not succeed."""
        outcome = run(self.command(*options), environment=ENVIRONMENT)
        assert outcome.errors.count("\n") == 1, outcome
        return outcome

    def list(self, *more: str) -> None:
        """Write the roots file, with more lines."""
        lines = ("[one]", f"path = {self.one.root}", "[deep/two]", f"path = {self.two.root}", *more)
        self.file.write_text("".join(f"{line}\n" for line in lines))


@pytest.fixture
def trees(tmp_path: Path) -> Trees:
    """One tree with encrypted names, and one with plain ones; each has its own keys."""
    for name in ("a", "b", "mount"):
        (tmp_path / name).mkdir()
    one = make_encrypted(tmp_path / "a")
    two = make_encrypted(tmp_path / "b", KINDS["plaintextnames"])
    made = Trees(one, two, tmp_path / "roots.ini", tmp_path / "mount")
    made.list()
    return made


def test_each_tree_is_under_its_label(trees: Trees) -> None:
    """What is written there is in the tree, under its own keys; a file is moved by copying it."""
    with trees.shown():
        one, two = trees.mount / "one", trees.mount / "deep" / "two"
        assert sorted(os.listdir(str(trees.mount))) == ["deep", "one"]
        assert os.listdir(str(one)) == os.listdir(str(two)) == []
        (one / "directory").mkdir()
        (one / "directory" / LONG).write_text("content")
        with raises_errno(errno.EXDEV):
            (one / "directory" / LONG).rename(two / "moved")
        shutil.move(str(one / "directory" / LONG), str(two / "moved"))
        assert (two / "moved").stat().st_size == len("content")
        (two / "link").symlink_to("moved")
        assert (two / "link").read_text() == "content"
    for tree, expected in (trees.one, ["directory"]), (trees.two, ["link", "moved"]):
        assert tree.damages() == []
        with tree.shown(trees.mount):
            assert sorted(os.listdir(str(trees.mount))) == expected


def test_above_the_trees_nothing_can_be_changed(trees: Trees) -> None:
    """A directory there is on no filesystem: it has no attributes, and takes none."""
    with trees.shown():
        for top in (trees.mount, trees.mount / "deep"):
            assert os.listxattr(str(top)) == []
            with raises_errno(errno.ENODATA):
                os.getxattr(str(top), "user.attribute")
            with raises_errno(errno.EROFS):
                os.setxattr(str(top), "user.attribute", b"value")
            for change in (
                lambda top: (top / "new").write_text(""),
                lambda top: (top / "new").mkdir(),
                lambda top: (top / "new").symlink_to("target"),
                lambda top: os.mkfifo(str(top / "new")),
                lambda top: os.chmod(str(top), 0o700),
            ):
                with raises_errno(errno.EROFS):
                    change(top)
        with raises_errno(errno.EROFS):
            (trees.mount / "one").rmdir()


def test_a_read_only_tree_stays_as_it_is(trees: Trees) -> None:
    """Not even the companion of a long name is left in it."""
    trees.file.write_text(f"[one]\npath = {trees.one.root}\nread_only = yes\n")
    stored = sorted(os.listdir(str(trees.one.root)))
    with trees.shown():
        for name in ("short", LONG):
            with raises_errno(errno.EROFS):
                (trees.mount / "one" / name).write_text("")
            with raises_errno(errno.EROFS):
                (trees.mount / "one" / name).mkdir()
    assert sorted(os.listdir(str(trees.one.root))) == stored


def test_one_wrong_password_keeps_all_from_being_mounted(trees: Trees) -> None:
    """The line says which tree it is."""
    wrong = trees.file.with_name("wrong")
    wrong.write_text("wrong\n")
    outcome = trees.refused(f"passfile={wrong}")
    assert outcome.code == 12
    assert str(trees.one.root) in outcome.errors


def test_patterns_are_for_plain_directories(trees: Trees) -> None:
    """A tree is shown whole."""
    trees.list("exclude = *.o")
    outcome = trees.refused(f"passfile={trees.one.passfile}")
    assert outcome.code == 23
    assert "exclude" in outcome.errors


def test_the_mount_point_is_in_none_of_them(trees: Trees) -> None:
    """No plain name leads there."""
    inside = trees._replace(mount=trees.two.root / "mount")
    inside.mount.mkdir()
    assert inside.refused(f"passfile={trees.one.passfile}").code == 10


def test_a_tree_whose_config_is_known_may_come_later(trees: Trees) -> None:
    """The password is forgotten with the mount's start, so no other config can be opened then."""
    late, unknown = trees.file.with_name("late"), trees.file.with_name("unknown")
    trees.list("[late]", f"path = {late}", "optional = yes")
    with trees.shown() as server:
        (trees.mount / "one" / "file").write_text("content")
        shutil.copytree(str(trees.one.root), str(late))
        assert (trees.mount / "late" / "file").read_text() == "content"
        unknown.mkdir()
        other = make_encrypted(unknown)
        trees.list("[other]", f"path = {other.root}")
        os.kill(server.pid, signal.SIGUSR1)
        wait_until(lambda: "not reloaded" in server.errors, "the answer to SIGUSR1")
        assert "Required key not available" in server.errors
        assert sorted(os.listdir(str(trees.mount))) == ["deep", "late", "one"]
