"""fusepy_legacy.kernel.options: the mount options, and how a command line is taken apart."""

import contextlib
import re
from typing import Dict, List

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusepy_legacy.kernel import options
from fusepy_legacy.kernel.options import (
    OPTIONS,
    Kind,
    MountArguments,
    Option,
    OptionError,
    OptionValue,
    find,
    help_text,
    parse,
    parse_options,
    refuse,
)
from tests.kernel_side import FILE, Kernel, error_of
from tests.wire import u32

rows = pytest.mark.parametrize("option", OPTIONS, ids=[option.name for option in OPTIONS])


def written(option: Option) -> str:
    """Return an option as a user writes it."""
    return option.name if option.value is None else f"{option.name}=1"


@rows
def test_each_row_is_well_formed(option: Option) -> None:
    """A name of lower-case letters, the value in capitals, a meaning in one line."""
    assert re.match(r"[a-z_]+$", option.name)
    assert option.value is None or re.match(r"[A-Z]+$", option.value)
    assert isinstance(option.kind, Kind)
    assert option.meaning.splitlines() == [option.meaning.strip()]
    if option.kind in (Kind.FLAG, Kind.FSTAB):
        assert option.value is None


def test_each_name_has_one_row() -> None:
    """No name comes twice, and each is found."""
    assert len({option.name for option in OPTIONS}) == len(OPTIONS)
    assert [find(option.name) for option in OPTIONS] == list(OPTIONS)
    assert find("no_such_option") is None


@rows
def test_each_option_is_accepted_as_its_row_says(option: Option) -> None:
    """It comes out with its value, or True; those for mount(8) are taken and dropped."""
    expected = {option.name: True if option.value is None else "1"}
    assert parse_options(written(option)) == ({} if option.kind is Kind.FSTAB else expected)


@rows
def test_a_missing_or_superfluous_value_is_an_error(option: Option) -> None:
    """The message names the option, and how to write it."""
    wrong = option.name if option.value else f"{option.name}=1"
    with pytest.raises(OptionError, match=f"-o {option.name} ") as caught:
        parse_options(wrong)
    if option.value:
        assert str(caught.value).endswith(f"-o {option.name}={option.value}")
    with pytest.raises(OptionError, match=f"-o {option.name} "):
        parse_options(f"{option.name}=")


@pytest.mark.parametrize("name", ["bogus", "Allow_other", "allow-other", " ro", "ro ", "fsname x"])
def test_an_unknown_option_is_an_error(name: str) -> None:
    """The message names it, with a value and without."""
    for text in (name, f"ro,{name}", f"{name}=1"):
        with pytest.raises(OptionError, match=f"^unknown option: -o {name}$"):
            parse_options(text)


def test_a_value_without_a_name_is_an_error() -> None:
    """It is not dropped silently."""
    for text in ("=1", "ro,=1", "="):
        with pytest.raises(OptionError, match="unknown option"):
            parse_options(text)


@pytest.mark.parametrize(
    "text", ["", ",", ",,ro", "ro,", "ro,,rw", "x-systemd.automount,ro", "x-a=b"]
)
def test_empty_items_and_comments_of_other_programs_are_skipped(text: str) -> None:
    """Commas too many, and what begins with "x-" as mount(8) has it, mean nothing."""
    assert set(parse_options(text)) <= {"ro", "rw"}
    assert ("ro" in parse_options(text)) == ("ro" in text.split(","))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r"fsname=a\,b", "a,b"),
        (r"fsname=a\\b", r"a\b"),
        (r"fsname=a\\\,b", r"a\,b"),
        (r"fsname=\a", "a"),
        ("fsname=a=b", "a=b"),
        ("fsname= a b ", " a b "),
        ("fsname=caf\u00e9\udcff", "caf\u00e9\udcff"),
    ],
)
def test_a_backslash_takes_a_comma_or_itself_into_the_value(text: str, value: str) -> None:
    """As libfuse's fuse_opt_parse; the first "=" ends the name."""
    assert parse_options(text + ",ro") == {"fsname": value, "ro": True}


def test_the_last_of_several_values_counts() -> None:
    """In one -o and over several."""
    assert parse_options("fsname=a,fsname=b") == {"fsname": "b"}
    assert parse(["p", "-ofsname=a", "-o", "fsname=b"]).options == {"fsname": "b"}


@pytest.mark.parametrize(
    ("stricter", "other"),
    [
        ("ro", "rw"),
        ("nosuid", "suid"),
        ("nodev", "dev"),
        ("noexec", "exec"),
        ("sync", "async"),
        ("noatime", "atime"),
    ],
)
def test_of_two_that_contradict_each_other_the_stricter_holds(stricter: str, other: str) -> None:
    """Whichever comes last, in one word or in two."""
    for words in (
        [f"-o{stricter},{other}"],
        [f"-o{other},{stricter}"],
        ["-o", stricter, "-o", other],
    ):
        assert parse(["program", "/mnt", *words]).options == {stricter: True}
    assert parse(["program", "/mnt", "-o", other]).options == {other: True}


def test_a_full_command_line_is_taken_apart() -> None:
    """Mount point, switches and options, in any order."""
    expected = MountArguments("/mnt", True, False, False, {"ro": True, "fsname": "x"})
    for words in (
        ["p", "/mnt", "-f", "-o", "ro,fsname=x"],
        ["p", "-o", "ro", "/mnt", "-ofsname=x", "-f", "-s"],
        ["p", "-f", "-oro", "-o", "fsname=x", "/mnt"],
    ):
        assert parse(words) == expected


