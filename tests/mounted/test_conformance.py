"""The mirror keeps what tests.mounted.conformance says that a mirror promises, on each engine.

So does a root of several at one mount.
"""

import pytest

from tests.mounted.conformance import Check, all_checks
from tests.mounted.mounting import Mirror


def name_of(check: Check) -> str:
    """Name a check by its subject and its promise."""
    subject = check.__module__.rpartition(".")[2]
    return f"{subject}.{check.__name__}"


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
        request.applymarker(pytest.mark.xfail(strict=True, reason=reason))
    name = name_of(check)
    (shared_mirror.mount / name).mkdir()
    check(shared_mirror.mount / name, shared_mirror.backing / name)
