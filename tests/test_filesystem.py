"""fusepy_legacy.filesystem: what all filesystems share, as far as it needs no mount."""

import contextlib
import errno
import logging
import logging.handlers
import os
import resource
import signal
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusepy_legacy import Filesystem, MountError, Passthrough, filesystem
from fusepy_legacy.binding import fuse
from fusepy_legacy.errors import (
    EXIT_FAILED,
    EXIT_FUSE,
    EXIT_INTERRUPTED,
    EXIT_MOUNTPOINT,
    EXIT_ROOT,
    EXIT_USAGE,
)
from fusepy_legacy.filesystem import Guard, check_device, check_mountpoint, start_logging
from fusepy_legacy.kernel.options import MountArguments, OptionValue, parse_options
from tests.children import in_child

Engine = Callable[..., None]


def arguments(mountpoint: object = "/mnt", **options: OptionValue) -> MountArguments:
    """Return a command line for a foreground mount, taken apart."""
    return MountArguments(str(mountpoint), True, False, False, options)


@pytest.fixture(autouse=True)
def _untouched_process() -> Iterator[None]:
    """What a filesystem sets for its process is put back: log level, signals, umask."""
    package = logging.getLogger("fusepy_legacy")
    level = package.level
    handler = signal.getsignal(signal.SIGINT)
    umask = os.umask(0o22)
    os.umask(umask)
    yield
    os.umask(umask)
    package.setLevel(level)
    assert signal.getsignal(signal.SIGINT) == handler


# The command line


@pytest.mark.parametrize(
    "word", ["engine", "engine=", "root", "relative_symlinks=no", "one_file_system="]
)
def test_an_option_has_a_value_or_none(word: str, capsys: pytest.CaptureFixture) -> None:
    """One that is left out, or is one too many, would be ignored: it is refused, in one line."""
    assert Passthrough().run(["/mnt", "-f", "-o", word]) == 1
    assert f"-o {word.partition('=')[0]} " in capsys.readouterr().err


@pytest.mark.parametrize("value", ["/a=b", "=", "a b==c=", "key=value=more"])
def test_a_value_may_contain_equals_signs(value: str) -> None:
    """Both of an option of the filesystem's own, and of one for the engine."""
    filesystem = Passthrough()
    filesystem.parse(["/mnt", f"-oroot={value},ro", "-o", f"fsname={value}"], values=filesystem)
    assert filesystem.root == value
    given = filesystem.fuse_args.assemble()
    assert parse_options(given[-1][len("-o") :]) == {"ro": True, "fsname": value}


@pytest.mark.parametrize(
    ("written", "value"), [(r"/a\,b", "/a,b"), (r"/a\\", "/a" + chr(92)), ("/a,", "/a")]
)
def test_a_backslash_takes_a_comma_into_a_value(written: str, value: str) -> None:
    """Both of an option of the filesystem's own, and of one for the engine."""
    filesystem = Passthrough()
    filesystem.parse(["/mnt", "-o", f"root={written},ro,fsname={written}"], values=filesystem)
    assert filesystem.root == value
    given = filesystem.fuse_args.assemble()
    assert parse_options(given[-1][len("-o") :]) == {"ro": True, "fsname": value}


def test_a_mirror_opens_as_many_files_as_it_may() -> None:
    """Not only as many as one program usually opens."""

    def check() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 2000))
        Passthrough().fsinit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (2000, 2000)

    in_child(check)


# Guard: exceptions become negative errnos


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EDQUOT, errno.ENOSPC, errno.EIO])
def test_an_oserror_answers_its_errno(number: int, caplog: pytest.LogCaptureFixture) -> None:
    """And is not logged: it is an answer."""

    def fail() -> None:
        raise OSError(number, "reason")

    assert Guard("read", fail)() == -number
    assert caplog.records == []


