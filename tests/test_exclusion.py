"""fusepy_legacy.exclusion: gitignore patterns, as git itself judges them."""

import os
import random
import subprocess
from pathlib import Path
from typing import List, Sequence

import pytest

from fusepy_legacy.exclusion import HIDDEN, VISIBLE, Exclusion, PatternError, parse


def exclusion(*lines: str) -> Exclusion:
    """Make an exclusion of lines."""
    return Exclusion(rule for rule in map(parse, lines) if rule is not None)


# What git says


NAMES = ("a", "b", "build", "x.o", "keep.o", "foo", "log.txt")
PATTERNS = (
    *("*.o", "!keep.o", "build/", "/build", "a/b", "/a/*", "!/a/*/", "**/foo", "a/**", "a/**/b"),
    *(
        "!a/build/",
        "*",
        "!*/",
        "!*.txt",
        "foo/",
        "!foo",
        "[ab]",
        "[!a]",
        "?",
        "lo*t",
        "\\a",
        "/*/b",
    ),
    *("# comment", "", "b/", "!b", "/**/x.o", "a/*/foo", "**", "!/**/keep.o", "*.txt  "),
)


def make_tree(top: Path, depth: int) -> None:
    """Make each name, half of them as directories with more in them."""
    for number, name in enumerate(NAMES):
        path = top / name
        if depth and (number + depth) % 2:
            path.mkdir()
            make_tree(path, depth - 1)
        else:
            path.touch()


def ignored(repository: Path, patterns: Sequence[str]) -> List[str]:
    """Return what git leaves of the files, when these are its ignore patterns."""
    (repository / ".git" / "info" / "exclude").write_text("\n".join(patterns) + "\n")
    command = ["git", "-c", "core.excludesFile=/dev/null", "ls-files", "--others", "-z"]
    command.append("--exclude-standard")
    output = subprocess.check_output(command, cwd=str(repository), universal_newlines=True)
    return sorted(output.rstrip("\0").split("\0")) if output else []


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of git with nothing committed."""
    path = tmp_path_factory.mktemp("repository")
    subprocess.check_call(["git", "init", "--quiet", "."], cwd=str(path))
    make_tree(path, 3)
    return path


@pytest.mark.parametrize("seed", range(40))
def test_it_hides_what_git_ignores(repository: Path, seed: int) -> None:
    """Of a tree and any patterns, it leaves the same files."""
    chosen = random.Random(seed)
    patterns = chosen.choices(PATTERNS, k=chosen.randint(1, 6))
    rules = exclusion(*patterns)
    left = []
    for directory, names, files in os.walk(str(repository)):
        relative = os.path.relpath(directory, str(repository))
        prefix = "" if relative == "." else relative + "/"
        names[:] = [
            name for name in names if name != ".git" and not rules.hides(prefix + name, True)
        ]
        left += [prefix + name for name in files if not rules.hides(prefix + name, False)]
    assert sorted(left) == ignored(repository, patterns), patterns


# Each promise by itself


def test_a_pattern_for_directories_hides_no_file() -> None:
    """`build/` is about directories, and then about all that is in them."""
    rules = exclusion("build/")
    assert rules.hides("build", True)
    assert not rules.hides("build", False)
    assert rules.verdict("build/x") == rules.verdict("a/build/b/c") == HIDDEN
    assert rules.verdict("rebuild") == VISIBLE


def test_what_is_below_a_hidden_directory_is_not_brought_back() -> None:
    """As in git: a negation counts only where the directories above are visible."""
    assert exclusion("build/", "!build/keep").verdict("build/keep") == HIDDEN
    assert exclusion("build/*", "!build/keep").verdict("build/keep") == VISIBLE


def test_directories_may_be_brought_back_without_their_files() -> None:
    """`*`, `!*/`, `!*.txt` shows text files anywhere, and nothing else."""
    rules = exclusion("*", "!*/", "!*.txt")
    assert not rules.hides("a", True)
    assert not rules.hides("a/b/c.txt", False)
    assert rules.hides("a/b/c.bin", False)


def test_the_last_pattern_decides() -> None:
    """Order matters, as in git."""
    assert exclusion("*.o", "!a.o").verdict("a.o") == VISIBLE
    assert exclusion("!a.o", "*.o").verdict("a.o") == HIDDEN


def test_the_directory_itself_is_visible() -> None:
    """No pattern hides the root."""
    assert exclusion("*", "**").verdict("") == VISIBLE


def test_names_may_be_any_bytes() -> None:
    """Newlines, and what is not UTF-8."""
    odd = os.fsdecode(b"\xff\n\xfe.o")
    assert exclusion("*.o").hides(odd, False)
    assert exclusion("a/**/b").hides(f"a/{odd}/b", False)
    assert exclusion(odd).hides(f"c/{odd}", False)


def test_a_path_may_be_deep() -> None:
    """Thousands of directories above a name are no trouble."""
    rules = exclusion("*.o", "hidden/")
    assert rules.verdict("d/" * 20000 + "a.o") == HIDDEN
    assert rules.verdict("d/" * 20000 + "a.c") == VISIBLE
    assert rules.verdict("hidden/" + "d/" * 20000 + "a.c") == HIDDEN


def test_a_verdict_is_remembered() -> None:
    """Asking again costs no matching."""
    rules = exclusion(*(f"*.{number}" for number in range(100)))
    for _ in range(3):
        assert rules.verdict("a/b") == VISIBLE
    assert rules._remembered.cache_info().misses == 2


@pytest.mark.parametrize("line", ["", "   ", "# comment", "\n"])
def test_some_lines_say_nothing(line: str) -> None:
    """Blank lines and comments."""
    assert parse(line) is None


@pytest.mark.parametrize("line", ["!", "/", "!/", "//", "[z-a]", "name\\"])
def test_a_bad_pattern_is_refused_with_its_text(line: str) -> None:
    """What names nothing, or no regular expression can say."""
    with pytest.raises(PatternError, match="bad pattern: "):
        parse(line)


@pytest.mark.parametrize(
    ("line", "name"),
    [("\\#a", "#a"), ("\\!a", "!a"), ("a\\ ", "a "), ("a  ", "a"), ("a\\*", "a*"), (" a", " a")],
)
def test_a_backslash_protects(line: str, name: str) -> None:
    """What begins with # or !, or ends with a blank."""
    rules = exclusion(line)
    assert rules.hides(name, False)
    assert not rules.hides("ab", False)
