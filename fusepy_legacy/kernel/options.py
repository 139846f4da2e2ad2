"""The mount options of libfuse 2.9 and fuse-python, each with its meaning here.

One table: the parser, `-h` and the documentation are made from it. An option that would be accepted and do
nothing is worse than a refused one, so each either means what it means there, has become the only
behaviour there is, or is refused with a reason.
"""

import contextlib
import enum
import re
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Union

OptionValue = Union[str, bool]


class Kind(enum.Enum):
    """What becomes of an option."""

    ENGINE = "for the engine"
    OWN = "for this engine only"
    MOUNT = "for the kernel, at mount"
    FLAG = "a flag of mount(2)"
    NEEDLESS = "already so"
    FSTAB = "for mount(8)"
    REFUSED = "refused"


class Option(NamedTuple):
    """One option: `value` names what follows the "=", None when nothing does."""

    name: str
    value: Optional[str]
    kind: Kind
    meaning: str


_ENGINE, _OWN, _MOUNT, _FLAG = Kind.ENGINE, Kind.OWN, Kind.MOUNT, Kind.FLAG
_NEEDLESS, _FSTAB, _REFUSED = Kind.NEEDLESS, Kind.FSTAB, Kind.REFUSED

SWITCHES = (
    ("-f", "stay in the foreground"),
    ("-d", "log each request; implies -f"),
    ("-s", "serve one request at a time"),
)

