"""fusepy_legacy.brackets: sets of characters in patterns, as git itself judges them."""

import subprocess
import warnings
from pathlib import Path

import pytest

from fusepy_legacy.exclusion import Exclusion, PatternError, parse

NAMES = ("a", "b", "c", "z", "A", "Z", "1", "9", "_", "-", "]", "[", "^", "!", "\\", "#", "~")
PATTERNS = (
    *(
        "[a]",
        "[ab]",
        "[!a]",
        "[^a]",
        "[!ab]",
        "[a-c]",
        "[!a-c]",
        "[a-cz]",
        "[a-a]",
    ),
    *(
        "[]]",
        "[!]]",
        "[]a]",
        "[-a]",
        "[a-]",
        "[!-]",
        "[a-c-z]",
        "[--0]",
        "[[]",
        "[^^]",
        "[!!]",
        "[#]",
    ),
    *("[\\]]", "[\\]a]", "[\\\\]", "[a\\-c]", "[\\a-\\c]", "[!\\]]", "[[-\\]]", "[~~]", "[&&a]"),
    *(
        "[[:alpha:]]",
        "[[:digit:]]",
        "[![:digit:]]",
        "[[:upper:]a]",
        "[[:digit:]-a]",
    ),
    *("[[:alnum:]]", "[[:lower:]]", "[[:xdigit:]]", "[[:punct:]]", "[![:punct:]]", "[[:graph:]]"),
    *(
        "[[:print:]]",
        "[[:space:]]",
        "[![:space:]]",
        "[[:cntrl:]]",
        "[[:blank:]]",
        "[[:]",
        "[[:alpha]",
    ),
    *("x[[:alpha:]]", "[a-c][a-c]", "[a]*", "?[b]", "/[a]", "[a]/[b]", "\\[a]", "*[[:digit:]]*"),
)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of git, with nothing in it."""
    path = tmp_path_factory.mktemp("repository")
    subprocess.check_call(["git", "init", "--quiet", "."], cwd=str(path))
    return path


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_set_holds_what_git_takes_it_to_hold(repository: Path, pattern: str) -> None:
    """Of names of one character and of two; and Python finds nothing to warn of."""
    names = [*NAMES, "ab", "xa", "x1", "x", "[a]", "a/b"]
    (repository / ".git" / "info" / "exclude").write_text(pattern + "\n")
    command = ["git", "-c", "core.excludesFile=/dev/null", "check-ignore", "--no-index"]
    given = "".join(f"{name}\0" for name in names).encode()
    process = subprocess.run(
        [*command, "--stdin", "-z"], cwd=str(repository), input=given, stdout=subprocess.PIPE
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rule = parse(pattern)
    assert rule is not None
    hidden = [name for name in names if Exclusion([rule]).hides(name, False)]
    assert hidden == process.stdout.decode().split("\0")[:-1]


@pytest.mark.parametrize("pattern", ["[c-a]", "[!c-a]", "x[a\\z-b]"])
def test_a_range_that_ends_before_it_begins_is_an_error(pattern: str) -> None:
    """In git it is empty; whoever writes it means to hide something."""
    with pytest.raises(PatternError, match="nothing lies from "):
        parse(pattern)


def test_a_class_that_does_not_exist_is_an_error() -> None:
    """In git it matches nothing."""
    with pytest.raises(
        PatternError, match=r"^bad pattern: \[\[:word:\]\]: there is no \[:word:\]$"
    ):
        parse("[[:word:]]")


def test_neither_a_slash_nor_a_surrogate_is_a_member() -> None:
    """A set is one character of a name, whatever bytes that holds."""
    rule = parse("a[!b]c")
    assert rule is not None
    rules = Exclusion([rule])
    assert rules.hides("a\udcffc", False)
    assert rules.hides("aäc", False)
    assert not rules.hides("a/c", False)


def test_a_pattern_with_very_many_sets() -> None:
    """There is an end to what stands in for them."""
    assert parse("[a]" * 1000) is not None
    with pytest.raises(PatternError, match="too many"):
        parse("[a]" * 2000)
