"""fusepy_legacy.roots_file: what the file may say, and what is said of a wrong one."""

import os
from pathlib import Path

import pytest

from fusepy_legacy.errors import EXIT_CONFIG, MountError
from fusepy_legacy.roots_file import RootsFile, read

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "roots.ini"


def written(directory: Path, text: str) -> RootsFile:
    """Write a file and read it."""
    (directory / "roots.ini").write_text(text)
    return read(str(directory / "roots.ini"))


def test_a_section_is_a_root(tmp_path: Path) -> None:
    """With a label, a path and rules, in the file's order."""
    file = written(
        tmp_path,
        "[zebra]\npath = /z\n\n[nested/label]\npath=/n\nread_only = Yes\none_file_system=1\n"
        "optional = on\n[DEFAULT]\npath = /d\n",
    )
    assert [root.label for root in file.roots] == ["zebra", "nested/label", "DEFAULT"]
    zebra, nested, default = file.roots
    assert (zebra.path, nested.path, default.path) == ("/z", "/n", "/d")
    assert zebra.rules == (False, False, None)
    assert nested.rules == (True, True, None)
    assert (zebra.optional, nested.optional) == (False, True)
    assert (zebra.line, nested.line, nested.path_line) == (1, 4, 5)
    assert file.mtime_ns == (tmp_path / "roots.ini").stat().st_mtime_ns


def test_paths_are_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """~, variables, and relative to where the file is."""
    monkeypatch.setenv("HOME", "/home/user")
    monkeypatch.setenv("WHERE", "/where")
    file = written(
        tmp_path, "[a]\npath = ~/x\n[b]\npath = $WHERE/${WHERE}\n[c]\npath = ../c/\n[d]\npath=d\n"
    )
    assert [root.path for root in file.roots] == [
        "/home/user/x",
        "/where/where",
        str(tmp_path.parent / "c"),
        str(tmp_path / "d"),
    ]


def test_patterns_come_from_keys_and_files_in_their_order(tmp_path: Path) -> None:
    """Several of either; comments and blank lines in between say nothing."""
    (tmp_path / "more").write_text("# of a file\n!a.o\n")
    text = """[one]
path = /one
exclude = *.o
exclude_from = more
exclude =
    # a comment
    build/

    [xy]
read_only = no
"""
    (root,) = written(tmp_path, text).roots
    exclusion = root.rules.exclusion
    assert exclusion is not None
    hidden = [
        name for name in ("a.o", "b.o", "build/x", "build", "x", "a") if exclusion.verdict(name)
    ]
    assert hidden == ["b.o", "build/x", "build", "x"]


