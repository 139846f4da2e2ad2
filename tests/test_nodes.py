"""fusepy_legacy.kernel.nodes: what the kernel knows is what it was told, until it forgets it."""

import gc
import sys
import threading
import time
import tracemalloc
from typing import Any, Dict, List, Optional, Set, Tuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fusepy_legacy.kernel import nodes
from fusepy_legacy.kernel.meant import FileId
from fusepy_legacy.kernel.nodes import Node, NodeTable
from tests.costs import cpu_seconds, lines_run

DIRECTORY = 0  # as `links` of looked_up


def known(table: NodeTable, *paths: str) -> List[Node]:
    """Look paths up as directories, whose parents are known; return their nodes."""
    nodes = []
    for path in paths:
        parent_path, _, name = path.rpartition("/")
        parent = table.find(parent_path)
        assert parent is not None
        nodes.append(table.looked_up(parent, name, None, DIRECTORY))
    return nodes


# Ids and lookups


def test_a_lookup_is_counted_each_time() -> None:
    """One name is one node, and the node keeps its id."""
    table = NodeTable()
    first = table.looked_up(table.root, "file", None, 1)
    assert table.looked_up(table.root, "file", None, 1) is first
    assert first.lookups == 2
    assert table.by_id == {1: table.root, first.id: first}
    assert table.find("/file") is first


def test_forget_drops_a_node_with_its_last_lookup() -> None:
    """And not before."""
    table = NodeTable()
    (node,) = known(table, "/file")
    known(table, "/file")
    table.forget(node.id, 1)
    assert table.find("/file") is node
    table.forget(node.id, 1)
    assert table.find("/file") is None
    assert len(table) == 1


def test_an_id_is_never_used_again() -> None:
    """The kernel may still mean the old node by it."""
    table = NodeTable()
    ids = set()
    for _ in range(10):
        (node,) = known(table, "/file")
        ids.add(node.id)
        table.forget(node.id, 1)
    assert len(ids) == 10


def test_the_root_is_never_forgotten() -> None:
    """It was never looked up."""
    table = NodeTable()
    table.forget(1, 100)
    assert table.path(table.root) == "/"
    assert table.by_id == {1: table.root}


def test_forget_of_what_is_not_known_does_nothing() -> None:
    """Nor does it take back more than there is."""
    table = NodeTable()
    (node,) = known(table, "/file")
    table.forget(99, 1)
    table.forget(node.id, 1000)
    assert len(table) == 1


def test_a_directory_outlives_its_last_lookup_while_a_child_is_known() -> None:
    """The child's path needs it."""
    table = NodeTable()
    outer, inner = known(table, "/outer", "/outer/inner")
    table.forget(outer.id, 1)
    assert table.path(inner) == "/outer/inner"
    table.forget(inner.id, 1)
    assert len(table) == 1


def test_a_node_outlives_its_last_lookup_while_it_is_open() -> None:
    """It is dropped with the last handle."""
    table = NodeTable()
    (node,) = known(table, "/file")
    table.opened(node, 1)
    table.opened(node, 2)
    table.forget(node.id, 1)
    table.released(node, 1)
    assert table.path(node) == "/file"
    table.released(node, 2)
    assert len(table) == 1


def test_noforget_keeps_what_still_has_a_name() -> None:
    """What has none cannot be found again, and goes."""
    table = NodeTable(keep=True)
    kept, removed = known(table, "/kept", "/removed")
    table.forget(kept.id, 1)
    table.removed(table.root, "removed")
    table.forget(removed.id, 1)
    assert table.by_id == {1: table.root, kept.id: kept}
    assert table.find("/kept") is kept


def test_noforget_drops_what_was_replaced() -> None:
    """A forgotten node that loses its name has nothing left."""
    table = NodeTable(keep=True)
    old = table.looked_up(table.root, "file", (1, 1), 1)
    table.forget(old.id, 1)
    new = table.looked_up(table.root, "file", (1, 2), 1)
    assert table.by_id == {1: table.root, new.id: new}


def test_threads_lose_no_lookup() -> None:
    """What several threads look up and forget at the same time adds up."""
    table = NodeTable()
    barrier = threading.Barrier(4)

    def work() -> None:
        barrier.wait()
        for _ in range(500):
            node = table.looked_up(table.root, "file", None, 1)
            table.forget(node.id, 1)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert len(table) == 1


# Names and paths


