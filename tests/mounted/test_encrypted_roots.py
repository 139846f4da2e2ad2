"""Several directories in one encrypted view, with what is excluded from them."""

import os
import shutil
from pathlib import Path

import pytest

from tests.mounted.commands import output_of, run
from tests.mounted.encrypted_views import CRYPT, ENVIRONMENT, Source, make_source
from tests.mounted.mounting import Mounted
from tests.vault_trees import COMMAND as VAULT


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """A roots file, in the place of the root, with two directories; the config is beside it."""
    made = make_source(tmp_path)
    (made.root / ".gocryptfs.reverse.conf").rename(tmp_path / "config")
    for label in ("one", "two"):
        (made.root / label / "below").mkdir(parents=True)
        for name in ("kept", "hidden", "kept" + "n" * 200, "hidden" + "n" * 200):
            (made.root / label / "below" / name).write_text(label + name)
    os.link(str(made.root / "two" / "below" / "kept"), str(made.root / "two" / "linked"))
    text = "".join(
        f"[{label}]\npath = {made.root / label}\nexclude = hidden*\n" for label in ("one", "two")
    )
    (tmp_path / "roots.ini").write_text(text)
    return made


def shown(source: Source) -> Mounted:
    """Return the view of both, mounted."""
    base = source.root.parent
    words = f"roots={base / 'roots.ini'},config={base / 'config'},passfile={source.passfile}"
    return Mounted([*CRYPT, source.view, "-f", "-o", words], source.view, ENVIRONMENT)


def test_a_copy_has_both_without_what_is_excluded(source: Source) -> None:
    """Hidden files are not there, nor are the companions of their names."""
    copy = source.root.parent / "copy"
    with shown(source):
        output_of("cp", "-a", source.view, copy)
        assert len(list(source.view.rglob("*.name"))) == 2
    for path in list(source.root.rglob("hidden*")):
        path.unlink()
    words = ["verify", "-q", "--passfile", source.passfile, "--against", source.root, copy]
    output_of(*VAULT, *words)


@pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is missing")
def test_the_next_mount_is_the_same(source: Source) -> None:
    """Hard links included: rsync by checksums finds nothing to do."""
    copy = source.root.parent / "copy"
    with shown(source):
        output_of("rsync", "-aHX", f"{source.view}/", copy)
    with shown(source):
        assert output_of("rsync", "-aHXic", f"{source.view}/", copy) == ""


def test_several_directories_need_a_config(source: Source) -> None:
    """None of them has the one for all."""
    words = f"roots={source.root.parent / 'roots.ini'},passfile={source.passfile}"
    outcome = run([*CRYPT, source.view, "-f", "-o", words], environment=ENVIRONMENT)
    assert (outcome.code, outcome.errors.count("\n")) == (1, 1)
    assert "config=FILE" in outcome.errors
