"""What fusepy_legacy.kernel.abi says about the FUSE protocol is what the C header says.

A small C program, compiled here, prints the facts of the installed <linux/fuse.h>. The field names
it is asked for are those in the comments of abi.py, so that these stay true as well.
"""

import inspect
import re
import shutil
import struct
import subprocess
import sys
from typing import Dict, List, NamedTuple, Tuple

import pytest

from fusepy_legacy.kernel import abi

# What came after 7.36, and with which minor version. An older header has no large struct
# fuse_init_in and is not compared with. Linux 6.2 and 6.3 both call themselves 7.38; what only the
# second has stands at 39.
OLDEST_MINOR = 36
SINCE = {
    "FUSE_TMPFILE": 37,
    "FUSE_EXPIRE_ONLY": 38,
    "FUSE_HAS_EXPIRE_ONLY": 38,
    "FUSE_MAX_NR_SECCTX": 38,
    "FOPEN_PARALLEL_DIRECT_WRITES": 38,
    "fuse_in_header.total_extlen": 38,
    "fuse_notify_inval_entry_out.flags": 38,
    "fuse_ext_header": 38,
    "FUSE_CREATE_SUPP_GROUP": 39,
    "FUSE_EXT_GROUPS": 39,
    "fuse_supp_groups": 39,
    "FUSE_STATX": 39,
    "fuse_statx": 39,
    "fuse_statx_in": 39,
    "fuse_statx_out": 39,
    "FUSE_DIRECT_IO_ALLOW_MMAP": 40,  # had another name in the first headers of 7.39
    "FUSE_PASSTHROUGH": 40,
    "FUSE_NO_EXPORT_SUPPORT": 40,
    "FUSE_HAS_RESEND": 40,
    "FUSE_UNIQUE_RESEND": 40,
    "FUSE_NOTIFY_RESEND": 40,
    "FOPEN_PASSTHROUGH": 40,
    "FUSE_DEV_IOC_BACKING_OPEN": 40,
    "FUSE_DEV_IOC_BACKING_CLOSE": 40,
    "fuse_backing_map": 40,
    "fuse_init_out.max_stack_depth": 40,
    "fuse_open_out.backing_id": 40,
    "FUSE_ALLOW_IDMAP": 41,
    "FUSE_INVALID_UIDGID": 41,
    "FUSE_OVER_IO_URING": 42,
    "FUSE_REQUEST_TIMEOUT": 43,
    "fuse_init_out.request_timeout": 43,
    "FUSE_NOTIFY_INC_EPOCH": 44,
    "FUSE_COPY_FILE_RANGE_64": 45,
    "FUSE_NOTIFY_PRUNE": 45,
    "FUSE_DEV_IOC_SYNC_INIT": 45,
    "fuse_copy_file_range_out": 45,
    "fuse_notify_prune_out": 45,
}

# Declared unsigned by C, taken as signed here; the reason is in the docstring of abi.
SIGNED = {"fuse_lseek_in.offset"} | {
    f"{place}.{time}"
    for place in (
        "fuse_attr",
        "fuse_attr_out.attr",
        "fuse_entry_out.attr",
        "fuse_direntplus.entry_out.attr",
        "fuse_setattr_in",
    )
    for time in ("atime", "mtime", "ctime")
}

NESTED = {"attr": "ATTR", "stat": "STATX", "entry_out": "ENTRY_OUT", "dirent": "DIRENT"}


class Layout(NamedTuple):
    """One Struct of abi and what the comment above it says."""

    name: str
    c_name: str
    fields: List[str]
    layout: struct.Struct
    compat_size: int  # 0: C's own size


class Field(NamedTuple):
    """Where a field lies."""

    offset: int
    size: int
    signed: bool