def test_renaming_a_directory_moves_all_below() -> None:
    """Also what has just been asked for its path."""
    table = NodeTable()
    _, b, c = known(table, "/a", "/a/b", "/a/b/c")
    assert table.path(c) == "/a/b/c"
    table.renamed(table.root, "a", table.root, "z", exchange=False)
    assert (table.path(b), table.path(c)) == ("/z/b", "/z/b/c")
    assert table.prefix(c) == "/z/b/c/"
    assert table.moves == 1


def test_a_path_that_is_built_during_a_rename_is_not_kept() -> None:
    """Also of an empty directory, whose rename changes no other path."""
    table = NodeTable()
    (directory,) = known(table, "/old")

    class Renaming(str):
        """A name that changes when it is read."""

        def __format__(self, specification: str) -> str:
            table.renamed(table.root, "old", table.root, "new", exchange=False)
            return str(self)

    directory.place = table.root, Renaming("old")
    assert table.prefix(directory) == "/old/"  # who asked looks again: `moves`
    assert table.prefix(directory) == "/new/"


def test_a_path_may_be_as_deep_as_it_likes() -> None:
    """It is built, anew after a rename at its top, and what is above it dropped with it."""
    table = NodeTable()
    node = table.root
    for _ in range(5000):
        node = table.looked_up(node, "d", None, 0)
    assert table.prefix(node) == "/" + "d/" * 5000
    table.renamed(table.root, "d", table.root, "e", exchange=False)
    assert table.prefix(node) == "/e/" + "d/" * 4999
    for other in list(table.by_id.values()):
        if other is not node:
            table.forget(other.id, 1)
    assert len(table) == 5001
    table.forget(node.id, 1)
    assert len(table) == 1


def test_a_name_is_taken_whole() -> None:
    """A path that is built while a file moves is the old one or the new one, never a part of each."""
    table = NodeTable()
    a, b = known(table, "/a", "/b")
    node = table.looked_up(a, "x", None, 1)
    seen: Set[Optional[str]] = set()
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            seen.add(table.path(node))

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread = threading.Thread(target=look)
    thread.start()
    try:
        for _ in range(2000):
            table.renamed(a, "x", b, "y", exchange=False)
            table.renamed(b, "y", a, "x", exchange=False)
    finally:
        done.set()
        thread.join()
        sys.setswitchinterval(before)
    assert seen <= {"/a/x", "/b/y", None}


def test_what_was_found_during_a_rename_is_not_taken_for_the_file_that_comes() -> None:
    """Not while it is under way, and not when it has ended since the filesystem was asked."""
    table = NodeTable()
    old = table.looked_up(table.root, "old", (1, 7), 1)
    new = table.looked_up(table.root, "new", (1, 8), 1)
    since = table.root.renames
    with table.moving((table.root, "old"), (table.root, "new")):
        with pytest.raises(nodes.Moved):
            table.looked_up(table.root, "new", (1, 8), 1, since)
        assert table.looked_up(table.root, "other", (1, 9), 1, since).lookups == 1
        table.renamed(table.root, "old", table.root, "new", exchange=False)
    with pytest.raises(nodes.Moved):
        table.looked_up(table.root, "new", (1, 8), 1, since)
    assert table.child(table.root, "new") is old
    assert new.place is None
    assert table.looked_up(table.root, "new", (1, 7), 1, table.root.renames) is old


def test_the_name_looked_up_last_is_the_one_that_is_used() -> None:
    """The kernel asks for a file by a name that it has just looked up; the others may have gone meanwhile."""
    table = NodeTable()
    for name in ("one", "two", "three"):
        node = table.looked_up(table.root, name, (1, 7), 3)
        assert table.path(node) == f"/{name}"
    table.looked_up(table.root, "one", (1, 7), 3)
    assert table.path(node) == "/one"
    assert table.lost(table.root, "one")
    assert table.path(node) in ("/two", "/three")
    assert table.lost(table.root, "two")
    assert not table.lost(table.root, "three")  # the last one stays, whatever it leads to
    assert table.path(node) == "/three"


def test_who_waits_for_a_rename_goes_on_with_its_end() -> None:
    """Told by it, not by the clock, which is there for renames that hang."""
    table = NodeTable()
    assert not table.settle()
    ends: List[float] = []

    def settle() -> None:
        assert table.settle()
        ends.append(time.monotonic())

    with table.moving():
        threads = [threading.Thread(target=settle) for _ in range(3)]
        for thread in threads:
            thread.start()
        while table.waiting < len(threads):
            time.sleep(0.001)
        with table.moving():  # of a later one nobody waits for the end
            pass
        assert not ends
        end = time.monotonic()
    for thread in threads:
        thread.join()
    assert len(ends) == len(threads)
    assert max(ends) - end < 0.9
    assert table.waiting == 0


