"""fusepy_legacy.views.known_names: what was lately met is found again, and the memory is bounded."""

import threading
from typing import List, Optional

from fusepy_legacy.views.known_names import KnownDirectory, KnownNames

LIMIT = 100


def known_names(limit: int = LIMIT) -> KnownNames:
    """Return what knows the top directory only."""
    return KnownNames(limit, KnownDirectory("/", b"iv"))


def top(known: KnownNames) -> KnownDirectory:
    """Return the top directory, which is always known."""
    directory = known.find("")
    assert directory is not None
    return directory


def test_names_are_found_both_ways() -> None:
    """What is not known is None; a directory's own names are those of any language."""
    known = known_names()
    known.remember(top(known), ["plain", "other"], ["stored", "shown"])
    assert known.plain(top(known), "stored") == "plain"
    assert known.plain(top(known), "unknown") is None
    assert known.stored(top(known), [".", "other", "unknown", "plain", ".."]) == [
        ".",
        "shown",
        None,
        "stored",
        "..",
    ]
    assert len(known) == 2


def test_directories_have_names_of_their_own() -> None:
    """Entered once, a directory stays the same one."""
    known = known_names()
    assert known.find("/a") is None
    directory = known.enter("/a", "/plain/", b"other iv")
    assert known.enter("/a", "/plain/", b"other iv") is directory
    assert known.find("/a") is directory
    assert (directory.prefix, directory.iv) == ("/plain/", b"other iv")
    known.remember(directory, ["plain"], ["stored"])
    assert known.plain(top(known), "stored") is None


def test_what_is_used_stays_and_the_rest_goes() -> None:
    """Of any number of names, at most twice the limit are kept."""
    known = known_names()
    known.enter("/used", "/used/", b"")
    known.remember(top(known), ["used"], ["USED"])
    for number in range(10 * LIMIT):
        assert known.plain(top(known), "USED") == "used"
        assert known.stored(top(known), ["used"]) == ["USED"]
        assert known.find("/used") is not None
        known.remember(top(known), [f"{number}"], [f"N{number}"])
        assert len(known) <= 2 * LIMIT
    assert known.plain(top(known), "N0") is None
    assert known.plain(top(known), f"N{10 * LIMIT - 1}") == f"{10 * LIMIT - 1}"


def test_directories_are_bounded_too() -> None:
    """The top is known all the time."""
    known = known_names()
    for number in range(10 * LIMIT):
        known.enter(f"/{number}", f"/plain {number}/", b"")
        assert top(known).prefix == "/"
    assert known.find("/0") is None
    found: List[Optional[KnownDirectory]] = [known.find(f"/{number}") for number in range(1000)]
    assert sum(directory is not None for directory in found) <= 2 * LIMIT


def test_a_directory_does_not_keep_all_that_it_has_been() -> None:
    """Of what a directory in use has known before, the older half is the last."""
    known = known_names()
    for number in range(10 * LIMIT):
        directory = known.enter("/used", "/used/", b"")
        known.remember(directory, [f"{number}"], [f"N{number}"])
        assert directory.older is None or directory.older.older is None


def test_threads_may_share_it() -> None:
    """Whatever the others let be forgotten meanwhile, no answer is wrong."""
    known = known_names(10)
    failures: List[object] = []

    def work(first: int) -> None:
        try:
            for number in range(first, first + 2000):
                path = f"/{number % 7}"
                directory = known.enter(path, f"/plain {number % 7}/", b"")
                known.remember(directory, [f"{path}-{number}"], [f"{path}+{number}"])
                shown = known.stored(directory, [f"{path}-{number}", f"{path}-{number - 7}"])
                wanted = [{None, f"{path}+{number}"}, {None, f"{path}+{number - 7}"}]
                assert all(name in names for name, names in zip(shown, wanted))
                assert known.plain(directory, f"{path}+{number}") in (None, f"{path}-{number}")
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(first,)) for first in (0, 1, 5000, 5001)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
