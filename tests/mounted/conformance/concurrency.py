"""Several processes at a time in one directory."""

import os
from contextlib import ExitStack

from .descriptors import opened
from .expectations import eventually
from .processes import Child
from .registry import stock_cannot


def _together(directory, function, count):
    """The results of function(0) to function(count - 1), run at the same time."""

    def start(number):
        assert eventually(lambda: os.access(str(directory / "start"), os.F_OK))
        return function(number)

    with ExitStack() as stack:
        children = [
            stack.enter_context(Child(lambda number=number: start(number)))
            for number in range(count)
        ]
        (directory / "start").write_bytes(b"")
        results = [child.result() for child in children]
    (directory / "start").unlink()
    return results


def _won(function, *arguments):
    try:
        function(*arguments)
    except FileExistsError:
        return False
    return True


def one_process_wins_an_exclusive_creation(mount, backing):
    """O_EXCL makes a lock file, over and over again."""
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
    for _ in range(5):
        results = _together(mount, lambda _: _won(os.open, str(mount / "lock"), flags), 6)
        assert results.count(True) == 1
        (mount / "lock").unlink()
    assert os.listdir(str(backing)) == []


def one_process_wins_a_mkdir(mount, backing):
    """mkdir makes a lock too."""
    results = _together(mount, lambda _: _won(os.mkdir, str(mount / "lock")), 6)
    assert results.count(True) == 1


def one_process_wins_a_link(mount, backing):
    """link makes a lock even over NFS, and here."""

    def link(number):
        (mount / f"own{number}").write_bytes(b"")
        return _won(os.link, str(mount / f"own{number}"), str(mount / "lock"))

    assert _together(mount, link, 6).count(True) == 1
    assert (backing / "lock").stat().st_nlink == 2


def appends_of_several_processes_are_all_there(mount, backing):
    """No line is lost or torn."""

    def append(number):
        with opened(str(mount / "log"), os.O_CREAT | os.O_WRONLY | os.O_APPEND) as descriptor:
            for line in range(100):
                os.write(descriptor, b"process %d line %03d\n" % (number, line))

    _together(mount, append, 4)
    expected = sorted(
        b"process %d line %03d" % (number, line) for number in range(4) for line in range(100)
    )
    assert sorted((backing / "log").read_bytes().splitlines()) == expected


def writers_of_different_parts_do_not_disturb_each_other(mount, backing):
    """Each has its own region, none of them at a page's border."""
    size = 50001

    def write(number):
        with opened(str(mount / "file"), os.O_RDWR) as descriptor:
            for start in range(0, size, 997):
                data = bytes([65 + number]) * min(997, size - start)
                os.pwrite(descriptor, data, number * size + start)

    (mount / "file").write_bytes(b"\0" * (4 * size))
    _together(mount, write, 4)
    expected = b"".join(bytes([65 + number]) * size for number in range(4))
    assert (backing / "file").read_bytes() == expected
    assert (mount / "file").read_bytes() == expected


def a_replaced_file_is_always_complete(mount, backing):
    """Who reads while others rename over the name finds one of the versions and no mixture."""
    _replace_and_read(mount, backing, lambda: eventually((mount / "file").exists))


@stock_cannot("libfuse 2.9 opens by a path that is gone when a file is replaced after its lookup")
def a_replaced_file_is_always_there(mount, backing):
    """Who opens while others rename over the name never finds it missing (rename(2))."""

    def missing():
        raise AssertionError("the name was not there")

    _replace_and_read(mount, backing, missing)


def _replace_and_read(mount, backing, when_missing):
    """Two processes replace the file until a third has read it often enough."""
    versions = [bytes([65 + number]) * (1000 + number * 3000) for number in range(3)]
    (mount / "file").write_bytes(versions[0])

    def read():
        try:
            for _ in range(400):
                try:
                    found = (mount / "file").read_bytes()
                except FileNotFoundError:
                    when_missing()
                    continue
                assert found in versions
        finally:
            (backing / "enough").write_bytes(b"")

    def replace(number):
        while not (backing / "enough").exists():
            (mount / f"new{number}").write_bytes(versions[number])
            (mount / f"new{number}").rename(mount / "file")

    _together(mount, lambda number: read() if number == 0 else replace(number), 3)
    assert (backing / "file").read_bytes() in versions
    assert sorted(os.listdir(str(backing))) == ["enough", "file"]


def many_processes_work_in_one_directory(mount, backing):
    """Each creates, writes, reads, renames and removes its own files."""

    def work(number):
        for turn in range(30):
            path = mount / f"file-{number}-{turn}"
            path.write_bytes(b"%d" % turn)
            assert path.read_bytes() == b"%d" % turn
            path.rename(mount / f"renamed-{number}-{turn}")
            if turn % 3:
                (mount / f"renamed-{number}-{turn}").unlink()

    _together(mount, work, 4)
    expected = sorted(f"renamed-{number}-{turn}" for number in range(4) for turn in range(0, 30, 3))
    assert sorted(os.listdir(str(mount))) == expected
    assert sorted(os.listdir(str(backing))) == expected


def directories_are_made_and_removed_at_a_time(mount, backing):
    """makedirs of overlapping trees succeeds for all."""

    def work(number):
        for turn in range(10):
            os.makedirs(str(mount / f"{turn}" / "shared" / f"{number}"), exist_ok=True)

    _together(mount, work, 4)
    for turn in range(10):
        found = sorted(os.listdir(str(backing / f"{turn}" / "shared")))
        assert found == ["0", "1", "2", "3"]


def renames_of_directories_and_work_below_go_together(mount, backing):
    """Files made through an open directory arrive while its name changes."""
    (mount / "name0" / "sub").mkdir(parents=True)

    def work(number):
        if number == 0:
            for turn in range(50):
                (mount / f"name{turn % 2}").rename(mount / f"name{(turn + 1) % 2}")
            return
        for turn in range(50):
            name = f"file-{number}-{turn}"
            with opened(name, os.O_CREAT | os.O_WRONLY, dir_fd=below) as descriptor:
                os.write(descriptor, b"content")

    with opened(str(mount / "name0" / "sub"), os.O_RDONLY | os.O_DIRECTORY) as below:
        _together(mount, work, 3)
    names = os.listdir(str(backing / "name0" / "sub"))
    assert sorted(names) == sorted(f"file-{n}-{turn}" for n in (1, 2) for turn in range(50))
    assert {(backing / "name0" / "sub" / name).stat().st_size for name in names} == {7}