OPTIONS: Sequence[Option] = (
    # Who may use the mount, and what it is called.
    Option(
        "allow_other",
        None,
        _MOUNT,
        "let all users in; with default_permissions, but for fusepy-run",
    ),
    Option("allow_root", None, _MOUNT, "let root in beside the user who mounted"),
    Option("default_permissions", None, _MOUNT, "the kernel checks modes, owners and ACLs"),
    Option("auto_unmount", None, _MOUNT, "unmount when the serving process dies"),
    Option("nonempty", None, _MOUNT, "mount over a directory that has entries"),
    Option("fsname", "NAME", _MOUNT, "the source shown in /proc/mounts"),
    Option("subtype", "NAME", _MOUNT, "the type shown in /proc/mounts, behind fuse."),
    Option("max_read", "BYTES", _MOUNT, "the largest read request"),
    # How names and attributes are shown.
    Option("use_ino", None, _ENGINE, "show the filesystem's own inode numbers"),
    Option("readdir_ino", None, _ENGINE, "listings show inode numbers also without use_ino"),
    Option("umask", "OCTAL", _ENGINE, "show all permissions but these bits on everything"),
    Option("uid", "ID", _ENGINE, "show this owner on everything"),
    Option("gid", "ID", _ENGINE, "show this group on everything"),
    # What the kernel caches, and how long.
    Option("entry_timeout", "SECONDS", _ENGINE, "how long names stay cached [1]"),
    Option("negative_timeout", "SECONDS", _ENGINE, "how long missing names stay cached [0]"),
    Option("attr_timeout", "SECONDS", _ENGINE, "how long attributes stay cached [1]"),
    Option("ac_attr_timeout", "SECONDS", _NEEDLESS, "the kernel compares whenever it asks"),
    Option(
        "direct_io", None, _ENGINE, "no page cache: each read and write asked for, no shared mmap"
    ),
    Option("kernel_cache", None, _ENGINE, "keep cached data from one open to the next"),
    Option("auto_cache", None, _ENGINE, "keep cached data until size or mtime change"),
    Option("noauto_cache", None, _ENGINE, "empty the cache at each open (the default)"),
    Option("noforget", None, _ENGINE, "never forget a name's node; for export by NFS"),
    Option("remember", "SECONDS", _ENGINE, "like noforget, with any number but 0"),
    # What happens to an open file that is unlinked.
    Option(
        "hard_remove",
        None,
        _ENGINE,
        "unlink open files without a file object at once, not hiding them",
    ),
    # Requests.
    Option("max_write", "BYTES", _ENGINE, "the largest write request"),
    Option("max_readahead", "BYTES", _ENGINE, "how far the kernel reads ahead"),
    Option("max_background", "N", _ENGINE, "how many background requests may wait at once"),
    Option("congestion_threshold", "N", _ENGINE, "from how many on the kernel holds back"),
    Option("async_read", None, _ENGINE, "several reads of one file at once (the default)"),
    Option("sync_read", None, _ENGINE, "one read of a file at a time"),
    Option("atomic_o_trunc", None, _ENGINE, "open gets O_TRUNC, instead of a truncate before"),
    Option("no_remote_lock", None, _ENGINE, "locks stay in the kernel, unseen by the filesystem"),
    Option("no_remote_posix_lock", None, _ENGINE, "the same for fcntl locks only"),
    Option("no_remote_flock", None, _ENGINE, "the same for flock locks only"),
    Option("intr", None, _NEEDLESS, "blocking requests can be interrupted"),
    Option("intr_signal", "N", _NEEDLESS, "no signal is used for that"),
    Option("big_writes", None, _NEEDLESS, "writes are as large as the kernel sends them"),
    Option("large_read", None, _NEEDLESS, "only Linux 2.4 needed it"),
    Option("nopath", None, _NEEDLESS, "a path is always at hand"),
    Option("splice_read", None, _NEEDLESS, "hints to libfuse's own buffers"),
    Option("no_splice_read", None, _NEEDLESS, "hints to libfuse's own buffers"),
    Option("splice_write", None, _NEEDLESS, "hints to libfuse's own buffers"),
    Option("no_splice_write", None, _NEEDLESS, "hints to libfuse's own buffers"),
    Option("splice_move", None, _NEEDLESS, "hints to libfuse's own buffers"),
    Option("no_splice_move", None, _NEEDLESS, "hints to libfuse's own buffers"),
    Option(
        "modules", "LIST", _REFUSED, "libfuse's subdir and iconv modules are C libraries of its own"
    ),
    Option("subdir", "DIR", _REFUSED, "it belongs to modules="),
    Option("rellinks", None, _REFUSED, "it belongs to modules="),
    Option("norellinks", None, _REFUSED, "it belongs to modules="),
    Option("from_code", "CHARSET", _REFUSED, "it belongs to modules="),
    Option("to_code", "CHARSET", _REFUSED, "it belongs to modules="),
    Option("remount", None, _REFUSED, "mount -i -o remount,ro MOUNTPOINT does it without us"),
    Option("blkdev", None, _REFUSED, "it is for filesystems on a block device (fuseblk)"),
    # Behaviour of the process.
    Option("workers", "N", _OWN, "how many requests are served at once, 1: one by one [10]"),
    Option("spin", "MICROSECONDS", _OWN, "how long to poll for a request before sleeping [30]"),
    Option(
        "cpu_latency",
        "MICROSECONDS",
        _OWN,
        "CPUs wake this fast under load, -1: any [0 with haltpoll]",
    ),
    Option(
        "no_kernel_io", None, _OWN, "the kernel does not read, write or map the files below itself"
    ),
    Option("writeback_cache", None, _OWN, "the kernel collects writes before it sends them"),
    Option("debug", None, _ENGINE, "log each request; implies -f"),
    # mount(8): the options of every filesystem.
    Option("ro", None, _FLAG, "read-only"),
    Option("rw", None, _FLAG, "read and write (the default)"),
    Option("suid", None, _FLAG, "honour set-user-id bits (root only)"),
    Option("nosuid", None, _FLAG, "ignore set-user-id bits (the default; mount(8) adds suid)"),
    Option("dev", None, _FLAG, "honour device files (root only)"),
    Option("nodev", None, _FLAG, "ignore device files (the default; mount(8) adds dev)"),
    Option("exec", None, _FLAG, "allow execution (the default)"),
    Option("noexec", None, _FLAG, "no execution"),
    Option("sync", None, _FLAG, "write synchronously"),
    Option("async", None, _FLAG, "write asynchronously (the default)"),
    Option("dirsync", None, _FLAG, "change directories synchronously"),
    Option("atime", None, _FLAG, "update access times"),
    Option("noatime", None, _FLAG, "for the mount alone; below, reading updates them as ever"),
    # fstab(5) hands these on to the mount helper, which has nothing to do for them.
    Option("auto", None, _FSTAB, "for mount -a"),
    Option("noauto", None, _FSTAB, "for mount -a"),
    Option("defaults", None, _FSTAB, "nothing but the defaults"),
    Option("user", None, _FSTAB, "for mount(8)"),
    Option("nouser", None, _FSTAB, "for mount(8)"),
    Option("users", None, _FSTAB, "for mount(8)"),
    Option("nofail", None, _FSTAB, "for mount -a"),
    Option("_netdev", None, _FSTAB, "for mount -a"),
)