def test_names_may_be_any_bytes(tmp_path: Path) -> None:
    """A label or a path that is not UTF-8 is the one that is meant."""
    (tmp_path / "roots.ini").write_bytes(b"[caf\xe9]\npath = /\xff\n")
    (root,) = read(str(tmp_path / "roots.ini")).roots
    assert os.fsencode(root.label) == b"caf\xe9"
    assert os.fsencode(root.path) == b"/\xff"


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", 1, "no root in it"),
        ("path = /a\n", 1, "no [label] before: path = /a"),
        ("[a]\npath = /a\nnonsense\n", 3, "neither [label] nor key = value"),
        ("[a]\npath = /a\n\n[a]\npath = /b\n", 4, "[a] is there already, in line 1"),
        ("[a]\npath = /a\n[]\npath = /b\n", 3, "an empty label"),
        ("[ ]\npath = /b\n", 1, "an empty label"),
        ("[a]\npath = /a\n[a/../b]\npath = /b\n", 3, "[a/../b] has . or .. in it"),
        ("[.]\npath = /a\n", 1, "[.] has . or .. in it"),
        ("[/a]\npath = /a\n", 1, "[/a] is an absolute path"),
        ("[a//b]\npath = /a\n", 1, "[a//b] has an empty name in it"),
        ("[a/]\npath = /a\n", 1, "[a/] has an empty name in it"),
        (f"[{'a' * 256}]\npath = /a\n", 1, "cannot be a name"),
        ("[a]\npath = /a\n[a/b]\npath = /b\n", 3, "[a/b] lies inside [a]"),
        ("[a/b]\npath = /a\n[a]\npath = /b\n", 3, "[a/b] lies inside [a]"),
        ("[a]\nread_only = 1\n", 1, "[a] has no path ="),
        ("[a]\npath =\n", 2, "path is empty"),
        ("[a]\npath = /a\n  /b\n", 2, "one path only"),
        ("[a]\npath = /a\npath = /b\n", 3, "path is there already, in line 2"),
        ("[a]\npath = /a\nPATTERN = x\n", 3, "unknown key: pattern; known: path, read_only"),
        ("[a]\npath = /a\nread_only = maybe\n", 3, "read_only = maybe: not yes or no"),
        ("[a]\npath = /a\nexclude = x\n   # no\n   !\n", 5, "bad pattern: !: it names nothing"),
        ("[a]\npath = /a\nexclude =\n\n   x\n   [z-a]\n", 6, "bad pattern: [z-a]"),
        ("[a]\npath = /a\nexclude_from = none\n", 3, "/none: No such file or directory"),
        ("[a]\npath = /a\n[b]\npath = /a/b\n", 4, "/a/b is inside [a]; that takes read_only"),
        ("[b]\npath = /a/b\n[a]\npath = /a\n", 2, "/a/b is inside [a]"),
        ("[a]\npath = /a\n[b]\npath = /a/\n", 4, "/a is inside [a]"),
        ("[a]\npath = /\n[b]\npath = /b\n", 4, "/b is inside [a]"),
        ("[a]\npath = /a\noverlapping = yes\n", 3, "overlapping needs read_only = yes"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(
    tmp_path: Path, text: str, line: int, message: str
) -> None:
    """One line, with the file's name."""
    with pytest.raises(MountError) as raised:
        written(tmp_path, text)
    said = str(raised.value)
    assert said.startswith(f"{tmp_path}/roots.ini:{line}: ")
    assert message in said
    assert raised.value.exit_code == EXIT_CONFIG


def test_a_bad_pattern_in_a_file_of_patterns_is_said_with_that_file(tmp_path: Path) -> None:
    """It is there that it has to be mended."""
    (tmp_path / "more").write_text("a\n\n/\n")
    with pytest.raises(MountError) as raised:
        written(tmp_path, "[a]\npath = /a\nexclude_from = more\n")
    assert str(raised.value) == f"{tmp_path}/more:3: bad pattern: /: it names nothing"


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    """So is one that cannot be read as a file."""
    for path, problem in (tmp_path / "none", "No such file"), (tmp_path, "Is a directory"):
        with pytest.raises(MountError, match=f"roots file {path}: {problem}"):
            read(str(path))


def test_one_root_may_be_inside_another_when_both_is_said(tmp_path: Path) -> None:
    """Symlinks do not hide that it is."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "a")
    text = "[a]\npath = a\n[b]\npath = link/b\nread_only = yes\n"
    assert len(written(tmp_path, text + "overlapping = yes\n").roots) == 2
    with pytest.raises(MountError, match=r"inside \[a\]"):
        written(tmp_path, text)


def test_the_example_is_right() -> None:
    """examples/roots.ini can be read, and has every key in it."""
    file = read(str(EXAMPLE))
    assert [root.label for root in file.roots] == ["home", "photos/2026", "documents"]
    exclusion = file.roots[0].rules.exclusion
    assert exclusion is not None
    assert exclusion.hides("a/.cache", True)
    assert exclusion.hides("a.iso", False)
    assert not exclusion.hides("rescue.iso", False)
    text = EXAMPLE.read_text()
    for key in ("path", "read_only", "one_file_system", "exclude", "exclude_from", "optional"):
        assert f"{key} =" in text
