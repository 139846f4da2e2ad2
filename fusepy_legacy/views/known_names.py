"""Names of the encrypted view that have lately been met, by their directories, in both languages.

A name's translation follows from the key and from the encrypted path of its directory alone. So an entry
never becomes wrong, whatever happens to the files, and is forgotten only to bound the memory: when there are
`limit` names, they become the older ones, and the older ones are dropped. A walk of any length takes the
memory of twice `limit` names, which is about 10 MB for 16384.
"""

from typing import Dict, Iterable, List, Optional, Sequence


class KnownDirectory:
    """A directory of the view.

    `prefix` is its plain path with a slash behind, `iv` the IV of its names. `plain` leads from encrypted
    names to plain ones, `stored` back; "." and ".." are what they are.
    """

    __slots__ = ("prefix", "iv", "plain", "stored", "older")

    def __init__(self, prefix: str, iv: bytes, older: "Optional[KnownDirectory]" = None) -> None:
        self.prefix = prefix
        self.iv = iv
        self.plain: Dict[str, str] = {}
        self.stored: Dict[str, str] = {".": ".", "..": ".."}
        self.older = older


class KnownNames:
    """The directories by their paths in the view, the top's "". Threads may share it."""

    def __init__(self, limit: int, top: KnownDirectory) -> None:
        self._limit = limit
        self._recent: Dict[str, KnownDirectory] = {"": top}
        self._older: Dict[str, KnownDirectory] = {}
        self._count = 0  # of the recent ones: names, and directories

    def __len__(self) -> int:
        """Return how many names there are, recent and older."""
        both = (*self._recent.values(), *self._older.values())
        return sum(len(directory.plain) for directory in both)

    def find(self, path: str) -> Optional[KnownDirectory]:
        """Return a directory, None when it is not known (any more)."""
        known = self._recent.get(path)
        if known is None:
            older = self._older.get(path)
            if older is not None:
                known = self._enter(path, KnownDirectory(older.prefix, older.iv, older))
        return known

    def enter(self, path: str, prefix: str, iv: bytes) -> KnownDirectory:
        """Return a directory, new if it is not known."""
        return self.find(path) or self._enter(path, KnownDirectory(prefix, iv))

    def plain(self, directory: KnownDirectory, stored: str) -> Optional[str]:
        """Return the plain name that is called `stored`, None when it is not known."""
        name = directory.plain.get(stored)
        older = directory.older
        if name is None and older is not None:
            name = older.plain.get(stored)
            if name is not None:
                self.remember(directory, (name,), (stored,))
        return name

    def stored(self, directory: KnownDirectory, names: Sequence[str]) -> List[Optional[str]]:
        """Return what plain names are called, None for each that is not known."""
        found = list(map(directory.stored.get, names))
        older = directory.older
        if older is not None and None in found:
            for place, name in enumerate(names):
                if found[place] is None:
                    found[place] = stored = older.stored.get(name)
                    if stored is not None:
                        self.remember(directory, (name,), (stored,))
        return found

    def remember(
        self, directory: KnownDirectory, names: Sequence[str], stored: Iterable[str]
    ) -> None:
        """Take note of what plain names are called."""
        pairs = dict(zip(names, stored))
        directory.stored.update(pairs)
        directory.plain.update(zip(pairs.values(), pairs))
        self._add(len(pairs))

    def _enter(self, path: str, directory: KnownDirectory) -> KnownDirectory:
        self._recent[path] = directory
        self._add(1)
        return directory

    def _add(self, count: int) -> None:
        self._count += count
        if self._count >= self._limit:
            recent = self._recent
            for directory in list(recent.values()):
                directory.older = None
            top = recent.get("") or self._older[""]
            self._older = recent
            self._recent = {"": KnownDirectory(top.prefix, top.iv, top)}
            self._count = 0