def read_layouts() -> Dict[str, Layout]:
    """Read the comments of abi.py: "# C name: field, field, ..." above "NAME = Struct(...)"."""
    pattern = re.compile(
        r"^# (?P<c_name>fuse_\w+)(?:, first (?P<size>\d+) bytes)?: "
        r"(?P<fields>.*(?:\n#   .*)*)\n"
        r"(?P<name>[A-Z][A-Z0-9_]*) = Struct\(",
        re.MULTILINE,
    )
    layouts = {}  # type: Dict[str, Layout]
    for match in pattern.finditer(inspect.getsource(abi)):
        fields = []  # type: List[str]
        for field in re.sub(r"\n#", "", match.group("fields")).split(","):
            name = field.strip()
            if name.endswith(".*"):
                outer = name[:-2]
                fields += [f"{outer}.{inner}" for inner in layouts[NESTED[outer]].fields]
            else:
                fields.append(name)
        name = match.group("name")
        size = int(match.group("size") or 0)
        layouts[name] = Layout(name, match.group("c_name"), fields, getattr(abi, name), size)
    return layouts


def struct_format(layout: struct.Struct) -> str:
    """Return the format as str; Python 3.6 has it as bytes."""
    text = layout.format  # type: object
    return text.decode() if isinstance(text, bytes) else str(text)


def packed_fields(layout: struct.Struct) -> List[Field]:
    """Return where each value of a Struct lies."""
    fields = []
    offset = 0
    for count, code in re.findall(r"(\d*)([a-zA-Z])", struct_format(layout)):
        size = struct.calcsize("=" + code)
        for _ in range(int(count or 1)):
            if code != "x":
                fields.append(Field(offset, size, code.islower()))
            offset += size
    return fields


def c_constant(name: str) -> str:
    """Return C's name of a constant of abi."""
    if name.startswith(("FATTR_", "FOPEN_")):
        return name
    if name.startswith("INIT_") and name != "INIT_EXT":
        return "FUSE_" + name[len("INIT_") :]
    return "FUSE_" + name


def c_opcode(opcode: abi.Opcode) -> str:
    """Return C's name of an opcode."""
    return opcode.name if opcode is abi.Opcode.CUSE_INIT else "FUSE_" + opcode.name


LAYOUTS = read_layouts()
OPCODES = {c_opcode(opcode): int(opcode) for opcode in abi.Opcode}
CONSTANTS = {
    c_constant(name): value
    for name, value in vars(abi).items()
    if name.isupper() and not name.startswith("_") and isinstance(value, int)
}
# The header in hand has its own.
del CONSTANTS["FUSE_KERNEL_MINOR_VERSION"]


class Header(NamedTuple):
    """The facts of the installed header, as far as it has them."""

    minor: int
    facts: Dict[str, Tuple[int, ...]]

    def has(self, name: str) -> bool:
        """Tell whether a constant, a structure or "structure.field" is in this version."""
        return SINCE.get(name, 0) <= self.minor


@pytest.fixture(scope="module")
def header(tmp_path_factory: pytest.TempPathFactory) -> Header:
    """Compile and run a program that prints what <linux/fuse.h> says."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    include = "#include <linux/fuse.h>\n"
    macros = subprocess.run(
        [compiler, "-E", "-dM", "-x", "c", "-"],
        input=include.encode(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    if macros.returncode != 0:
        pytest.skip("no header linux/fuse.h")
    version = re.search(rb"#define FUSE_KERNEL_MINOR_VERSION (\d+)", macros.stdout)
    assert version is not None
    found = Header(int(version.group(1)), {})
    if found.minor < OLDEST_MINOR:
        pytest.skip(f"linux/fuse.h is 7.{found.minor}, older than 7.{OLDEST_MINOR}")

    lines = []  # type: List[str]
    for name in [*OPCODES, *CONSTANTS]:
        if found.has(name):
            lines.append(f'printf("{name} %llu\\n", (unsigned long long) {name});')
    for _, c_name, fields, _, _ in LAYOUTS.values():
        if not found.has(c_name):
            continue
        lines.append(f'printf("{c_name} %zu\\n", sizeof(struct {c_name}));')
        for field in fields:
            if found.has(f"{c_name}.{field}"):
                member = f"((struct {c_name} *) 0)->{field}"
                lines.append(
                    f'printf("{c_name}.{field} %zu %zu %d\\n",'
                    f" offsetof(struct {c_name}, {field}), sizeof({member}),"
                    f" (__typeof__({member})) -1 < 0);"
                )

    directory = tmp_path_factory.mktemp("probe")
    source = directory / "probe.c"
    source.write_text(
        "#include <stddef.h>\n#include <stdio.h>\n#include <sys/ioctl.h>\n"
        + include
        + "int main(void) {\n"
        + "\n".join(lines)
        + "\nreturn 0; }\n"
    )
    program = directory / "probe"
    subprocess.run([compiler, "-w", "-o", str(program), str(source)], check=True)
    for line in subprocess.check_output([str(program)]).decode().splitlines():
        name, *numbers = line.split()
        found.facts[name] = tuple(int(number) for number in numbers)
    return found


def in_header(names: Dict[str, int], header: Header) -> Dict[str, Tuple[int, ...]]:
    """Return those of names that the header's version has, as the probe prints them."""
    return {name: (value,) for name, value in names.items() if header.has(name)}


