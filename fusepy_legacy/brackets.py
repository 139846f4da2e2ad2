"""What `[…]` in a pattern of git's stands for, as a regular expression.

The library pathspec takes it for one of Python's sets, which know no classes such as `[:digit:]`, and takes a
backslash in it for itself. In git (wildmatch.c) a backslash quotes what follows, and a first `]` is a member.
What matches nothing there is an error here: a class that does not exist, or a range from a later character
to an earlier one.
"""

import re
from typing import Dict, List, NamedTuple, Optional

# isalpha(3) and so on, of ASCII.
_CLASSES = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "blank": r" \t",
    "cntrl": r"\x01-\x1f\x7f",
    "digit": "0-9",
    "graph": r"\x21-\x7e",
    "lower": "a-z",
    "print": r"\x20-\x7e",
    "punct": r"\x21-\x2f\x3a-\x40\x5b-\x60\x7b-\x7e",
    "space": r" \t\n\v\f\r",
    "upper": "A-Z",
    "xdigit": "0-9A-Fa-f",
}
_CLASS = re.compile(r"\[:([^]]*):\]")
# Surrogates, of which names have those from 0xDC80 on only (surrogateescape).
_FIRST_STAND_IN = 0xD800
_LAST_STAND_IN = 0xDC7F


class BracketError(ValueError):
    """A set cannot be used; `str()` says why."""


class _Set(NamedTuple):
    """A regular expression, and where the pattern goes on."""

    expression: str
    end: int


class Brackets:
    """The sets of one pattern. `pattern` has a character in the place of each, which stands for itself.

    Raises BracketError.
    """

    def __init__(self, pattern: str) -> None:
        self._expressions: Dict[str, str] = {}
        self.pattern = ""
        position = 0
        while position < len(pattern):
            found = _set_at(pattern, position) if pattern[position] == "[" else None
            if found is not None:
                self.pattern += self._stand_in(found.expression)
                position = found.end
            else:
                length = 2 if pattern[position] == "\\" else 1
                self.pattern += pattern[position : position + length]
                position += length

    def put_back(self, expression: str) -> str:
        """Return a regular expression made of `pattern`, with the sets in it."""
        for stand_in, replaced in self._expressions.items():
            # Python 3.6 escapes all but ASCII letters and numbers.
            expression = expression.replace("\\" + stand_in, stand_in).replace(stand_in, replaced)
        return expression

    def _stand_in(self, expression: str) -> str:
        number = _FIRST_STAND_IN + len(self._expressions)
        if number > _LAST_STAND_IN:
            raise BracketError("too many [ in it")
        self._expressions[chr(number)] = expression
        return chr(number)


def _set_at(pattern: str, start: int) -> Optional[_Set]:
    """Return the set that begins there, None when it has no end, or is cut by a slash."""
    position = start + 1
    negated = pattern[position : position + 1] in ("!", "^")
    position += negated
    members: List[str] = []
    before = ""  # what a range may begin with
    first = True
    while pattern[position : position + 1] != "]" or first:
        first = False
        named = _CLASS.match(pattern, position)
        if named is not None:
            if named.group(1) not in _CLASSES:
                raise BracketError(f"there is no [:{named.group(1)}:]")
            members.append(_CLASSES[named.group(1)])
            position = named.end()
            before = ""
            continue
        ranges = bool(before) and re.match("-[^]]", pattern[position:]) is not None
        position += ranges
        position += pattern[position : position + 1] == "\\"
        character = pattern[position : position + 1]
        if character in ("", "/"):
            return None
        position += 1
        if not ranges:
            members.append(re.escape(character))
            before = character
            continue
        if before > character:
            raise BracketError(f"nothing lies from {before} to {character}")
        members.append(f"{re.escape(before)}-{re.escape(character)}")
        before = ""
    return _Set(_expression(members, bool(negated)), position + 1)


def _expression(members: List[str], negated: bool) -> str:
    """Return a regular expression; neither the slash nor the NUL that ends a name is in any set."""
    if negated:
        return f"[^/\\x00{''.join(members)}]"
    return f"(?!/)[{''.join(members)}]"