@pytest.mark.parametrize("error", [OSError(), OSError("reason")])
def test_an_oserror_without_errno_answers_eio(error: OSError) -> None:
    """Such as programs raise by hand."""

    def fail() -> None:
        raise error

    assert Guard("read", fail)() == -errno.EIO


@pytest.mark.parametrize("kind", [ValueError, KeyError, AttributeError, ZeroDivisionError])
def test_any_other_exception_answers_eio_and_is_logged_with_its_traceback(
    kind: type, caplog: pytest.LogCaptureFixture
) -> None:
    """One record, which names the handler."""

    def fail_here() -> None:
        raise kind("reason")

    assert Guard("read", fail_here)() == -errno.EIO
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "read" in record.getMessage()
    assert "fail_here" in caplog.text
    assert kind.__name__ in caplog.text


def test_a_guard_hands_on_arguments_and_answers() -> None:
    """Positional and by name; any answer, None and negative errnos among them."""

    def handler(*positional: Any, **named: Any) -> Tuple[Any, Any]:
        return positional, named

    assert Guard("read", handler)(1, 2, three=3) == ((1, 2), {"three": 3})
    for answer in (None, 0, -errno.ENOSYS, b"data"):
        assert Guard("read", lambda answer=answer: answer)() == answer


# Bound classes, and the start, with an engine that mounts nothing


class NoteFile:
    """A file object that keeps what it was made with."""

    def __init__(self, path: str, flags: int, *mode: int) -> None:
        self.made_with = (path, flags, *mode)

    def read(self, length: int, offset: int) -> bytes:
        return b"x" * length


class NoteDirectory:
    """A directory object."""

    def __init__(self, path: str) -> None:
        self.path = path

    def readdir(self, offset: int) -> Iterator[Any]:
        yield fuse.Direntry(".")


class Notes(Filesystem):
    """A filesystem of NoteFiles, on the stock engine."""

    engine = "stock"
    file_class = NoteFile
    dir_class = NoteDirectory


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Filesystem, Engine], int]:
    """Run a filesystem in the foreground, with a function in the place of the stock engine's `main`."""

    def run(started: Filesystem, engine: Engine) -> int:
        monkeypatch.setattr(fuse, "main", engine)
        monkeypatch.setattr(filesystem, "check_device", lambda: None)
        return started.run([str(tmp_path), "-f"])

    return run


def test_file_objects_reach_their_filesystem(
    start: Callable[[Filesystem, Engine], int],
) -> None:
    """`open`, `create` and `opendir` make objects of the declared classes with `filesystem`."""
    made: List[Any] = []

    def engine(**callbacks: Any) -> None:
        made.append(callbacks["open"]("/file", os.O_RDONLY)[0])
        made.append(callbacks["create"]("/file", os.O_RDWR, 0o644)[0])
        made.append(callbacks["opendir"]("/"))
        assert callbacks["read"]("/file", 3, 0, made[0]) == b"xxx"

    notes = Notes()
    assert start(notes, engine) == 0
    assert [type(thing).__name__ for thing in made] == ["NoteFile", "NoteFile", "NoteDirectory"]
    assert [thing.filesystem for thing in made] == [notes] * 3
    assert made[0].made_with == ("/file", os.O_RDONLY)
    assert made[1].made_with == ("/file", os.O_RDWR, 0o644)
    assert isinstance(made[0], NoteFile)
    assert isinstance(made[2], NoteDirectory)


def test_a_bound_class_looks_like_its_original() -> None:
    """Name, module, docstring and the way to it are kept, for tracebacks and logs."""
    notes = Notes()
    bound = notes._bound(NoteFile)
    assert issubclass(bound, NoteFile)
    for attribute in ("__name__", "__qualname__", "__module__", "__doc__"):
        assert getattr(bound, attribute) == getattr(NoteFile, attribute)