def from_header(names: Dict[str, int], header: Header) -> Dict[str, Tuple[int, ...]]:
    """Return what the header says about names."""
    return {name: header.facts[name] for name in names if name in header.facts}


def test_opcodes_equal_the_header(header: Header) -> None:
    """Every opcode that the installed header knows has C's number."""
    assert in_header(OPCODES, header) == from_header(OPCODES, header)


def test_constants_equal_the_header(header: Header) -> None:
    """Every flag, limit, notification code and ioctl number has C's value."""
    assert in_header(CONSTANTS, header) == from_header(CONSTANTS, header)


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_layout_equals_the_header(name: str, header: Header) -> None:
    """A structure is as long as C's, and each field has C's offset, size and signedness.

    Fields that the installed header is too old for lie in its padding and are left out.
    """
    _, c_name, fields, layout, compat_size = LAYOUTS[name]
    if not header.has(c_name):
        pytest.skip(f"linux/fuse.h is 7.{header.minor}, {c_name} is of 7.{SINCE[c_name]}")
    assert (compat_size or header.facts[c_name][0]) == layout.size
    ours = {}
    expected = {}
    for field, place in zip(fields, packed_fields(layout)):
        full_name = f"{c_name}.{field}"
        if header.has(full_name):
            offset, size, signed = header.facts[full_name]
            ours[field] = place
            expected[field] = Field(offset, size, bool(signed) or full_name in SIGNED)
    assert ours == expected


def test_every_structure_is_documented() -> None:
    """Each Struct has a comment that names as many fields as it packs."""
    structs = {name for name, value in vars(abi).items() if isinstance(value, struct.Struct)}
    assert structs == set(LAYOUTS)
    for name, _, fields, layout, _ in LAYOUTS.values():
        assert (name, len(fields)) == (name, len(packed_fields(layout)))


def test_version_table_holds_no_strangers() -> None:
    """Each entry of SINCE, which keeps it from being compared, names something in abi."""
    known = {*OPCODES, *CONSTANTS}
    for layout in LAYOUTS.values():
        known |= {layout.c_name} | {f"{layout.c_name}.{field}" for field in layout.fields}
    assert set(SINCE) - known == set()


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        (abi.InitIn._fields, "INIT_IN"),
        (abi.InitOut._fields, "INIT_OUT"),
        (abi.SetattrIn._fields, "SETATTR_IN"),
        (abi.LockIn._fields, "LK_IN"),
        (abi.IoctlIn._fields, "IOCTL_IN"),
        (abi.CopyFileRangeIn._fields, "COPY_FILE_RANGE_IN"),
    ],
)
def test_named_tuples_follow_their_structure(fields: Tuple[str, ...], name: str) -> None:
    """A NamedTuple has its Struct's fields in the same order."""
    assert list(fields) == [field.split(".")[-1] for field in LAYOUTS[name].fields]


def test_opcodes_are_unique() -> None:
    """No two opcodes share a number; an IntEnum would make the second an alias."""
    members = abi.Opcode.__members__
    assert [name for name, opcode in members.items() if name != opcode.name] == []
    assert len({int(opcode) for opcode in members.values()}) == len(members)


def test_flags_of_a_field_are_single_and_distinct_bits() -> None:
    """No two INIT, FATTR or FOPEN flags share a bit."""
    for prefix in ("INIT_", "FATTR_", "FOPEN_"):
        flags = [
            value
            for name, value in vars(abi).items()
            if name.startswith(prefix) and isinstance(value, int)
        ]
        assert len(flags) > 1
        assert len(set(flags)) == len(flags)
        assert [flag for flag in flags if bin(flag).count("1") != 1] == []


