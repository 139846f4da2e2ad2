"""The roots file: which directories a mount shows, each under its label. examples/roots.ini explains it.

It is read by configparser. Whatever is wrong in it is one MountError with the file's name and the line.
"""

import configparser
import os
import re
from typing import Dict, Iterable, Iterator, List, NamedTuple, NoReturn, Optional, Tuple

from fusepy_legacy import exclusion
from fusepy_legacy.errors import EXIT_CONFIG, MountError
from fusepy_legacy.exclusion import Exclusion, PatternError, Rule
from fusepy_legacy.root import Rules

KEYS = (
    "path",
    "read_only",
    "one_file_system",
    "exclude",
    "exclude_from",
    "optional",
    "overlapping",
)
_NAME_MAX = 255  # linux/limits.h
_HEADER = re.compile(r"\[(.*)\]")
_LISTS = ("exclude", "exclude_from")  # may be given several times


class RootDefinition(NamedTuple):
    """One section: `line` is where it starts, `path_line` where its path is."""

    label: str
    path: str
    rules: Rules
    optional: bool
    overlapping: bool
    line: int
    path_line: int


class RootsFile(NamedTuple):
    """A roots file, read and checked. `mtime_ns` is the file's own."""

    name: str
    roots: Tuple[RootDefinition, ...]
    mtime_ns: int


class _Value(NamedTuple):
    """What a key is set to, and the line of the key."""

    line: int
    text: str


def read(name: str) -> RootsFile:
    """Read and check a roots file; its directories need not be there. Raises MountError."""
    name = os.path.abspath(os.path.expanduser(name))
    try:
        with open(name, encoding="utf-8", errors="surrogateescape") as file:
            mtime_ns = os.fstat(file.fileno()).st_mtime_ns
            lines = file.read().splitlines(keepends=True)
    except OSError as error:
        raise MountError(f"roots file {name}: {error.strerror}", EXIT_CONFIG) from error
    roots = tuple(_Reader(name, lines).roots())
    if not roots:
        _fail(name, 1, "no root in it; give one as [label] and path = DIR")
    _check_labels(name, roots)
    _check_overlaps(name, roots)
    return RootsFile(name, roots, mtime_ns)


def _fail(name: str, line: int, message: str) -> NoReturn:
    raise MountError(f"{name}:{line}: {message}", EXIT_CONFIG)