def test_binding_leaves_the_original_alone() -> None:
    """Two filesystems may share a class; each one's objects reach their own."""
    one, two = Notes(), Notes()
    first, second = one._bound(NoteFile)("/", 0), two._bound(NoteFile)("/", 0)
    assert (first.filesystem, second.filesystem) == (one, two)
    assert not hasattr(NoteFile, "filesystem")
    assert Notes.file_class is NoteFile


def test_an_object_may_use_its_filesystem_while_it_is_made() -> None:
    """In `__init__`, and through super()."""

    class Parent:
        def __init__(self, path: str, flags: int) -> None:
            self.seen = self.filesystem  # type: ignore[attr-defined]

    class Child(Parent):
        __slots__ = ()

        def __init__(self, path: str, flags: int) -> None:
            super().__init__(path, flags)

    notes = Notes()
    assert notes._bound(Child)("/", 0).seen is notes


def test_the_engine_gets_mount_point_and_options(
    start: Callable[[Filesystem, Engine], int], tmp_path: Path
) -> None:
    """In the foreground, as the forking is done; with the name of the program as the type."""
    words: List[str] = []

    def engine(fuse_args: List[str], **callbacks: Any) -> None:
        words.extend(fuse_args)

    start(Notes(prog="notes"), engine)
    assert words[1:4] == [str(tmp_path), "-f", "-o"]
    assert parse_options(words[4])["subtype"] == "notes"


@pytest.mark.parametrize(
    ("given_options", "implied"),
    [
        ({}, {"subtype": "notes"}),
        ({"allow_other": True}, {"default_permissions": True}),
        ({"allow_root": True}, {"default_permissions": True}),
        ({"subtype": "mine"}, {"subtype": "mine"}),
    ],
)
def test_options_imply_others(
    given_options: Dict[str, OptionValue], implied: Dict[str, OptionValue]
) -> None:
    """With other users let in, the kernel checks permissions; the arguments given are not changed."""
    before = arguments(**given_options)
    after = Notes(prog="notes").prepare(before).options
    assert before.options == given_options
    assert after == {"subtype": "notes", **given_options, **implied}


names = st.sampled_from(["fsname", "subtype"])
values = st.text(min_size=1, max_size=20).filter(lambda value: "\0" not in value)


@given(st.dictionaries(names, values))
def test_option_values_reach_the_engine_whole(options: Dict[str, OptionValue]) -> None:
    """Commas and backslashes in them are escaped as libfuse reads them."""
    *_, switch, text = filesystem._stock_arguments(arguments(ro=True, **options))
    assert switch == "-o"
    assert parse_options(text) == dict(options, ro=True, big_writes=True)