def test_nothing_given_is_nothing() -> None:
    """Without arguments there is no mount point, no switch and no option."""
    assert parse(["p"]) == MountArguments(None, False, False, False, {})
    assert parse(["p", "-o"]) == MountArguments(None, False, False, False, {})


def test_debug_implies_foreground() -> None:
    """-d is -o debug is -f -o debug."""
    for words in (["p", "-d"], ["p", "-o", "debug"], ["p", "-f", "-d"]):
        assert parse(words) == MountArguments(None, True, False, False, {"debug": True})


@pytest.mark.parametrize("word", ["-h", "--help", "-ho"])
def test_help_is_asked_for(word: str) -> None:
    """libfuse's -ho among the ways."""
    assert parse(["p", word]).show_help


@pytest.mark.parametrize("word", ["-V", "--version"])
def test_the_version_is_asked_for(word: str) -> None:
    """In both ways."""
    assert parse(["p", word]).show_version


@pytest.mark.parametrize("word", ["-x", "--bogus", "-", "-fd", "--"])
def test_an_unknown_switch_is_an_error(word: str) -> None:
    """The message names it."""
    with pytest.raises(OptionError, match=f"^unknown option: {word}$"):
        parse(["p", "/mnt", word])


def test_a_second_mount_point_is_an_error() -> None:
    """The message names both."""
    with pytest.raises(OptionError, match=r"/one and /two"):
        parse(["p", "/one", "/two"])


@rows
def test_only_refused_options_are_refused(option: Option) -> None:
    """`refuse` names the option and the reason, and lets all others pass."""
    options: Dict[str, OptionValue] = {"ro": True, option.name: "1"}
    if option.kind is Kind.REFUSED:
        with pytest.raises(OptionError, match=f"-o {option.name} ") as caught:
            refuse(options)
        assert option.meaning in str(caught.value)
    else:
        refuse(options)


@rows
def test_the_help_has_the_options_that_do_something(option: Option) -> None:
    """Those that are refused, needless or for mount(8) only are not in it; no line is over 100 wide."""
    lines = [line for line in help_text().splitlines() if option.meaning in line]
    shown = [line for line in lines if line.split()[1].split("=")[0] == option.name]
    assert len(shown) == (option.kind in (Kind.ENGINE, Kind.OWN, Kind.MOUNT, Kind.FLAG))
    for line in shown:
        assert len(line) <= 100
        assert option.value is None or f"{option.name}={option.value} " in line


values = st.text(min_size=1, max_size=20).filter(lambda value: "\0" not in value)


@given(st.dictionaries(st.sampled_from(["fsname", "subtype"]), values))
def test_any_value_can_be_written(options: Dict[str, str]) -> None:
    """With backslashes before commas and backslashes, every text comes through."""
    text = ",".join(
        f"{name}=" + value.replace("\\", "\\\\").replace(",", "\\,")
        for name, value in options.items()
    )
    assert parse_options(text) == options


@given(st.lists(st.text(max_size=20), max_size=6))
def test_whatever_is_typed_is_understood_or_an_option_error(words: List[str]) -> None:
    """No other exception comes out."""
    with contextlib.suppress(OptionError):
        parse(["p", *words])


NUMERIC = [option for option in OPTIONS if option.value in options._NUMBERS]
TIMES = [option for option in NUMERIC if option.value == "SECONDS"]
LIMITED = [option for option in NUMERIC if option.value != "SECONDS"]


@pytest.mark.parametrize("option", TIMES, ids=lambda option: option.name)
def test_any_time_is_one(option: Option) -> None:
    """As for libfuse: a negative one is none, and one that is too long is forever."""
    for value in ("x", "nan", "0x10"):
        with pytest.raises(OptionError, match=f"^-o {option.name}={value}: not a number$"):
            parse_options(f"{option.name}={value}")
    for value in ("-1", "1.5", "1e30"):
        kernel = Kernel(parse_options(f"{option.name}={value}"), getattr=FILE)
        agree(kernel)
        kernel.looks_up("file")


@pytest.mark.parametrize("option", LIMITED, ids=lambda option: option.name)
@pytest.mark.parametrize("value", ["x", "nan", "inf", "-2", "1e30", "99999999999", "0x10"])
def test_a_value_that_is_no_number_or_out_of_range(option: Option, value: str) -> None:
    """It is refused before anything is mounted, and the message says what could be."""
    with pytest.raises(OptionError, match=f"^-o {option.name}={value}: not a number from -?[0-9]"):
        parse_options(f"{option.name}={value}")


@pytest.mark.parametrize("option", NUMERIC, ids=lambda option: option.name)
@pytest.mark.parametrize("end", ["least", "most"])
def test_the_ends_of_a_range_can_be_used(option: Option, end: str) -> None:
    """The mount starts, and files are shown."""
    value = getattr(options._NUMBERS[str(option.value)], end)
    kernel = Kernel(parse_options(f"{option.name}={value}"), getattr=FILE)
    agree(kernel)
    kernel.looks_up("file")


def agree(kernel: Kernel) -> None:
    """Be a kernel that can everything."""
    init = u32(7) + u32(45) + u32(131072) + u32(0xFFFFFFFF) + u32(0xFFFFFFFF) + bytes(44)
    assert error_of(kernel.sends(26, init, node=0)) == 0  # FUSE_INIT
