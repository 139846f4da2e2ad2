"""What `-o relative_symlinks` shows of links, and that nothing else of them changes."""

import os

from tests.mounted.mounting import Sides, passthrough


def test_links_below_the_root_become_relative(engine: str, sides: Sides) -> None:
    """A link to an absolute path below the root leads to the mirror of it, from any depth."""
    below = sides.backing / "a" / "b"
    below.mkdir(parents=True)
    (sides.backing / "file").write_text("mirrored")
    targets = {
        "root": str(sides.backing),
        "file": str(sides.backing / "file"),
        "near": str(below / "file"),
        "outside": f"{sides.backing}-beside/file",
        "relative": "../../file",
    }
    for name, target in targets.items():
        (below / name).symlink_to(target)
    with passthrough(sides.backing, sides.mount, "relative_symlinks", engine=engine):
        links = sides.mount / "a" / "b"
        shown = {name: os.readlink(str(links / name)) for name in targets}
        assert shown == {
            "root": "../..",
            "file": "../../file",
            "near": "file",
            "outside": targets["outside"],
            "relative": "../../file",
        }
        assert (links / "file").resolve() == sides.mount / "file"
        (links / "new").symlink_to(str(sides.backing / "file"))
        assert os.readlink(str(below / "new")) == str(sides.backing / "file")


def test_links_are_shown_as_they_are_otherwise(engine: str, sides: Sides) -> None:
    """Without the option an absolute link leads where it leads."""
    (sides.backing / "link").symlink_to(str(sides.backing))
    with passthrough(sides.backing, sides.mount, engine=engine):
        assert os.readlink(str(sides.mount / "link")) == str(sides.backing)