def test_an_engine_that_cannot_mount_is_one_line(
    start: Callable[[Filesystem, Engine], int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """fuse.FuseError becomes an exit code and a line with the mount point."""

    def engine(**callbacks: Any) -> None:
        raise fuse.FuseError("reason")

    assert start(Notes(prog="notes"), engine) == EXIT_FUSE
    assert capsys.readouterr().err == f"notes: cannot mount {tmp_path}: reason\n"


# fsinit


class Starting(Notes):
    """A filesystem whose fsinit does what it is told."""

    def __init__(self, result: object) -> None:
        super().__init__(prog="starting")
        self.result = result
        self.started = 0

    def fsinit(self) -> object:
        self.started += 1
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> List[Tuple[int, int]]:
    """The signals that were sent, and were not."""
    sent: List[Tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    return sent


def starting_engine(fsinit: Callable[[], object], **callbacks: Any) -> None:
    """Stand in for an engine that starts the filesystem, and ends."""
    fsinit()


@pytest.mark.parametrize("result", [None, 0, 5])
def test_fsinit_is_called_by_the_engine(
    start: Callable[[Filesystem, Engine], int], killed: List[Tuple[int, int]], result: object
) -> None:
    """Once; what it returns is no error unless it is negative."""
    starting = Starting(result)
    assert start(starting, starting_engine) == 0
    assert starting.started == 1
    assert killed == []


@pytest.mark.parametrize(
    ("result", "line"),
    [
        (OSError(errno.ENOENT, "No such file", "/x"), "[Errno 2] No such file: '/x'"),
        (OSError("by hand"), "OSError: by hand"),
        (ValueError("reason"), "ValueError: reason"),
        (ValueError("first\nsecond"), "ValueError: first second"),
        (-errno.EACCES, "[Errno 13] Permission denied"),
        (SystemExit(3), "SystemExit: 3"),
    ],
)
def test_a_failure_of_fsinit_ends_the_mount(
    start: Callable[[Filesystem, Engine], int],
    killed: List[Tuple[int, int]],
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    result: object,
    line: str,
) -> None:
    """The engine is told to stop; the reason is one line and an exit code.

    What is no OSError has a traceback in the log too: somebody has to mend the program.
    """
    assert start(Starting(result), starting_engine) == EXIT_FAILED
    assert killed == [(os.getpid(), signal.SIGTERM)]
    expected = f"starting: the filesystem failed to start: {line}"
    assert capsys.readouterr().err.splitlines() == [expected]
    said_all = isinstance(result, (int, OSError))
    assert any(record.exc_info for record in caplog.records) == (not said_all)


def test_the_starter_learns_of_the_start_only_when_it_worked(
    killed: List[Tuple[int, int]],
) -> None:
    """`daemon.ready` is called after a good fsinit, and not after a bad one."""
    ready: List[int] = []

    class Waiting:
        def ready(self) -> None:
            ready.append(1)

    Starting(None)._starter(Waiting())()  # type: ignore[arg-type]
    assert ready == [1]
    Starting(ValueError())._starter(Waiting())()  # type: ignore[arg-type]
    assert ready == [1]


# Errors that a user can make


def test_mount_error_is_one_line_with_an_exit_code() -> None:
    """Whatever the message was made from, such as a path with a newline in it."""
    error = MountError("mount point a\nb: reason", 10)
    assert len(str(error).splitlines()) == 1
    assert error.exit_code == 10
    assert str(MountError("plain", 1)) == "plain"


def raises_mount_error(code: int, *parts: str) -> "contextlib.AbstractContextManager[object]":
    """Expect a MountError with this exit code and these parts in its one line."""

    @contextlib.contextmanager
    def expecting() -> Iterator[None]:
        with pytest.raises(MountError) as caught:
            yield
        assert caught.value.exit_code == code
        assert len(str(caught.value).splitlines()) == 1
        for part in parts:
            assert part in str(caught.value)

    return expecting()


def test_a_good_mount_point_is_an_empty_directory(tmp_path: Path) -> None:
    """Nothing is said about it; nor about one with entries with -o nonempty."""
    check_mountpoint(arguments(tmp_path))
    (tmp_path / "entry").touch()
    check_mountpoint(arguments(tmp_path, nonempty=True))


def test_bad_mount_points_are_named_with_the_reason(tmp_path: Path) -> None:
    """None given, missing, no directory, not empty."""
    with raises_mount_error(EXIT_USAGE, "no mount point"):
        check_mountpoint(arguments()._replace(mountpoint=None))
    missing, file = tmp_path / "missing", tmp_path / "file"
    with raises_mount_error(EXIT_MOUNTPOINT, str(missing), "create it"):
        check_mountpoint(arguments(missing))
    file.touch()
    with raises_mount_error(EXIT_MOUNTPOINT, str(file), "not a directory"):
        check_mountpoint(arguments(file))
    with raises_mount_error(EXIT_MOUNTPOINT, str(file / "below"), "directory"):
        check_mountpoint(arguments(file / "below"))
    with raises_mount_error(EXIT_MOUNTPOINT, str(tmp_path), "-o nonempty"):
        check_mountpoint(arguments(tmp_path))


@pytest.mark.parametrize("call", ["stat", "listdir"])
@pytest.mark.parametrize(
    ("number", "advice"),
    [(errno.ENOTCONN, "fusermount -u"), (errno.EACCES, os.strerror(errno.EACCES))],
)
def test_a_dead_or_closed_mount_point_is_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int, advice: str
) -> None:
    """With "Transport endpoint is not connected", the line says how to clear it."""

    def fail(path: str) -> None:
        raise OSError(number, os.strerror(number), path)

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with raises_mount_error(EXIT_MOUNTPOINT, str(tmp_path), advice):
            check_mountpoint(arguments(tmp_path))


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOENT, "modprobe fuse"),
        (errno.ENODEV, "modprobe fuse"),
        (errno.EACCES, "may not use it"),
        (errno.EPERM, "may not use it"),
    ],
)
def test_a_machine_without_fuse_is_said_so(
    monkeypatch: pytest.MonkeyPatch, number: int, advice: str
) -> None:
    """Missing and not permitted are different things to mend."""

    def fail(path: str, flags: int) -> None:
        raise OSError(number, os.strerror(number), path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", fail)
        with raises_mount_error(EXIT_FUSE, "/dev/fuse", os.strerror(number), advice):
            check_device()


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (["{empty}"], EXIT_USAGE, "-o root=DIR"),
        (["-o", "root={empty}"], EXIT_USAGE, "no mount point"),
        (["{empty}", "-o", "root={top}/missing"], EXIT_ROOT, "{top}/missing: No such file"),
        (["{empty}", "-o", "root={top}/file"], EXIT_ROOT, "{top}/file: Not a directory"),
        (["{top}/missing", "-o", "root={empty}"], EXIT_MOUNTPOINT, "{top}/missing"),
        (["{top}/file", "-o", "root={empty}"], EXIT_MOUNTPOINT, "{top}/file"),
        (["{top}", "-o", "root={empty}"], EXIT_MOUNTPOINT, "not empty"),
        (["{empty}", "-o", "root={empty},bogus"], EXIT_USAGE, "bogus"),
        (["{empty}", "-o", "root={empty},bogus=1"], EXIT_USAGE, "bogus"),
        (["{empty}", "-o", "root={empty},ro=1"], EXIT_USAGE, "ro takes no value"),
        (["{empty}", "-o", "root={empty},uid"], EXIT_USAGE, "uid=ID"),
        (["{empty}", "-o", "root"], EXIT_USAGE, "root"),
        (["{empty}", "--bogus"], EXIT_USAGE, "--bogus"),
        (["{top}", "{empty}", "{empty}"], EXIT_USAGE, "too many"),
        (["{empty}", "-o", "root={empty},engine=steam"], EXIT_USAGE, "engine"),
        (["{empty}", "-o", "root={empty},engine=stock,spin=9"], EXIT_USAGE, "spin"),
    ],
)
@pytest.mark.parametrize("background", [True, False])
def test_what_a_user_gets_wrong_is_one_line_and_an_exit_code(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    background: bool,
    words: List[str],
    code: int,
    part: str,
) -> None:
    """No traceback, nothing mounted, and no process started, in the foreground or not."""
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()

    def filled(text: str) -> str:
        return text.format(top=tmp_path, empty=tmp_path / "empty")

    def never(*arguments: object, **named: object) -> int:
        raise AssertionError("it was started")

    monkeypatch.setattr(filesystem, "check_device", lambda: None)
    monkeypatch.setattr(fuse, "main", never)
    monkeypatch.setattr(os, "fork", never)
    line = [filled(word) for word in words] + ([] if background else ["-f"])
    assert Passthrough(prog="mirror").run(line) == code
    output, said = capsys.readouterr()
    assert output == ""
    assert len(said.splitlines()) == 1
    assert said.startswith("mirror: ")
    assert filled(part) in said