@pytest.mark.parametrize("name", sorted(set(LAYOUTS) - {"SUPP_GROUPS"}))
def test_sizes_are_multiples_of_eight(name: str) -> None:
    """32-bit and 64-bit programs see the same layout; SUPP_GROUPS alone goes on in its array."""
    assert LAYOUTS[name].layout.size % 8 == 0


@pytest.mark.parametrize(
    ("size", "aligned"), [(0, 0), (1, 8), (7, 8), (8, 8), (9, 16), (24 + 255, 280)]
)
def test_record_align(size: int, aligned: int) -> None:
    """A record's length is rounded up to whole units of 8 bytes."""
    assert abi.record_align(size) == aligned


little_endian = pytest.mark.skipif(
    sys.byteorder != "little", reason="the bytes are those of a little-endian machine"
)


@little_endian
def test_golden_in_header() -> None:
    """A LOOKUP request's header, with an extension of 16 bytes."""
    request = (
        b"\x3c\x00\x00\x00"  # len: 40 + 4 of the name + 16
        b"\x01\x00\x00\x00"  # opcode: LOOKUP
        b"\x02\x00\x00\x00\x00\x00\x00\x80"  # unique: 2, sent again
        b"\x01\x00\x00\x00\x00\x00\x00\x00"  # nodeid: the root
        b"\xe8\x03\x00\x00"  # uid: 1000
        b"\xff\xff\xff\xff"  # gid: none in this mount
        b"\x39\x30\x00\x00"  # pid: 12345
        b"\x02\x00"  # total_extlen: 2 units of 8 bytes
        b"\xaa\xaa"  # padding, whatever it holds
    )
    assert abi.IN_HEADER.unpack(request) == (
        60,
        abi.Opcode.LOOKUP,
        abi.UNIQUE_RESEND | 2,
        abi.ROOT_ID,
        1000,
        abi.INVALID_UIDGID,
        12345,
        2,
    )


@little_endian
def test_golden_out_header() -> None:
    """A reply without a body that says ENOENT."""
    assert abi.OUT_HEADER.pack(16, -2, 6) == (
        b"\x10\x00\x00\x00"  # len: this header only
        b"\xfe\xff\xff\xff"  # error: -ENOENT
        b"\x06\x00\x00\x00\x00\x00\x00\x00"  # unique
    )


@little_endian
def test_golden_entry_out() -> None:
    """A LOOKUP reply's body, for a file last read before 1970."""
    head = (7, 0, 1, 2, 500000000, 250000000)
    sizes_and_times = (11, 4097, 16, -1, 0x80000000, 3, 999999999, 5, 6)
    rest = (0o100644, 2, 1000, 4294967294, 0x0801, 4096, 0)
    assert abi.ENTRY_OUT.pack(*head, *sizes_and_times, *rest) == (
        b"\x07\x00\x00\x00\x00\x00\x00\x00"  # nodeid
        b"\x00\x00\x00\x00\x00\x00\x00\x00"  # generation
        b"\x01\x00\x00\x00\x00\x00\x00\x00"  # entry_valid: 1 s
        b"\x02\x00\x00\x00\x00\x00\x00\x00"  # attr_valid: 2 s
        b"\x00\x65\xcd\x1d"  # entry_valid_nsec: half a second
        b"\x80\xb2\xe6\x0e"  # attr_valid_nsec: a quarter
        b"\x0b\x00\x00\x00\x00\x00\x00\x00"  # attr.ino
        b"\x01\x10\x00\x00\x00\x00\x00\x00"  # attr.size: 4097
        b"\x10\x00\x00\x00\x00\x00\x00\x00"  # attr.blocks: 16
        b"\xff\xff\xff\xff\xff\xff\xff\xff"  # attr.atime: a second before 1970
        b"\x00\x00\x00\x80\x00\x00\x00\x00"  # attr.mtime: in 2038, past 31 bits
        b"\x03\x00\x00\x00\x00\x00\x00\x00"  # attr.ctime
        b"\xff\xc9\x9a\x3b"  # attr.atimensec: 999,999,999
        b"\x05\x00\x00\x00"  # attr.mtimensec
        b"\x06\x00\x00\x00"  # attr.ctimensec
        b"\xa4\x81\x00\x00"  # attr.mode: -rw-r--r--
        b"\x02\x00\x00\x00"  # attr.nlink
        b"\xe8\x03\x00\x00"  # attr.uid: 1000
        b"\xfe\xff\xff\xff"  # attr.gid: the largest
        b"\x01\x08\x00\x00"  # attr.rdev
        b"\x00\x10\x00\x00"  # attr.blksize: 4096
        b"\x00\x00\x00\x00"  # attr.flags
    )


