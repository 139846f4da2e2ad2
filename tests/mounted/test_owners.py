"""Whose a new object is, when several users work at a time."""

import os
import random
import stat
import subprocess
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Sequence

import pytest

from tests.mounted.commands import output_of
from tests.mounted.conformance.processes import Child, Identity
from tests.mounted.mounting import Sides, passthrough

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="acts as several users")

SECONDS = 2.0
USERS = (Identity(54001, 54101), Identity(54002, 54102), Identity(54003, 54103))
SHARED = 54200  # the group of the setgid directory
MEMBERS = (USERS[0], USERS[1])  # who is in it, by a supplementary group
UMASKS = (0o000, 0o022, 0o027)


class Made(NamedTuple):
    """What a user has made: its path in the tree, and what it must be."""

    path: str
    uid: int
    gid: int
    mode: int


def maker(tree: Path, user: Identity, number: int) -> Callable[[], List[Made]]:
    """Return a function that makes objects of each kind until the time is up."""

    def make() -> List[Made]:
        chance = random.Random(number)
        made: List[Made] = []
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            umask = chance.choice(UMASKS)
            os.umask(umask)
            directory = chance.choice(("plain", "setgid", "acl"))
            kind = chance.choice(sorted(KINDS))
            name = f"{directory}/{kind}-{number}-{len(made)}"
            KINDS[kind](str(tree / name))
            made.append(expected(name, directory, kind, user, umask))
            if chance.random() < 0.3:
                with suppress(FileNotFoundError):  # renamed already
                    os.rename(str(tree / name), f"{tree / name}.renamed")
                    made[-1] = made[-1]._replace(path=name + ".renamed")
        return made

    return make


def create(path: str) -> None:
    """Make a file that asks for set-group-id."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o2775))


KINDS: Dict[str, Callable[[str], None]] = {
    "file": create,
    "directory": lambda path: os.mkdir(path, 0o777),
    "symlink": lambda path: os.symlink("target", path),
    "fifo": lambda path: os.mkfifo(path, 0o666),
    "node": lambda path: os.mknod(path, stat.S_IFREG | 0o640),
}
ASKED = {"file": 0o2775, "directory": 0o777, "symlink": 0o777, "fifo": 0o666, "node": 0o640}


def expected(path: str, directory: str, kind: str, user: Identity, umask: int) -> Made:
    """Return what inode_init_owner, the umask or the default ACL make of it (fs/inode.c, acl(5))."""
    mode = ASKED[kind]
    gid = user.gid
    if kind != "symlink":
        # The default ACL is u::rwx g::r-x o::---, and counts instead of the umask.
        mode &= 0o7750 if directory == "acl" else ~umask
    if directory == "setgid":
        gid = SHARED
        if kind == "directory":
            mode |= stat.S_ISGID
        elif SHARED not in user.groups and mode & stat.S_IXGRP:
            mode &= ~stat.S_ISGID
    return Made(path, user.uid, gid, mode)


def groups_of(user: Identity) -> Sequence[int]:
    return (SHARED,) if user in MEMBERS else ()


@pytest.mark.parametrize("options", [(), ("workers=2",)], ids=["threads", "two threads"])
def test_everything_belongs_to_its_maker(public_path: Path, options: Sequence[str]) -> None:
    """Owner, group and mode are the maker's, in setgid directories and with default ACLs too."""
    sides = Sides(public_path / "mount", public_path / "backing")
    for side in sides:
        side.mkdir()
    for name in ("plain", "setgid", "acl"):
        (sides.backing / name).mkdir()
        (sides.backing / name).chmod(0o777)
    os.chown(str(sides.backing / "setgid"), 0, SHARED)
    (sides.backing / "setgid").chmod(0o2777)
    output_of("setfacl", "-d", "-m", "u::rwx,g::r-x,o::---", sides.backing / "acl")
    with passthrough(sides.backing, sides.mount, *options), ExitStack() as stack:
        children = []
        for number, user in enumerate(USERS + USERS[:1]):
            identity = user._replace(groups=groups_of(user))
            function = maker(sides.mount, identity, number)
            children.append(stack.enter_context(Child(function, identity)))
        made = [one for child in children for one in child.result()]
    wrong = [one for one in made if one != as_made(sides.backing, one.path)]
    assert wrong[:5] == []
    assert len(made) > 200


def as_made(tree: Path, path: str) -> Made:
    """Return what there is."""
    found = (tree / path).lstat()
    return Made(path, found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode))


def test_capabilities_survive_a_copy(sides: Sides) -> None:
    """security.capability goes along with cp -a, in and out, and not with a write."""
    program = sides.backing / "program"
    program.write_bytes(b"program")
    program.chmod(0o755)
    os.setxattr(str(program), "security.capability", CAP_NET_RAW)
    with passthrough(sides.backing, sides.mount):
        subprocess.check_call(["cp", "-a", str(sides.mount / "program"), str(sides.mount / "copy")])
        for side in sides:
            assert os.getxattr(str(side / "copy"), "security.capability") == CAP_NET_RAW
        (sides.mount / "copy").write_bytes(b"another program")
        assert os.listxattr(str(sides.backing / "copy")) == []


# struct vfs_cap_data of linux/capability.h, version 2: cap_net_raw=ep.
CAP_NET_RAW = bytes.fromhex("0100000200200000000000000000000000000000")