def test_renaming_over_a_name_takes_it_away() -> None:
    """The node that had it has no path any more."""
    table = NodeTable()
    source, target = known(table, "/source", "/target")
    table.renamed(table.root, "source", table.root, "target", exchange=False)
    assert table.path(source) == "/target"
    assert table.path(target) is None


def test_an_exchange_lets_both_change_places() -> None:
    """With all that is below either."""
    table = NodeTable()
    *_, in_a, in_b = known(table, "/a", "/b", "/a/d", "/b/d", "/a/d/x", "/b/d/y")
    assert (table.path(in_a), table.path(in_b)) == ("/a/d/x", "/b/d/y")
    table.renamed(table.root, "a", table.root, "b", exchange=True)
    assert (table.path(in_a), table.path(in_b)) == ("/b/d/x", "/a/d/y")


def test_an_exchange_with_a_name_that_is_not_known() -> None:
    """What is known moves, with all that is below."""
    table = NodeTable()
    *_, below = known(table, "/b", "/b/d", "/b/d/x")
    assert table.path(below) == "/b/d/x"
    table.renamed(table.root, "a", table.root, "b", exchange=True)
    assert table.path(below) == "/a/d/x"


def test_what_is_below_a_directory_without_a_name_has_no_path() -> None:
    """A path that was right before would lead to something else."""
    table = NodeTable()
    *_, below = known(table, "/a", "/a/b", "/a/b/c")
    assert table.path(below) == "/a/b/c"
    table.removed(table.root, "a")
    assert table.path(below) is None
    assert table.find("/a/b/c") is None


def test_what_is_below_a_replaced_directory_has_no_path() -> None:
    """Someone put another directory in its place; use_ino tells that from the old one."""
    table = NodeTable()
    a = table.looked_up(table.root, "a", (1, 10), DIRECTORY)
    b = table.looked_up(a, "b", (1, 11), DIRECTORY)
    c = table.looked_up(b, "c", (1, 12), 1)
    assert table.path(c) == "/a/b/c"
    assert table.looked_up(table.root, "a", (1, 20), DIRECTORY) is not a
    assert table.path(c) is None


def test_hard_links_are_one_node() -> None:
    """It has a path as long as it has a name."""
    table = NodeTable()
    node = table.looked_up(table.root, "one", (1, 10), 2)
    assert table.looked_up(table.root, "two", (1, 10), 2) is node
    assert node.lookups == 2
    table.removed(table.root, "one")
    assert table.path(node) == "/two"
    table.removed(table.root, "two")
    assert table.path(node) is None
    table.forget(node.id, 2)
    assert len(table) == 1


def test_renaming_one_hard_link_over_another_does_nothing() -> None:
    """rename(2): "if oldpath and newpath are existing hard links referring to the same file"."""
    table = NodeTable()
    node = table.looked_up(table.root, "one", (1, 10), 2)
    table.looked_up(table.root, "two", (1, 10), 2)
    table.renamed(table.root, "one", table.root, "two", exchange=False)
    assert table.find("/one") is node
    assert table.find("/two") is node


def test_a_file_that_was_renamed_outside() -> None:
    """It is found under a new name with one link: the old name was not its any more."""
    table = NodeTable()
    old = table.looked_up(table.root, "old", (1, 10), 1)
    new = table.looked_up(table.root, "new", (1, 10), 1)
    assert new is not old
    assert table.path(new) == "/new"
    assert table.path(old) is None


def test_an_open_file_that_was_renamed_outside_stays_the_same() -> None:
    """Its inode number cannot have been used again."""
    table = NodeTable()
    node = table.looked_up(table.root, "old", (1, 10), 1)
    table.opened(node, 1)
    assert table.looked_up(table.root, "new", (1, 10), 1) is node
    assert table.path(node) == "/new"
    assert table.find("/old") is None


def test_a_reused_inode_number_is_a_new_node() -> None:
    """The file that had it is gone; the kernel must not take one for the other."""
    table = NodeTable()
    first = table.looked_up(table.root, "first", (1, 10), 1)
    table.removed(table.root, "first")
    second = table.looked_up(table.root, "second", (1, 10), 1)
    assert second is not first
    table.looked_up(table.root, "second", (1, 11), 1)  # replaced outside
    assert table.looked_up(table.root, "third", (1, 10), 1) is not second


