"""Node ids, names and lookup counts: what the kernel knows of the filesystem.

A node is what the kernel's inode is to us. Its id is a counter, never the inode number, so an id is not
used again. A node has zero or more names, each a (parent, name); without one it is an unlinked file that
is still open, or still known.

Where a filesystem promises that (st_dev, st_ino) identify its files (real_inodes), two names of one file are
one node. Otherwise a node is a path, as in libfuse's high-level API.

The kernel's copy of a node ends with FORGET only. Each answer that names a node counts one lookup, and
FORGET says how many it gives back; a node without lookups, without known children and without opens is
dropped here too.

Paths are built from the directories' prefixes. A prefix is cached in its directory and is good for one
generation: renaming a directory starts the next, so it costs the same however large the tree below is.
"""

import threading
from typing import Dict, List, Optional, Sequence, Set, Tuple

from fusepy_legacy.kernel.abi import ROOT_ID
from fusepy_legacy.kernel.meant import FileId
from fusepy_legacy.kernel.memory import give_back_free_memory

Name = Tuple["Node", str]

_COMPACT_FROM = 4096  # nodes; below that there is nothing to gain


class Node:
    """One file or directory that the kernel knows.

    `place` is one of its names, the one looked up last, and `more` the others; `opens` are its open file
    objects' handles. Both are dicts without values: a file can have 65,000 names and be open as often, and
    each goes by itself. Names are replaced whole, so that whoever reads one without the guard gets one.
    `renames` counts those that have changed what is in it.
    `locked` tells that record locks have been asked for since it was opened.
    `special` is a fifo, socket or device, which the kernel opens without a request.
    """

    __slots__ = (
        "id",
        "lookups",
        "place",
        "more",
        "children",
        "renames",
        "prefix",
        "generation",
        "file_id",
        "opens",
        "locked",
        "special",
    )

    def __init__(self, number: int, file_id: Optional[FileId]) -> None:
        self.id = number
        self.lookups = 0
        self.place: Optional[Name] = None
        self.more: Optional[Dict[Name, None]] = None
        self.children: Optional[Dict[str, Node]] = None
        self.renames = 0
        self.prefix = ""
        self.generation = -1
        self.file_id = file_id
        self.opens: Optional[Dict[int, None]] = None
        self.locked = False
        self.special = False

    @property
    def parent(self) -> "Optional[Node]":
        """The directory that it is known in, None without a name."""
        place = self.place
        return None if place is None else place[0]


class Moved(Exception):
    """A rename has changed what was looked up, or is about to."""


class Move:
    """Context manager: one rename of these names that is under way, in `nodes.under_way`."""

    __slots__ = ("nodes", "names")

    def __init__(self, nodes: "NodeTable", names: Sequence[Name]) -> None:
        self.nodes = nodes
        self.names = names

    def __enter__(self) -> None:
        self.nodes.under_way.add(self)

    def __exit__(self, *exception: object) -> None:
        # First gone and then told: who begins to wait in between sees it gone.
        self.nodes.under_way.remove(self)
        if self.nodes.waiting:
            with self.nodes.settled:
                self.nodes.settled.notify_all()


