"""What a roots file would mount, as text: --check-roots."""

import os
import re
from typing import Dict, Iterator

from fusepy_legacy.root import Root
from fusepy_legacy.roots import Place, Roots


def report(name: str) -> Iterator[str]:
    """Yield a line for each root of a file; raises MountError."""
    roots = Roots(name)
    try:
        types = _filesystem_types()
        for label, place in roots.places.items():
            yield f"{label}: {_described(place, types)}"
    finally:
        roots.close()


def _described(place: Place, types: Dict[str, str]) -> str:
    path = place.definition.path
    if place.root is None:
        return f"{path}, not there; skipped until it is"
    rules = place.root.rules
    said = [path, _filesystem_type(path, types)]
    said += [name for name in ("read_only", "one_file_system") if getattr(rules, name)]
    if rules.exclusion is not None:
        said.append(f"hides {_hidden_at_the_top(place.root)} at its top")
    return ", ".join(said)


def _hidden_at_the_top(root: Root) -> str:
    names = os.listdir(root.path)
    listing = root.opendir("/")
    try:
        shown = {entry.name for entry in listing.entries(0)}
    finally:
        listing.close()
    return f"{sum(name not in shown for name in names)} of {len(names)} entries"


def _filesystem_types() -> Dict[str, str]:
    """Return the type at each mount point, the topmost where several are: proc_pid_mounts(5)."""
    with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as table:
        mounts = [line.split(" ")[1:3] for line in table]
    return {_unescaped(point): kind for point, kind in mounts}


def _unescaped(point: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), point)


def _filesystem_type(path: str, types: Dict[str, str]) -> str:
    real = os.path.realpath(path) + "/"
    above = [point for point in types if real.startswith(point.rstrip("/") + "/")]
    return types[max(above, key=len)] if above else "unknown"