def test_a_reused_inode_number_of_a_directory_is_a_new_node() -> None:
    """Although what was below the old one is not forgotten yet."""
    table = NodeTable()
    old = table.looked_up(table.root, "old", (1, 10), DIRECTORY)
    below = table.looked_up(old, "below", (1, 11), 1)
    table.removed(table.root, "old")
    new = table.looked_up(table.root, "new", (1, 10), DIRECTORY)
    assert new is not old
    assert table.path(below) is None


def test_an_unlinked_open_file_keeps_its_identity() -> None:
    """Its number is in use; linkat(2) may give it a name again."""
    table = NodeTable()
    node = table.looked_up(table.root, "file", (1, 10), 1)
    table.opened(node, 1)
    table.removed(table.root, "file")
    assert table.path(node) is None
    assert table.looked_up(table.root, "again", (1, 10), 1) is node
    assert table.path(node) == "/again"


def test_a_file_without_a_name() -> None:
    """O_TMPFILE: it has a node, and is dropped when it is closed and forgotten."""
    table = NodeTable()
    node = table.anonymous((1, 10))
    table.opened(node, 1)
    assert node.lookups == 1
    assert table.path(node) is None
    table.released(node, 1)
    table.forget(node.id, 1)
    assert len(table) == 1


def test_a_directory_that_is_found_below_itself() -> None:
    """A bind mount of an ancestor. There is no path without an end, and no endless search for one."""
    table = NodeTable()
    a = table.looked_up(table.root, "a", (1, 10), DIRECTORY)
    table.opened(a, 1)
    b = table.looked_up(a, "b", (1, 11), DIRECTORY)
    again = table.looked_up(b, "again", (1, 10), DIRECTORY)
    assert table.path(a) in ("/a", None)
    assert table.path(b) in ("/a/b", None)
    assert table.path(again) in ("/a/b/again", "/a", None)


# Cost


def test_renaming_a_directory_costs_the_same_however_much_is_below() -> None:
    """And so does the first path that is asked for afterwards."""
    costs: List[Tuple[int, int]] = []
    for files in (3, 3000):
        table = NodeTable()
        known(table, "/a", "/a/b", "/z")
        leaves = known(table, *(f"/a/b/{number}" for number in range(files)))
        for leaf in leaves:
            table.path(leaf)
        target = table.find("/z")
        assert target is not None
        renaming = lines_run(
            lambda table=table, target=target: table.renamed(table.root, "a", target, "y", False),
            nodes,
        )
        asking = lines_run(lambda table=table, leaf=leaves[-1]: table.path(leaf), nodes)
        assert table.path(leaves[-1]) == f"/z/y/b/{files - 1}"
        costs.append((renaming, asking))
    assert costs[0] == costs[1]
    assert min(costs[0]) > 0


def test_a_name_costs_the_same_however_many_the_file_has() -> None:
    """ext4 gives a file 65,000; whichever of them goes, and also the one that its path is made of."""
    costs = []
    for names in (1_000, 32_000):
        table = NodeTable()
        for number in range(names):
            table.looked_up(table.root, str(number), (1, 10), links=names)

        def remove(table: NodeTable = table, names: int = names) -> None:
            for number in range(names):
                table.removed(table.root, str(number))
                table.removed(table.root, str(names - 1 - number))

        costs.append(cpu_seconds(remove) / names)
        assert table.find_file((1, 10)) is None
    assert costs[1] < 8 * costs[0]  # 32 times as much if each went through all of them


def test_an_open_costs_the_same_however_often_the_file_is_open() -> None:
    """Whichever of the open files is closed."""
    costs = []
    for opens in (1_000, 32_000):
        table = NodeTable()
        (node,) = known(table, "/a")

        def open_and_close(table: NodeTable = table, node: Node = node, opens: int = opens) -> None:
            for handle in range(opens):
                table.opened(node, handle)
            for handle in reversed(range(opens)):
                table.released(node, handle)

        costs.append(cpu_seconds(open_and_close) / opens)
        assert node.opens is None
    assert costs[1] < 8 * costs[0]


def test_a_small_table_is_not_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """FORGET costs the same however many nodes are known: only what was once large is copied."""
    copies: List[None] = []
    monkeypatch.setattr(NodeTable, "_compact", lambda table: copies.append(None))
    table = NodeTable()
    for node in known(table, *(f"/{number}" for number in range(1000))):
        table.forget(node.id, 1)
    assert len(table) == 1
    assert copies == []