@pytest.mark.parametrize("word", ["-h", "--help"])
def test_help_is_on_stdout_and_mounts_nothing(
    word: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The filesystem's own options and the engine's, and exit code 0."""
    with contextlib.suppress(SystemExit):
        assert Passthrough(prog="mirror").run([word]) == 0
    output, said = capsys.readouterr()
    assert said == ""
    assert "root=DIR" in output
    assert "attr_timeout=SECONDS" in output


def test_version_is_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    """For a shell to read."""
    with contextlib.suppress(SystemExit):
        assert Filesystem(prog="notes", version="%prog 1.2").run(["--version"]) == 0
    assert capsys.readouterr() == ("notes 1.2\n", "")


# Logging


@contextlib.contextmanager
def unconfigured() -> Iterator[logging.Logger]:
    """The package's logger as in a program that has set up no logging; pytest has, for each test."""
    logger = logging.getLogger("fusepy_legacy")
    handlers, propagate = logger.handlers[:], logger.propagate
    logger.handlers[:], logger.propagate = [], False
    try:
        yield logger
    finally:
        for handler in logger.handlers:
            handler.close()
        logger.handlers[:], logger.propagate = handlers, propagate


@pytest.mark.parametrize(
    ("options", "expected"),
    [({}, "notes: more\n"), ({"debug": True}, "notes: less\nnotes: more\n")],
)
def test_the_foreground_logs_to_stderr(
    capsys: pytest.CaptureFixture[str], options: Dict[str, OptionValue], expected: str
) -> None:
    """Each line begins with the program; from INFO on, and all with -o debug."""
    with unconfigured():
        start_logging("notes", arguments(**options))
        logging.getLogger("fusepy_legacy.somewhere").debug("less")
        logging.getLogger("fusepy_legacy.somewhere").info("more")
    assert capsys.readouterr() == ("", expected)


def test_logging_that_was_set_up_before_is_left_alone() -> None:
    """A program's own handlers get the records, and nothing else does."""
    with unconfigured() as package:
        handler = logging.NullHandler()
        package.addHandler(handler)
        start_logging("notes", arguments())
        assert package.handlers == [handler]


@pytest.mark.parametrize("has_syslog", [True, False])
def test_the_background_logs_to_syslog(monkeypatch: pytest.MonkeyPatch, has_syslog: bool) -> None:
    """As a daemon, with its process id; to stderr where there is no syslog."""
    opened: List[Tuple[object, ...]] = []

    class Syslog(logging.NullHandler):
        LOG_DAEMON = logging.handlers.SysLogHandler.LOG_DAEMON

        def __init__(self, *where: object) -> None:
            super().__init__()
            opened.append(where)

    with unconfigured() as package:
        with monkeypatch.context() as patch:
            patch.setattr(logging.handlers, "SysLogHandler", Syslog)
            patch.setattr(os.path, "exists", lambda path: has_syslog)
            start_logging("notes", arguments()._replace(foreground=False))
        (handler,) = package.handlers
    if not has_syslog:
        assert type(handler) is logging.StreamHandler
        assert opened == []
        return
    assert opened == [("/dev/log", Syslog.LOG_DAEMON)]
    record = logging.LogRecord("fusepy_legacy", logging.INFO, "", 0, "said", (), None)
    assert handler.format(record) == f"notes[{os.getpid()}]: said"


def test_the_caller_is_who_the_engine_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """uid, gid and pid of the request."""
    notes = Notes()
    monkeypatch.setattr(fuse, "FuseGetContext", lambda _: {"uid": 1, "gid": 2, "pid": 3})
    assert notes.caller()[:3] == (1, 2, 3)


def test_ctrl_c_before_the_mount_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """At the prompt for a password, for one."""
    monkeypatch.setattr(filesystem, "check_device", lambda: None)

    class Asking(Filesystem):
        def prepare(self, arguments: MountArguments) -> MountArguments:
            raise KeyboardInterrupt

    assert Asking(prog="notes").run([str(tmp_path)]) == EXIT_INTERRUPTED
    assert capsys.readouterr() == ("", "notes: interrupted\n")
