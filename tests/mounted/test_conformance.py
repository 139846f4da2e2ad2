"""The mirror keeps what tests.mounted.conformance says that a mirror promises, on each engine.

So does a root of several at one mount.
"""

from typing import Iterator, List

import pytest

from tests.mounted.conformance import Check, all_checks
from tests.mounted.mounting import Mirror, make_sides, passthrough


def name_of(check: Check) -> str:
    """Name a check by its subject and its promise."""
    subject = check.__module__.rpartition(".")[2]
    return f"{subject}.{check.__name__}"


def checks_about(*subjects: str) -> List[Check]:
    """Return the checks of some subjects."""
    return [check for check in all_checks() if name_of(check).partition(".")[0] in subjects]


def hold(check: Check, mirror: Mirror) -> None:
    """Hold a mirror to a check, in a fresh directory."""
    name = name_of(check)
    (mirror.mount / name).mkdir()
    check(mirror.mount / name, mirror.backing / name)


def test_the_list_is_long_and_says_what_it_promises() -> None:
    """There are at least 120 checks, under different names, each with a promise in words."""
    checks = all_checks()
    assert len({name_of(check) for check in checks}) == len(checks) >= 120
    assert [name_of(check) for check in checks if not check.__doc__] == []


@pytest.mark.parametrize("layout", ["root", "roots"], scope="session")
@pytest.mark.parametrize("check", all_checks(), ids=name_of)
def test_check(
    check: Check, engine: str, shared_mirror: Mirror, request: pytest.FixtureRequest
) -> None:
    """A check holds in a fresh directory; on the stock engine it fails where that is known."""
    reason = getattr(check, "stock_cannot", None)
    if engine == "stock" and reason is not None:
        strict = getattr(check, "stock_cannot_ever", True)
        request.applymarker(pytest.mark.xfail(strict=strict, reason=reason))
    hold(check, shared_mirror)


# What depends on who reads and writes the files below: the kernel itself, or the file objects.
ABOUT_DATA = ("files", "flocks", "handles", "locks", "mapping", "opening", "ownership", "space")


@pytest.fixture(scope="module")
def asking_mirror(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mirror]:
    """A mirror whose file objects are asked for every byte."""
    sides = make_sides(tmp_path_factory.mktemp("asking"))
    with passthrough(sides.backing, sides.mount, "no_kernel_io") as server:
        yield Mirror(sides.mount, sides.backing, server)


@pytest.mark.parametrize("check", checks_about(*ABOUT_DATA), ids=name_of)
def test_check_without_kernel_io(check: Check, asking_mirror: Mirror) -> None:
    """What is about data holds also with -o no_kernel_io."""
    hold(check, asking_mirror)