@pytest.mark.parametrize(("use_ino", "directories"), [(False, 20), (True, 100)])
def test_memory_of_a_node(use_ino: bool, directories: int) -> None:
    """At most 1,000 bytes each, names of 20 letters included; it is given back after FORGET."""
    files = 1000
    table = NodeTable()
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        ids = []
        for directory in range(directories):
            file_id = (64769, 1 << 32 | directory) if use_ino else None
            parent = table.looked_up(table.root, f"directory{directory:011}", file_id, DIRECTORY)
            ids.append(parent.id)
            for file in range(files):
                inode = 1 << 33 | directory << 16 | file
                node = table.looked_up(
                    parent, f"file{file:016}", (64769, inode) if use_ino else None, 1
                )
                ids.append(node.id)
        del node, parent, file_id
        count = len(ids)
        used = tracemalloc.get_traced_memory()[0] - before - sys.getsizeof(ids)
        assert count == len(table) - 1 == directories * (files + 1)
        assert used / count <= 1000
        for number in ids:
            table.forget(number, 1)
        del ids
        gc.collect()
        left = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert len(table) == 1
    assert left < used / 20


# Against a model: the same with plain sets, nothing cached, and everything searched for


class Known:
    """What the model holds of a node: its names are pairs of the parent's Known and the name."""

    def __init__(self, file_id: Optional[FileId]) -> None:
        self.file_id = file_id
        self.names: Set[Tuple[Any, str]] = set()
        self.lookups = 0
        self.handles: Set[int] = set()

    def paths(self) -> Set[str]:
        """Return all paths that lead here."""
        return {
            path.rstrip("/") + "/" + name for parent, name in self.names for path in parent.paths()
        }

    def is_below(self, other: "Known") -> bool:
        """Tell whether `other` is this node or one above it."""
        return self is other or any(parent.is_below(other) for parent, _ in self.names)


class Root(Known):
    """The model's root."""

    def paths(self) -> Set[str]:
        return {"/"}


NAMES = st.sampled_from(["a", "b", "c"])
DIRECTORIES = range(100, 104)  # inode numbers
FILES = range(10, 16)