class NodeTable:
    """All nodes of one mount.

    Methods that change more than one field hold `guard`; reading a path does not, and a path that became
    stale while it was used is recognised by `moves`, which counts every rename and removal.
    """

    def __init__(self, keep: bool = False) -> None:
        """`keep`: do not drop nodes that the kernel has forgotten (libfuse's noforget)."""
        self.keep = keep
        self.guard = threading.Lock()
        self.under_way: Set[Move] = set()
        self.settled = threading.Condition()
        self.waiting = 0  # threads in `settle`
        self.moves = 0
        self._generation = 0
        self._last_id = ROOT_ID
        self._by_file_id: Dict[FileId, Node] = {}
        self._ahead: List[Node] = []  # what `_drop_unneeded` has to look at
        self._peak = _COMPACT_FROM  # the most nodes since the last time that memory was given back
        self.root = Node(ROOT_ID, None)
        self.root.lookups = 1
        self.root.prefix = "/"
        self.by_id: Dict[int, Node] = {ROOT_ID: self.root}

    def __len__(self) -> int:
        return len(self.by_id)

    def path(self, node: Node) -> Optional[str]:
        """Return the node's path from the mount's root, None when it has no name any more."""
        place = node.place
        if place is None:
            return "/" if node is self.root else None
        prefix = self.prefix(place[0])
        if prefix is not None:
            return prefix + place[1]
        for parent, name in list(node.more or ()):  # a copy: no guard is held
            prefix = self.prefix(parent)
            if prefix is not None:
                return prefix + name
        return None

    def prefix(self, directory: Node) -> Optional[str]:
        """Return a directory's path with a slash behind it, None when it has no name any more."""
        generation = self._generation
        node = directory
        below: List[Tuple[Node, Name]] = []  # a path may have thousands of components
        while node.generation != generation and node is not self.root:
            place = node.place
            if place is None:
                return None
            below.append((node, place))
            node = place[0]
        prefix = node.prefix
        while below:
            node, place = below.pop()
            prefix = f"{prefix}{place[1]}/"
            node.prefix = prefix
            node.generation = generation
            # A rename meanwhile starts no generation if nothing is known below the directory.
            if node.place is not place:
                node.generation = -1
        return prefix

    def child(self, parent: Node, name: str) -> Optional[Node]:
        """Return the node known under a name, None when none is."""
        return parent.children.get(name) if parent.children else None

    def looked_up(
        self,
        parent: Node,
        name: str,
        file_id: Optional[FileId],
        links: int,
        since: Optional[int] = None,
    ) -> Node:
        """Return the node of a name that has just been found, and count one lookup.

        `file_id` is None without real_inodes. `links` is its st_nlink, or 0 for a directory, which has one
        name. `since` is `parent.renames` from before it was found: raises Moved if a rename may have given
        the name to another file meanwhile.
        """
        with self.guard:
            if since is not None and (parent.renames != since or self.is_moving(parent, name)):
                raise Moved
            known = parent.children.get(name) if parent.children else None
            if known is None or known.file_id != file_id:
                if known is not None:
                    self._remove_name(known, parent, name)
                    self._drop_unneeded(known)
                known = self._identify(file_id, links, parent)
                self._add_name(known, parent, name)
            if known.more and known.place is not None and known.place != (parent, name):
                # It is what the kernel is about to use, and the others may have changed meanwhile.
                del known.more[parent, name]
                known.more[known.place] = None
                known.place = parent, name
            known.lookups += 1
            return known

    def looked_up_again(self, node: Node) -> bool:
        """Count one lookup of a node that was known; return false when it has been forgotten meanwhile."""
        with self.guard:
            if node.id not in self.by_id:
                return False
            node.lookups += 1
            return True

    def lost(self, parent: Node, name: str) -> bool:
        """Take away a name that leads to its file no more, if the node has another; tell whether it had."""
        known = self.child(parent, name)
        if known is None or not known.more:
            return False  # as nearly always
        with self.guard:
            node = self.child(parent, name)
            if node is None or not node.more:
                return False
            self._remove_name(node, parent, name)
            return True

    def _identify(self, file_id: Optional[FileId], links: int, parent: Node) -> Node:
        """Return the node of a file identity under a name in `parent` that is new for it."""
        node = None if file_id is None else self._by_file_id.get(file_id)
        if node is not None and links <= 1 and node.place is not None:
            # It has one name, and it is not the one known. Either someone renamed it in the backing
            # directory, or the file that was known is gone and its inode number is used again; only an
            # open file's number cannot be. The kernel must not take the one for the other.
            if node.opens and not self._is_below(parent, node):
                self._remove_names(node)
            else:
                self._disown(node)
                node = None
        if node is None:
            self._last_id += 1
            node = Node(self._last_id, file_id)
            self.by_id[node.id] = node
            if file_id is not None:
                self._by_file_id[file_id] = node
        return node

    def anonymous(self, file_id: Optional[FileId]) -> Node:
        """Return a new node without a name (O_TMPFILE), and count one lookup."""
        with self.guard:
            node = self._identify(file_id, links=1, parent=self.root)
            node.lookups += 1
            return node

    def identify(self, node: Node, file_id: Optional[FileId]) -> None:
        """Give a node without a name its identity back, because it is about to have a name again."""
        if file_id is not None:
            with self.guard:
                node.file_id = file_id
                self._by_file_id[file_id] = node

    def forget(self, number: int, lookups: int) -> None:
        """Take lookups back, and drop the node when it was the last one and nothing else needs it."""
        with self.guard:
            node = self.by_id.get(number)
            if node is not None and node is not self.root:
                node.lookups = max(0, node.lookups - lookups)
                self._drop_unneeded(node)

    def opened(self, node: Node, handle: int) -> None:
        """Count an open file of the node."""
        with self.guard:
            if node.opens is None:
                node.opens = {handle: None}
            else:
                node.opens[handle] = None

    def released(self, node: Node, handle: int) -> None:
        """Take one open file away."""
        with self.guard:
            opens = node.opens
            if opens:
                opens.pop(handle, None)
            if not opens:
                node.opens = None
                node.locked = False
                if node.place is None or not node.lookups:  # else it is needed, as nearly always
                    self._drop_unneeded(node)

    def removed(self, parent: Node, name: str) -> None:
        """Take a name away after unlink or rmdir."""
        with self.guard:
            node = self.child(parent, name)
            if node is not None:
                self.moves += 1
                self._remove_name(node, parent, name)
                self._drop_unneeded(node)

    def moving(self, *names: Name) -> "Move":
        """Around a rename: from before the filesystem does it until the names here are the new ones."""
        return Move(self, names)

    def is_moving(self, parent: Node, name: str) -> bool:
        """Tell whether a rename is under way that gives a name to another file, or takes it away."""
        if not self.under_way:
            return False
        return any((parent, name) in move.names for move in self.under_way.copy())

    def settle(self) -> bool:
        """Wait for the renames that are under way; tell whether there were any."""
        if not self.under_way:
            return False
        with self.settled:
            self.waiting += 1
            before = self.under_way.copy()
            self.settled.wait_for(lambda: not before & self.under_way, timeout=1)
            self.waiting -= 1
        return True

    def renamed(
        self, old_parent: Node, old_name: str, new_parent: Node, new_name: str, exchange: bool
    ) -> None:
        """Move a name, replacing what had the new one; with `exchange`, the two change places."""
        with self.guard:
            self.moves += 1
            old_parent.renames += 1
            new_parent.renames += 1
            node = self.child(old_parent, old_name)
            other = self.child(new_parent, new_name)
            if node is other and node is not None:
                return  # two names of one file: rename(2) does nothing
            if node is not None:
                self._remove_name(node, old_parent, old_name)
            if other is not None:
                self._remove_name(other, new_parent, new_name)
                if exchange:
                    self._add_name(other, old_parent, old_name)
                self._drop_unneeded(other)
            if node is not None:
                self._add_name(node, new_parent, new_name)

    def find(self, path: str) -> Optional[Node]:
        """Return the known node of a path, None when the kernel knows none."""
        node: Optional[Node] = self.root
        for name in path.strip("/").split("/") if path.strip("/") else ():
            node = self.child(node, name) if node is not None else None
        return node

    def find_file(self, file_id: FileId) -> Optional[Node]:
        """Return the known node of a file identity, None when the kernel knows none."""
        return self._by_file_id.get(file_id)

    # With the guard held.

    def _add_name(self, node: Node, parent: Node, name: str) -> None:
        if parent.children is None:
            parent.children = {}
        parent.children[name] = node
        if node.place is None:
            node.place = parent, name
            node.generation = -1
        elif node.more is None:
            node.more = {(parent, name): None}
        else:
            node.more[parent, name] = None

    def _remove_name(self, node: Node, parent: Node, name: str) -> None:
        children = parent.children
        if children is not None and children.get(name) is node:
            del children[name]
            if not children:
                parent.children = None
        if node.place == (parent, name):
            node.place = node.more.popitem()[0] if node.more else None
            node.generation = -1
            if node.children:
                self._generation += 1  # what is below has another path now, or none
        elif node.more is not None:
            node.more.pop((parent, name), None)
        if not node.more:
            node.more = None
        if parent.children is None:
            self._drop_unneeded(parent)

    def _remove_names(self, node: Node) -> None:
        while node.place is not None:
            self._remove_name(node, *node.place)

    def _is_below(self, node: Node, directory: Node) -> bool:
        """Tell whether a node is a directory or below it, as far as is known."""
        above: Optional[Node] = node
        while above is not None and above is not directory:
            above = above.parent
        return above is directory

    def _disown(self, node: Node) -> None:
        """Let go of a node's identity and names; the kernel may still hold it for a while."""
        if node.file_id is not None and self._by_file_id.get(node.file_id) is node:
            del self._by_file_id[node.file_id]
        node.file_id = None
        self._remove_names(node)

    def _drop_unneeded(self, node: Node) -> None:
        """Drop a node that nothing needs any more, and then its parents likewise."""
        self._ahead.append(node)
        if (
            len(self._ahead) == 1
        ):  # else whoever is dropping comes to it: not by recursion, trees are deep
            try:
                for each in self._ahead:
                    self._drop_if_unneeded(each)
            finally:
                self._ahead.clear()

    def _drop_if_unneeded(self, node: Node) -> None:
        """Drop a node. Without name and opens it keeps no identity: its number may be used again."""
        if node.opens is not None or node is self.root:
            return
        if node.place is None:
            self._disown(node)
        kept = self.keep and node.place is not None
        if node.lookups == 0 and not node.children and not kept and node.id in self.by_id:
            self._peak = max(self._peak, len(self.by_id))
            del self.by_id[node.id]
            self._disown(node)
            if self._peak > _COMPACT_FROM and len(self.by_id) < self._peak // 4:
                self._compact()

    def _compact(self) -> None:
        """Give memory back: a dict keeps the room of its largest size until it is made anew."""
        self.by_id = dict(self.by_id)
        self._by_file_id = dict(self._by_file_id)
        self._peak = max(len(self.by_id), _COMPACT_FROM)
        give_back_free_memory()
