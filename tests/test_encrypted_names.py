"""Paths of the encrypted view, translated: short names decrypt, hashed ones are searched for."""

import errno
import os
from pathlib import Path
from typing import Callable, Iterator, List

import pytest

from fusepy_legacy.crypt.config import DIRIV, FORWARD_PLAINTEXT_NAMES, REVERSE, create
from fusepy_legacy.root import Root, RootDirectory
from fusepy_legacy.views import names
from fusepy_legacy.views.names import Names
from tests.errnos import raises_errno

Make = Callable[..., Names]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Return names of the view of an empty directory."""
    opened: List[Root] = []

    def new(flags: "frozenset[str]" = REVERSE, limit: int = 255) -> Names:
        config, key = create(b"password", flags, limit, scrypt_n=1024)
        opened.append(Root(str(tmp_path)))
        return Names(opened[-1], config, config.name_cipher(key))

    yield new
    for beneath in opened:
        beneath.close()


def shown_path(view: Names, *components: str) -> str:
    """Return the path in the view of plain components."""
    path = ""
    for name in components:
        path = f"{path}/{view.shown(name, view.iv(path or '/')).stored}"
    return path


LIMITS = [(REVERSE, 255), (REVERSE, 62), (REVERSE - {DIRIV}, 255), (FORWARD_PLAINTEXT_NAMES, 255)]


@pytest.mark.parametrize(("flags", "limit"), LIMITS)
def test_every_length_of_a_name_there_and_back(
    tmp_path: Path, make: Make, flags: "frozenset[str]", limit: int
) -> None:
    """1 to 255 bytes, below a directory with a long name, UTF-8 or not."""
    view = make(flags, limit)
    above = tmp_path / ("d" * 250)
    above.mkdir()
    found = [os.fsdecode(b"\xff" * length) for length in range(1, 256)]
    for name in found:
        (above / name).touch()
    for name in found:
        assert view.plain(shown_path(view, above.name, name)) == f"/{above.name}/{name}"


def test_the_top_is_itself(make: Make) -> None:
    """In every view."""
    assert make().plain("/") == "/"


def test_a_path_of_thousands_of_components(make: Make) -> None:
    """It is walked, not recursed into."""
    view = make()
    path = shown_path(view, *["d"] * 3000)
    assert make is not None
    assert view.plain(path) == "/d" * 3000


@pytest.mark.parametrize("stored", ["plain", "x" * 22, "gocryptfs.diriv", "é" * 11, "A" * 300])
def test_what_is_no_encrypted_name_is_not_found(make: Make, stored: str) -> None:
    """ENOENT, whatever is wrong with it."""
    with raises_errno(errno.ENOENT):
        make().plain(f"/{stored}")


def test_a_name_longer_than_the_limit_is_known_by_its_hash_only(tmp_path: Path, make: Make) -> None:
    """The whole encrypted name of a file that is hashed is no name in the view."""
    view = make()
    name = "n" * 200
    (tmp_path / name).touch()
    shown = view.shown(name, view.iv("/"))
    assert shown.whole is not None
    assert view.plain(f"/{shown.stored}") == f"/{name}"
    with raises_errno(errno.ENOENT):
        view.plain(f"/{shown.whole.decode()}")


def test_a_companion_holds_the_whole_name(tmp_path: Path, make: Make) -> None:
    """And belongs to its file."""
    view = make()
    (tmp_path / ("n" * 200)).touch()
    shown = view.shown("n" * 200, view.iv("/"))
    assert view.companion(f"/{shown.stored}.name") == ("/" + "n" * 200, shown.whole)


def count_listings(monkeypatch: pytest.MonkeyPatch) -> List[str]:
    """Return a list that grows with each listing of a directory."""
    listed: List[str] = []

    real = Root.opendir

    def counting(root: Root, path: str) -> RootDirectory:
        listed.append(path)
        return real(root, path)

    monkeypatch.setattr(Root, "opendir", counting)
    return listed


def test_hashed_names_are_learned_together(
    tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looking each of a thousand up, in the order of a listing, lists the directory once."""
    view = make()
    for number in range(1000):
        (tmp_path / (f"{number} " + "n" * 200)).touch()
    paths = [(shown_path(view, name), f"/{name}") for name in os.listdir(str(tmp_path))]
    listed = count_listings(monkeypatch)
    assert [view.plain(path) for path, _ in paths] == [plain for _, plain in paths]
    assert len(listed) == 1


def test_a_hash_that_is_missing_lists_the_directory_once(
    tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until the directory changes; then a new name is found."""
    view = make()
    name = "n" * 200
    os.utime(str(tmp_path), (1, 1))
    monkeypatch.setattr(names, "_SETTLED", -1.0)
    listed = count_listings(monkeypatch)
    path = shown_path(view, name)
    for _ in range(5):
        with raises_errno(errno.ENOENT):
            view.plain(path)
    assert len(listed) == 1
    (tmp_path / name).touch()
    assert view.plain(path) == f"/{name}"


def test_a_directory_that_has_just_changed_is_not_trusted(
    tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its times may not show the next change: clocks of filesystems tick slowly."""
    view = make()
    listed = count_listings(monkeypatch)
    for _ in range(2):
        with raises_errno(errno.ENOENT):
            view.plain(shown_path(view, "n" * 200))
    assert len(listed) == 2


def test_memory_is_bounded(tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many names are asked for; what was forgotten is worked out again."""
    monkeypatch.setattr(names, "REMEMBERED", 10)
    view = make()
    paths = [shown_path(view, f"{number}") for number in range(100)]
    for _ in range(2):
        assert [view.plain(path) for path in paths] == [f"/{number}" for number in range(100)]
        assert len(view._known) <= 20
    for number in range(30):
        (tmp_path / (f"{number} " + "n" * 200)).touch()
    for number in range(30):
        name = f"{number} " + "n" * 200
        assert view.plain(shown_path(view, name)) == f"/{name}"
    assert len(view._known) <= 20
