"""The documents say what the code does, where that can be read off."""

import re
from pathlib import Path

from fusepy_legacy import filesystem
from fusepy_legacy.kernel.negotiation import UNLESS_WANTED, WANTED
from fusepy_legacy.kernel.options import OPTIONS, Kind, documentation

DOCUMENTS = Path(__file__).resolve().parents[1] / "docs"


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