class _Reader:
    """Reads the sections; knows the line at hand while configparser goes through the file."""

    def __init__(self, name: str, lines: List[str]) -> None:
        self.name = name
        self.line = 0
        self.headers: Dict[str, int] = {}
        self.parser = configparser.RawConfigParser(
            delimiters=("=",), default_section="", strict=True
        )
        # configparser calls this for each key when it has read its line. With the line in front a key may
        # come more than once, and says where it was.
        self.parser.optionxform = self._key  # type: ignore[assignment, method-assign]
        try:
            self.parser.read_file(self._counted(lines), name)
        except configparser.DuplicateSectionError as error:
            first = self.headers[error.section]
            self.fail(error.lineno or 0, f"[{error.section}] is there already, in line {first}")
        except configparser.MissingSectionHeaderError as error:
            self.fail(error.lineno, f"no [label] before: {error.line.strip()}")
        except configparser.ParsingError as error:
            self.fail(error.errors[0][0], "neither [label] nor key = value")

    def fail(self, line: int, message: str) -> NoReturn:
        """Raise a MountError about a line."""
        _fail(self.name, line, message)

    def _counted(self, lines: Iterable[str]) -> Iterator[str]:
        for self.line, line in enumerate(lines, 1):
            header = _HEADER.match(line)
            if header:
                if not header.group(1).strip():
                    self.fail(self.line, "an empty label")
                self.headers.setdefault(header.group(1), self.line)
            # configparser takes comments out of values, and keeps empty lines: these count.
            yield "\n" if line.lstrip().startswith(("#", ";")) else line

    def _key(self, name: str) -> str:
        return f"{self.line} {name.lower()}"

    def roots(self) -> Iterator[RootDefinition]:
        """Yield the roots in the file's order."""
        for label in self.parser.sections():
            yield self._root(label, self.headers.get(label, 1))

    def _root(self, label: str, line: int) -> RootDefinition:
        self._check_label(label, line)
        values = self._values(label)
        if "path" not in values:
            self.fail(line, f"[{label}] has no path =")
        path = values["path"]
        rules: List[Rule] = []
        given = [(value, key) for key in _LISTS for value in values.get(key, ())]
        for value, key in sorted(given):
            rules += self._rules_in(value) if key == "exclude" else self._rules_from(value)
        definition = RootDefinition(
            label=label,
            path=self._expanded(path[0]),
            rules=Rules(
                read_only=self._flag(values, "read_only"),
                one_file_system=self._flag(values, "one_file_system"),
                exclusion=Exclusion(rules) if rules else None,
            ),
            optional=self._flag(values, "optional"),
            overlapping=self._flag(values, "overlapping"),
            line=line,
            path_line=path[0].line,
        )
        if definition.overlapping and not definition.rules.read_only:
            self.fail(values["overlapping"][0].line, "overlapping needs read_only = yes")
        return definition

    def _values(self, label: str) -> Dict[str, List[_Value]]:
        values: Dict[str, List[_Value]] = {}
        for numbered, text in self.parser.items(label):
            number, _, key = numbered.partition(" ")
            line = int(number)
            if key not in KEYS:
                self.fail(line, f"unknown key: {key}; known: {', '.join(KEYS)}")
            if key in values and key not in _LISTS:
                self.fail(line, f"{key} is there already, in line {values[key][0].line}")
            if not text.strip():
                self.fail(line, f"{key} is empty")
            values.setdefault(key, []).append(_Value(line, text))
        return values

    def _check_label(self, label: str, line: int) -> None:
        names = label.split("/")
        if label.startswith("/"):
            self.fail(
                line, f"[{label}] is an absolute path; a label is relative to the mount point"
            )
        if not all(names) or not label.strip():
            self.fail(line, f"[{label}] has an empty name in it")
        if "." in names or ".." in names:
            self.fail(line, f"[{label}] has . or .. in it")
        if "\0" in label or any(len(os.fsencode(name)) > _NAME_MAX for name in names):
            self.fail(line, f"[{label[:40]}…] cannot be a name")

    def _flag(self, values: Dict[str, List[_Value]], key: str) -> bool:
        if key not in values:
            return False
        value = values[key][0]
        state = configparser.RawConfigParser.BOOLEAN_STATES.get(value.text.lower())
        if state is None:
            self.fail(value.line, f"{key} = {value.text}: not yes or no")
        return state

    def _expanded(self, value: _Value) -> str:
        """Return a path with ~ and variables replaced; a relative one is relative to the roots file."""
        text = os.path.expandvars(os.path.expanduser(value.text))
        if "\n" in text:
            self.fail(value.line, "one path only, please")
        return os.path.normpath(os.path.join(os.path.dirname(self.name), text))

    def _rules_in(self, value: _Value) -> Iterator[Rule]:
        return self._rules(self.name, value.line, value.text.split("\n"))

    def _rules_from(self, value: _Value) -> Iterator[Rule]:
        name = self._expanded(value)
        try:
            with open(name, encoding="utf-8", errors="surrogateescape") as file:
                lines = file.read().split("\n")
        except OSError as error:
            self.fail(value.line, f"exclude_from {name}: {error.strerror}")
        return self._rules(name, 1, lines)

    @staticmethod
    def _rules(name: str, first: int, lines: Iterable[str]) -> Iterator[Rule]:
        for number, line in enumerate(lines, first):
            try:
                rule: Optional[Rule] = exclusion.parse(line)
            except PatternError as error:
                _fail(name, number, str(error))
            if rule is not None:
                yield rule


def _check_labels(name: str, roots: Iterable[RootDefinition]) -> None:
    """Refuse a label below another: who would list it?"""
    known: Dict[str, RootDefinition] = {}
    for root in roots:
        for other in known.values():
            for inner, outer in (root, other), (other, root):
                if inner.label.startswith(outer.label + "/"):
                    _fail(name, root.line, f"[{inner.label}] lies inside [{outer.label}]")
        known[root.label] = root


def _check_overlaps(name: str, roots: Iterable[RootDefinition]) -> None:
    """Refuse a directory inside another, unless the inner one says that it is, and is read-only."""
    known: List[Tuple[str, RootDefinition]] = []
    for root in roots:
        path = os.path.realpath(root.path)
        for other_path, other in known:
            if is_inside(path, other_path):
                inner, outer = root, other
            elif is_inside(other_path, path):
                inner, outer = other, root
            else:
                continue
            if not inner.overlapping:
                _fail(
                    name,
                    inner.path_line,
                    f"{inner.path} is inside [{outer.label}]; that takes read_only = yes and "
                    "overlapping = yes",
                )
        known.append((path, root))


def is_inside(path: str, directory: str) -> bool:
    """Tell whether a path is a directory or below it; both are real paths."""
    return f"{path}/".startswith(directory.rstrip("/") + "/")