@little_endian
def test_golden_dirent_padding() -> None:
    """Two directory entries: each name is padded with zeros so that the next entry is aligned."""
    listing = b""
    for offset, name in ((1, b"a"), (2, b"exactly8")):
        entry = abi.DIRENT.pack(10 + offset, offset, len(name), 8) + name
        listing += entry.ljust(abi.record_align(len(entry)), b"\0")
    assert listing == (
        b"\x0b\x00\x00\x00\x00\x00\x00\x00"  # ino
        b"\x01\x00\x00\x00\x00\x00\x00\x00"  # off: where the next one starts
        b"\x01\x00\x00\x00"  # namelen
        b"\x08\x00\x00\x00"  # type: DT_REG
        b"a\x00\x00\x00\x00\x00\x00\x00"  # name, 7 bytes of padding
        b"\x0c\x00\x00\x00\x00\x00\x00\x00"  # ino
        b"\x02\x00\x00\x00\x00\x00\x00\x00"  # off
        b"\x08\x00\x00\x00"  # namelen
        b"\x08\x00\x00\x00"  # type
        b"exactly8"  # name, no padding
    )


@little_endian
def test_golden_setattr_in() -> None:
    """utimensat with a time before 1970 keeps its sign; padding is skipped."""
    request = (
        b"\x30\x02\x00\x00"  # valid: ATIME, MTIME, LOCKOWNER
        b"\xaa\xaa\xaa\xaa"  # padding
        b"\x01\x00\x00\x00\x00\x00\x00\x00"  # fh
        b"\x02\x00\x00\x00\x00\x00\x00\x00"  # size
        b"\x03\x00\x00\x00\x00\x00\x00\xf0"  # lock_owner
        b"\x80\xae\xfe\xff\xff\xff\xff\xff"  # atime: 1969-12-31 00:00:00
        b"\x00\xd4\x36\x20\x03\x00\x00\x00"  # mtime: in the year 2395
        b"\x06\x00\x00\x00\x00\x00\x00\x00"  # ctime
        b"\x07\x00\x00\x00"  # atimensec
        b"\x08\x00\x00\x00"  # mtimensec
        b"\x09\x00\x00\x00"  # ctimensec
        b"\xed\x8d\x00\x00"  # mode: -rwsr-sr-x
        b"\xaa\xaa\xaa\xaa"  # unused4
        b"\x0b\x00\x00\x00"  # uid
        b"\xff\xff\xff\xff"  # gid
        b"\xaa\xaa\xaa\xaa"  # unused5
    )
    assert abi.SetattrIn._make(abi.SETATTR_IN.unpack_from(request)) == abi.SetattrIn(
        valid=abi.FATTR_ATIME | abi.FATTR_MTIME | abi.FATTR_LOCKOWNER,
        fh=1,
        size=2,
        lock_owner=0xF000000000000003,
        atime=-86400,
        mtime=0x32036D400,
        ctime=6,
        atimensec=7,
        mtimensec=8,
        ctimensec=9,
        mode=0o106755,
        uid=11,
        gid=0xFFFFFFFF,
    )


@little_endian
def test_golden_init_of_an_old_kernel() -> None:
    """An INIT of a kernel before 7.36 has no second flag word."""
    request = (
        b"\x07\x00\x00\x00"  # major
        b"\x1f\x00\x00\x00"  # minor: 31
        b"\x00\x00\x02\x00"  # max_readahead: 128 KiB
        b"\x09\x00\x00\x00"  # flags: ASYNC_READ, ATOMIC_O_TRUNC
    )
    flags = abi.INIT_ASYNC_READ | abi.INIT_ATOMIC_O_TRUNC
    assert abi.InitIn(*abi.INIT_IN_COMPAT.unpack(request)) == (7, 31, 131072, flags, 0)
    with pytest.raises(struct.error):
        abi.INIT_IN.unpack(request)
