"""The imports go one way: commands → views → passthrough → filesystem → kernel, views → crypt."""

import ast
from pathlib import Path
from typing import Dict, Iterator, List, Set

import pytest

import fusepy_legacy

PACKAGE = "fusepy_legacy"
DIRECTORY = Path(fusepy_legacy.__file__).parent

# What each floor may import besides itself. A module that is named nowhere is on the ground floor,
# which all may use but kernel and crypt.
MAY_IMPORT: Dict[str, Set[str]] = {
    "commands": {"views", "vault", "passthrough", "filesystem", "kernel", "crypt", "ground"},
    "vault": {"crypt", "ground"},
    "views": {"passthrough", "filesystem", "kernel", "crypt", "ground"},
    "passthrough": {"filesystem", "kernel", "ground"},
    "filesystem": {"kernel", "ground"},
    "ground": set(),
    "kernel": set(),
    "crypt": set(),
}
FLOORS = {
    "__main__": "commands",
    "binding": "filesystem",
    "inodes": "filesystem",
    "root": "passthrough",
    "rooted": "passthrough",
    "roots": "passthrough",
    "roots_file": "passthrough",
}


def modules() -> Dict[str, Path]:
    """Return the modules of the package by their names."""
    found = {}
    for path in sorted(DIRECTORY.rglob("*.py")):
        parts = path.relative_to(DIRECTORY.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def floor(module: str) -> str:
    """Return the floor that a module of the package is on."""
    top = module.split(".")[1]
    return FLOORS.get(top, top if top in MAY_IMPORT else "ground")


def imports(path: Path, for_types: bool = True) -> Iterator[str]:
    """Yield the names that a file imports, inside functions too; a.b for `from a import b`.

    Without `for_types`, what is imported under `if TYPE_CHECKING:` is left out.
    """
    ahead: List[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while ahead:
        node = ahead.pop()
        if isinstance(node, ast.If) and ast.dump(node.test) == TYPE_CHECKING and not for_types:
            ahead += node.orelse
            continue
        ahead += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in MODULES else str(node.module)


TYPE_CHECKING = ast.dump(ast.parse("TYPE_CHECKING", mode="eval").body)
MODULES = modules()


def own_imports(module: str, for_types: bool = True) -> Set[str]:
    """Return the other modules of the package that one imports."""
    found = {name for name in imports(MODULES[module], for_types) if name in MODULES}
    return found - {PACKAGE, module}


each_module = pytest.mark.parametrize("module", sorted(set(MODULES) - {PACKAGE}))


def test_the_modules_are_found() -> None:
    """The floors that exist are among the modules, and their imports of each other are seen."""
    floors = {floor(module) for module in MODULES if module != PACKAGE}
    assert (
        {"commands", "passthrough", "filesystem", "kernel", "ground"} <= floors <= set(MAY_IMPORT)
    )
    assert f"{PACKAGE}.kernel.options" in own_imports(f"{PACKAGE}.filesystem")
    assert f"{PACKAGE}.passthrough" in own_imports(f"{PACKAGE}.commands.passthrough")


@each_module
def test_a_module_imports_its_own_floor_and_those_below(module: str) -> None:
    """No arrow goes up, not even for type hints."""
    allowed = MAY_IMPORT[floor(module)] | {floor(module)}
    assert {name for name in own_imports(module) if floor(name) not in allowed} == set()


@each_module
def test_no_module_imports_itself_by_way_of_others(module: str) -> None:
    """On one floor, too, the imports are no circle, but for those that only type hints need."""
    reached: Set[str] = set()
    ahead = list(own_imports(module, for_types=False))
    while ahead:
        name = ahead.pop()
        if name not in reached:
            reached.add(name)
            ahead += own_imports(name, for_types=False)
    assert module not in reached


@pytest.mark.parametrize("package", ["kernel", "crypt"])
def test_kernel_and_crypt_stand_alone(package: str) -> None:
    """They import neither `fuse` nor anything of the package but themselves, not even its top."""
    for module, path in MODULES.items():
        if module != PACKAGE and floor(module) == package:
            for name in imports(path):
                assert name.split(".")[0] not in ("fuse", "fuseparts"), module
                assert name.split(".")[0] != PACKAGE or name.startswith(f"{PACKAGE}.{package}")


def test_the_package_itself_imports_none_of_its_modules() -> None:
    """Its public names are imported when they are used."""
    assert own_imports(PACKAGE) == set()
