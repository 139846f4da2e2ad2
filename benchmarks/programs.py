"""Real programs: what the system calls of loops.py come to.

A tree of small files is made in the backing directory, so the mount has never been asked for any of it. An
operation is one file of it, whatever the program does to that.
"""

import os
import subprocess

from benchmarks.ground import PAGE, Ground, Sizes, Stopwatch

_PER_DIRECTORY = 50


def make_tree(ground: Ground, sizes: Sizes) -> str:
    """Make files of up to 16 KiB, fifty to a directory; return the tree's path below the mount point."""
    content = os.urandom(4 * PAGE)
    for number in range(sizes.files):
        directory = f"{ground.backing}/tree/{number // _PER_DIRECTORY:03}"
        if number % _PER_DIRECTORY == 0:
            os.makedirs(directory)
        with open(f"{directory}/file{number:06}", "wb") as file:
            file.write(content[: number * 997 % len(content)])
    return f"{ground.mounted}/tree"


def copy(ground: Ground, sizes: Sizes, stopwatch: Stopwatch) -> int:
    """Copy a tree to beside it."""
    tree = make_tree(ground, sizes)
    with stopwatch:
        subprocess.check_call(["cp", "-a", tree, f"{ground.mounted}/copy"])
    return sizes.files


def find(ground: Ground, sizes: Sizes, stopwatch: Stopwatch) -> int:
    """Look for a file by its size."""
    tree = make_tree(ground, sizes)
    with stopwatch:
        subprocess.check_call(["find", tree, "-size", "+1G"])
    return sizes.files


def tar(ground: Ground, sizes: Sizes, stopwatch: Stopwatch) -> int:
    """Read a tree into an archive, through a pipe: tar would not read for /dev/null."""
    tree = make_tree(ground, sizes)
    with stopwatch:
        subprocess.check_call(["sh", "-c", 'tar -C "$0" -c . | cat >/dev/null', tree])
    return sizes.files


def git_status(ground: Ground, sizes: Sizes, stopwatch: Stopwatch) -> int:
    """Ask for the status of a repository that nobody has changed."""
    tree = make_tree(ground, sizes)
    git = ["git", "-C", f"{ground.backing}/tree", "-c", "user.name=x", "-c", "user.email=x"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.check_call(git + words, stdout=subprocess.DEVNULL)
    with stopwatch:
        subprocess.check_call(["git", "-C", tree, "status"], stdout=subprocess.DEVNULL)
    return sizes.files


def remove(ground: Ground, sizes: Sizes, stopwatch: Stopwatch) -> int:
    """Remove a tree."""
    tree = make_tree(ground, sizes)
    with stopwatch:
        subprocess.check_call(["rm", "-r", tree])
    return sizes.files
