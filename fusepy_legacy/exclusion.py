"""Names to hide, by gitignore patterns (gitignore(5)), relative to one directory.

The library pathspec knows what a pattern means; what is decided here is which name a pattern is asked about.
Its regular expressions match a path and all that is below it, which a later negation would undo for too
much: of `*`, `!*/`, `!*.txt` the second is to bring back directories, not the files in them. So a pattern is
asked about each component of a path alone, and a directory that is hidden hides all below it, as in git: no
pattern brings back a file whose directory is hidden.
"""

import functools
import re
from typing import Any, Callable, Iterable, NamedTuple, Optional

from pathspec import patterns

from fusepy_legacy.brackets import Brackets

# Bits of a verdict.
VISIBLE = 0
FILE_HIDDEN = 1
DIRECTORY_HIDDEN = 2
HIDDEN = FILE_HIDDEN | DIRECTORY_HIDDEN

# Put behind a pattern and behind what it is asked about, so that it matches to the end: no name has a NUL.
_END = "\0"
_REMEMBERED = 16384  # verdicts, of about 250 bytes
_DEEP = 400  # characters from which on a path may have more directories than Python has frames


class PatternError(ValueError):
    """A pattern cannot be used; `str()` says why."""


class Rule(NamedTuple):
    """One pattern: `hides` is false for a negation; a name is matched alone or as `whole_path`."""

    matches: Callable[[str], object]
    hides: bool
    directories_only: bool
    whole_path: bool


def parse(line: str) -> Optional[Rule]:
    """Return the rule of a line as .gitignore has them, None for a blank one or a comment.

    Raises PatternError.
    """
    text = _without_trailing_blanks(line.rstrip("\r\n"))
    if not text or text.startswith("#"):
        return None
    negated = text.startswith("!")
    pattern = text[1:] if negated else text
    if pattern[:2] in ("\\!", "\\#"):
        pattern = pattern[1:]
    directories_only = pattern.endswith("/")
    pattern = pattern.rstrip("/")
    if not pattern:
        raise PatternError(f"bad pattern: {text}: it names nothing")
    if (len(pattern) - len(pattern.rstrip("\\"))) % 2:
        raise PatternError(f"bad pattern: {text}: a backslash at the end")
    whole_path = "/" in pattern
    if pattern.endswith("/**"):
        pattern += "/*"  # all below, at any depth
    try:
        # With a slash in front it stands for itself only, not for the same name anywhere below.
        brackets = Brackets(pattern.lstrip("/"))
        translated = _translator()(f"/{brackets.pattern}{_END}")
        # Names may hold newlines.
        expression = re.compile(brackets.put_back(translated.regex.pattern), re.DOTALL)
    except (ValueError, re.error) as error:
        raise PatternError(f"bad pattern: {text}: {error}") from error
    return Rule(expression.match, not negated, directories_only, whole_path)


def _without_trailing_blanks(line: str) -> str:
    stripped = line.rstrip(" \t")
    # The last blank stays when a backslash protects it.
    backslashes = len(stripped) - len(stripped.rstrip("\\"))
    return line[: len(stripped) + 1] if backslashes % 2 else stripped


@functools.lru_cache(maxsize=None)
def _translator() -> Any:
    """Return pathspec's class for a pattern: of 1.0 and newer, or its name before that."""
    try:
        from pathspec.patterns.gitignore.basic import GitIgnoreBasicPattern
    except ImportError:
        return patterns.GitWildMatchPattern  # type: ignore[attr-defined]
    return GitIgnoreBasicPattern


class Exclusion:
    """What the rules hide; the last one that matches decides. Safe for threads.

    Paths are relative to the directory, without a slash in front; "" is the directory itself and visible.
    """

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._rules = list(rules)[::-1]
        self._remembered = functools.lru_cache(maxsize=_REMEMBERED)(self._judge)

    def hides(self, path: str, is_directory: bool) -> bool:
        """Tell whether a file, or a directory, of this path is hidden."""
        return bool(self.verdict(path) & (DIRECTORY_HIDDEN if is_directory else FILE_HIDDEN))

    def verdict(self, path: str) -> int:
        """Return which of FILE_HIDDEN and DIRECTORY_HIDDEN hold for a path: that may depend on its type."""
        if not path:
            return VISIBLE
        if len(path) > _DEEP:
            # From the top, so that no directory has many above it that nothing is known of.
            for end in range(_DEEP, len(path), _DEEP):
                self._remembered(path[:end].rpartition("/")[0])
        return self._remembered(path)

    def _judge(self, path: str) -> int:
        directory, _, name = path.rpartition("/")
        if directory and self._remembered(directory) & DIRECTORY_HIDDEN:
            return HIDDEN
        name += _END
        whole = path + _END
        verdict = VISIBLE
        undecided = HIDDEN
        for matches, hides, directories_only, whole_path in self._rules:
            decides = DIRECTORY_HIDDEN if directories_only else HIDDEN
            if decides & undecided and matches(whole if whole_path else name):
                if hides:
                    verdict |= decides & undecided
                undecided &= ~decides
                if not undecided:
                    break
        return verdict
