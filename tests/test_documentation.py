"""The documents say what the code does, where that can be read off."""

import re
from pathlib import Path

import fusepy_legacy
from fusepy_legacy import errors, filesystem
from fusepy_legacy.kernel.negotiation import UNLESS_WANTED, WANTED
from fusepy_legacy.kernel.options import OPTIONS, Kind, documentation

README = Path(__file__).resolve().parents[1] / "README.md"
DOCUMENTS = README.with_name("docs")


def test_options_are_documented_from_their_table() -> None:
    """docs/options.md is what `python -m fusepy_legacy.kernel.options` prints."""
    assert (DOCUMENTS / "options.md").read_text() == documentation()


def test_every_option_is_in_the_document_with_its_fate() -> None:
    """Each has a row, and a refused one says why."""
    text = documentation()
    for option in OPTIONS:
        assert f"| `{option.name}" in text
        assert option.kind is not Kind.REFUSED or len(option.meaning) > 10


def test_every_optional_handler_is_documented() -> None:
    """docs/handlers.md names each that the engine looks for."""
    text = (DOCUMENTS / "handlers.md").read_text()
    names = (
        *filesystem._OPTIONAL,
        *filesystem._OPTIONAL_FILE,
        *filesystem._OPTIONAL_DIRECTORY,
        "tmpfile",
    )
    for name in names:
        assert re.search(rf"`{name}\(", text), name
    for name in (*WANTED, *UNLESS_WANTED):
        assert f'`"{name}"`' in text, name


def test_every_exit_code_is_documented() -> None:
    """The table in README.md has all that the programs end with, and no other but 0."""
    section = README.read_text().partition("## Exit codes\n")[2].partition("\n## ")[0]
    first_columns = re.findall(r"^\| ([0-9, ]+) \|", section, re.MULTILINE)
    documented = [int(code) for column in first_columns for code in column.split(",")]
    codes = {value for name, value in vars(errors).items() if name.startswith("EXIT_")}
    assert sorted(documented) == sorted({0, *codes})


def test_every_module_has_its_place_in_the_readme() -> None:
    """Each file and directory of the package, but those that Python itself asks for, is named there."""
    section = README.read_text().partition("## Where things are\n")[2]
    package = Path(fusepy_legacy.__file__).parent
    rooms = {
        path.name if path.is_file() else f"{path.name}/"
        for path in package.iterdir()
        if not path.name.startswith("__") and path.suffix in (".py", "")
    }
    assert {room for room in rooms if f"{room}`" not in section} == set()
