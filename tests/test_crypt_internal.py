"""fusepy_legacy.crypt.internal: what is in an encrypted tree beside what was encrypted."""

import pytest

from fusepy_legacy.crypt.internal import is_internal

HASH = "gocryptfs.longname.LkwUdALvV_ANnzQN6ZZMYnxxfARD3IeZWCKnxGJjYmU"

anywhere = pytest.mark.parametrize("top", [True, False])


@anywhere
@pytest.mark.parametrize(
    "name", ["gocryptfs.diriv", "gocryptfs.diriv.rmdir.0123456789abcdef", HASH + ".name"]
)
def test_directory_ivs_and_companions_are_internal_everywhere(name: str, top: bool) -> None:
    """Also an IV that rmdir has moved up, out of a directory that is about to go."""
    assert is_internal(name, top, plaintext_names=False)


@pytest.mark.parametrize(
    "name",
    ["gocryptfs.conf", "gocryptfs.conf.bak", "gocryptfs.conf.tmp", "gocryptfs.conf.0123abcd.tmp"],
)
def test_the_config_is_internal_at_the_top_only(name: str) -> None:
    """With what a change of password leaves that was killed, or had a master key."""
    assert is_internal(name, top=True, plaintext_names=False)
    assert not is_internal(name, top=False, plaintext_names=False)


@anywhere
@pytest.mark.parametrize(
    "name",
    [
        HASH,
        "gocryptfs.divs",
        "gocryptfs.diriv2",
        "gocryptfs.conf.bak2",
        "gocryptfs.confX.tmp",
        "gocryptfs.conf.0123ABCD.tmp",
        "a gocryptfs.diriv",
        "0lmgrNSV3NAGzlSpuBMs7A",
        ".",
        "..",
        "\udcff",
    ],
)
def test_all_else_is_not(name: str, top: bool) -> None:
    """Neither encrypted names nor what somebody has put there."""
    assert not is_internal(name, top, plaintext_names=False)


@pytest.mark.parametrize("name", ["gocryptfs.diriv", "gocryptfs.conf.tmp", HASH + ".name"])
def test_with_plain_names_only_the_config_is(name: str) -> None:
    """Everything else there is a file of the user's, whatever it is called."""
    assert not is_internal(name, top=True, plaintext_names=True)
    assert not is_internal("gocryptfs.conf", top=False, plaintext_names=True)
    assert is_internal("gocryptfs.conf", top=True, plaintext_names=True)