class TableAgainstModel(RuleBasedStateMachine):
    """Random requests, and changes that others make in the backing directory."""

    def __init__(self) -> None:
        super().__init__()
        self.table = NodeTable()
        self.root = Root(None)
        self.nodes: Dict[Known, Node] = {self.root: self.table.root}
        self.ids: Set[int] = {1}
        self.handles = 0
        self.use_ino = True

    @initialize(use_ino=st.booleans())
    def choose(self, use_ino: bool) -> None:
        """Run with file identities or with paths only."""
        self.use_ino = use_ino

    # What the model does.

    def at(self, parent: Known, name: str) -> Optional[Known]:
        return next((known for known in self.nodes if (parent, name) in known.names), None)

    def settle(self) -> None:
        """Let go of identities and nodes that nothing needs."""
        for known in self.nodes:
            if not known.names and not known.handles:
                known.file_id = None
        while True:
            needed = {parent for known in self.nodes for parent, _ in known.names} | {self.root}
            unneeded = [
                known
                for known in self.nodes
                if not known.lookups and not known.handles and known not in needed
            ]
            if not unneeded:
                return
            for known in unneeded:
                known.names.clear()
                del self.nodes[known]

    def found(self, parent: Known, name: str, file_id: Optional[FileId], links: int) -> Known:
        """Return the node that a lookup is to answer with."""
        here = self.at(parent, name)
        if here is not None and here.file_id == file_id:
            return here
        if here is not None:
            here.names.remove((parent, name))
            self.settle()
        same = [known for known in self.nodes if file_id and known.file_id == file_id]
        if same and links <= 1 and same[0].names:
            same[0].names.clear()
            if not same[0].handles:
                same[0].file_id = None
                same = []
        known = same[0] if same else Known(file_id)
        known.names.add((parent, name))
        return known

    # What happens.

    def directories(self) -> List[Known]:
        """Return the directories that a request may be about."""
        return [
            known
            for known in self.nodes
            if known.paths()
            and (known.lookups or known is self.root)  # the kernel names no other
            and (not known.file_id or known.file_id[1] in DIRECTORIES)
        ]

    def draw_place(self, data: Any) -> Tuple[Known, str]:
        return data.draw(st.sampled_from(self.directories())), data.draw(NAMES)

    @rule(data=st.data())
    def look_up(self, data: Any) -> None:
        """A name is found: by LOOKUP, or because it was made, or is another's new link."""
        parent, name = self.draw_place(data)
        number = data.draw(st.sampled_from([*DIRECTORIES, *FILES]))
        links = DIRECTORY if number in DIRECTORIES else data.draw(st.sampled_from([1, 2]))
        file_id = (1, number) if self.use_ino else None
        same = [known for known in self.nodes if file_id and known.file_id == file_id]
        if same and parent.is_below(same[0]):
            return  # only with a bind mount, which has a test of its own
        model = self.found(parent, name, file_id, links)
        node = self.table.looked_up(self.nodes[parent], name, file_id, links)
        if model in self.nodes:
            assert node is self.nodes[model]
        else:
            assert node.id not in self.ids
            self.ids.add(node.id)
            self.nodes[model] = node
        model.lookups += 1
        self.settle()

    @rule(data=st.data())
    def remove(self, data: Any) -> None:
        """UNLINK or RMDIR, of something known or not."""
        parent, name = self.draw_place(data)
        known = self.at(parent, name)
        if known is not None:
            known.names.remove((parent, name))
        self.table.removed(self.nodes[parent], name)
        self.settle()

    @rule(data=st.data(), exchange=st.booleans())
    def rename(self, data: Any, exchange: bool) -> None:
        """RENAME2, of something known or not, over something known or not."""
        old, new = self.draw_place(data), self.draw_place(data)
        moved, replaced = self.at(*old), self.at(*new)
        if moved is not None and new[0].is_below(moved):
            return  # EINVAL
        if replaced is not None and old[0].is_below(replaced):
            return  # EINVAL, ENOTEMPTY
        self.table.renamed(self.nodes[old[0]], old[1], self.nodes[new[0]], new[1], exchange)
        if moved is not replaced:
            for known, place in ((moved, old), (replaced, new)):
                if known is not None:
                    known.names.remove(place)
            if moved is not None:
                moved.names.add(new)
            if replaced is not None and exchange:
                replaced.names.add(old)
        self.settle()

    @precondition(lambda self: len(self.nodes) > 1)
    @rule(data=st.data())
    def open(self, data: Any) -> None:
        """OPEN or OPENDIR."""
        known = data.draw(st.sampled_from(list(self.nodes)))
        self.handles += 1
        known.handles.add(self.handles)
        self.table.opened(self.nodes[known], self.handles)

    @precondition(lambda self: any(known.handles for known in self.nodes))
    @rule(data=st.data())
    def release(self, data: Any) -> None:
        """RELEASE or RELEASEDIR."""
        known = data.draw(st.sampled_from([known for known in self.nodes if known.handles]))
        handle = known.handles.pop()
        self.table.released(self.nodes[known], handle)
        self.settle()

    @precondition(lambda self: any(known.lookups for known in self.nodes))
    @rule(data=st.data())
    def forget(self, data: Any) -> None:
        """FORGET of some of a node's lookups, or all."""
        known = data.draw(st.sampled_from([known for known in self.nodes if known.lookups]))
        count = data.draw(st.integers(1, known.lookups))
        known.lookups -= count
        self.table.forget(self.nodes[known].id, count)
        self.settle()

    # What must be true at any time.

    @invariant()
    def the_same_nodes_are_known(self) -> None:
        """All that is needed, and nothing else."""
        assert self.table.by_id == {node.id: node for node in self.nodes.values()}
        for known, node in self.nodes.items():
            assert known is self.root or node.lookups == known.lookups

    @invariant()
    def paths_are_right(self) -> None:
        """A node has one of the paths that lead to it, and each of them leads to it."""
        for known, node in self.nodes.items():
            paths = known.paths()
            path = self.table.path(node)
            assert path in paths if paths else path is None
            for path in paths:
                assert self.table.find(path) is node

    def teardown(self) -> None:
        """After the last release and FORGET only the root is left."""
        for known, node in list(self.nodes.items()):
            for handle in known.handles:
                self.table.released(node, handle)
        for known, node in list(self.nodes.items()):
            if known is not self.root:
                self.table.forget(node.id, known.lookups)
        assert self.table.by_id == {1: self.table.root}


TestTableAgainstModel = TableAgainstModel.TestCase
TestTableAgainstModel.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