class _Number(NamedTuple):
    """What a value may be: how its text is read, and the least and the most as texts."""

    read: Callable[[str], float]
    least: str
    most: str


# By the names that the table gives to values, with the limits of their fields in linux/fuse.h; other names
# stand for text.
_NUMBERS: Dict[str, _Number] = {
    "BYTES": _Number(int, "0", "4294967295"),
    "ID": _Number(int, "0", "4294967295"),
    "MICROSECONDS": _Number(float, "-1", "2147483647"),  # int in pm_qos_interface.rst
    "N": _Number(int, "0", "65535"),
    "OCTAL": _Number(lambda text: int(text, 8), "0", "7777"),
    "SECONDS": _Number(float, "-inf", "inf"),  # as for libfuse a negative time is none
}

# What each of these takes back. Which of the two came last is not to be known: fuse-python sorts them.
_STRICTER = {
    "ro": "rw",
    "nosuid": "suid",
    "nodev": "dev",
    "noexec": "exec",
    "sync": "async",
    "noatime": "atime",
}


class OptionError(ValueError):
    """An option is unknown or refused, or has a wrong value or none; `str()` says so in one line."""


class MountArguments(NamedTuple):
    """A command line as fuse-python assembles it for the engine, taken apart.

    `options` maps each option's name to its value, or to True.
    """

    mountpoint: Optional[str]
    foreground: bool
    show_help: bool
    show_version: bool
    options: Dict[str, OptionValue]


def parse(arguments: Sequence[str]) -> MountArguments:
    """Take apart `[program, mountpoint, "-f", "-d", "-s", "-o" + options, …]`, in any order.

    Raises OptionError.
    """
    mountpoint: Optional[str] = None
    switches = set()
    options: Dict[str, OptionValue] = {}
    remaining = iter(arguments[1:])
    for argument in remaining:
        if argument in ("-ho", "-h", "--help"):
            switches.add("-h")
        elif argument in ("-f", "-d", "-s", "-V", "--version"):
            switches.add("-V" if argument == "--version" else argument)
        elif argument.startswith("-o"):
            options.update(parse_options(argument[2:] or next(remaining, "")))
        elif argument.startswith("-"):
            raise OptionError(f"unknown option: {argument}")
        elif mountpoint is None:
            mountpoint = argument
        else:
            raise OptionError(f"more than one mount point: {mountpoint} and {argument}")
    if "-d" in switches:
        options["debug"] = True
    for stricter, other in _STRICTER.items():
        if stricter in options:
            options.pop(other, None)
    return MountArguments(
        mountpoint=mountpoint,
        foreground="-f" in switches or "debug" in options,
        show_help="-h" in switches,
        show_version="-V" in switches,
        options=options,
    )


def parse_options(text: str) -> Dict[str, OptionValue]:
    """Take apart what follows -o: names and name=value, at commas; "\\," is a comma in a value.

    Raises OptionError.
    """
    options: Dict[str, OptionValue] = {}
    for item in map(unescaped, split(text)):
        name, equals, value = item.partition("=")
        if not item or name.startswith("x-"):  # "x-": comments for other programs, mount(8)
            continue
        option = find(name)
        if option is None:
            raise OptionError(f"unknown option: -o {name}")
        if option.value is not None and not value:
            raise OptionError(f"-o {name} needs a value: -o {name}={option.value}")
        if option.value is None and equals:
            raise OptionError(f"-o {name} takes no value")
        if option.value is not None:
            _check_value(option, value)
        if option.kind is not Kind.FSTAB:
            options[name] = value if equals else True
    return options


def _check_value(option: Option, value: str) -> None:
    """Raise OptionError unless a value is the kind of number that the table names."""
    kind = _NUMBERS.get(str(option.value))
    if kind is None:
        return
    with contextlib.suppress(ValueError):
        if kind.read(kind.least) <= kind.read(value) <= kind.read(kind.most):
            return
    limits = "" if kind.most == "inf" else f" from {kind.least} to {kind.most}"
    raise OptionError(f"-o {option.name}={value}: not a number{limits}")


def refuse(options: Dict[str, OptionValue]) -> None:
    """Raise OptionError when an option is one that this engine refuses."""
    for name in options:
        option = find(name)
        if option is not None and option.kind is Kind.REFUSED:
            raise OptionError(f"-o {name} is not supported: {option.meaning}")


def help_text() -> str:
    """Return the switches and the table as lines for -h."""
    lines = [f"    {switch:<26} {meaning}" for switch, meaning in SWITCHES]
    for option in OPTIONS:
        if option.kind in (Kind.ENGINE, Kind.OWN, Kind.MOUNT, Kind.FLAG):
            name = option.name if option.value is None else f"{option.name}={option.value}"
            lines.append(f"    -o {name:<23} {option.meaning}")
    return "\n".join(lines)


def documentation() -> str:
    """Return the table as the text of docs/options.md."""
    titles = {
        Kind.MOUNT: "For the kernel, when it mounts",
        Kind.ENGINE: "For the engine",
        Kind.OWN: "For the engine, and unknown to libfuse",
        Kind.FLAG: "Those of every filesystem, mount(8)",
        Kind.NEEDLESS: "Accepted, and already so",
        Kind.FSTAB: "Accepted in /etc/fstab, for mount(8)",
        Kind.REFUSED: "Refused by the kernel engine",
    }
    limits = ", ".join(
        f"`{name}` from {kind.least} to {kind.most}"
        for name, kind in _NUMBERS.items()
        if kind.most != "inf"
    )
    lines = [
        "# Mount options of the kernel engine",
        "",
        "Those of libfuse 2.9 and fuse-python, and the engine's own. What begins with `x-` is ignored.",
        "Of two that contradict each other, such as `ro` and `rw`, the stricter holds.",
        "This page is printed by `python -m fusepy_legacy.kernel.options`.",
        "",
        f"Numbers are {limits}; `SECONDS` any, where a negative one is none.",
        "",
        "| switch | meaning |",
        "|---|---|",
        *(f"| `{switch}` | {meaning} |" for switch, meaning in SWITCHES),
    ]
    for kind, title in titles.items():
        lines += ["", f"## {title}", "", "| option | meaning |", "|---|---|"]
        for option in OPTIONS:
            if option.kind is kind:
                name = option.name if option.value is None else f"{option.name}={option.value}"
                lines.append(f"| `{name}` | {option.meaning} |")
    return "\n".join(lines) + "\n"


def find(name: str) -> Optional[Option]:
    """Return the row of an option, None when there is none."""
    for option in OPTIONS:
        if option.name == name:
            return option
    return None


def split(text: str) -> List[str]:
    """Return the words of what follows -o, still with their backslashes; one before a comma keeps that in."""
    return [match.group(1) for match in re.finditer(r"((?:\\.|[^,])*)(?:,|$)", text, re.DOTALL)]


def unescaped(word: str) -> str:
    """Return a word without the backslashes that were there for what follows them."""
    return re.sub(r"\\(.?)", r"\1", word, flags=re.DOTALL)


if __name__ == "__main__":
    print(documentation(), end="")
