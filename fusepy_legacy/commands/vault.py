"""fusepy-vault: everything about an encrypted tree that needs no mount."""

import argparse
import json
import os
import re
import signal
import sys
from contextlib import ExitStack
from typing import Any, Callable, Dict, List, NoReturn, Optional, Tuple

from fusepy_legacy import __version__, roots_file, secrecy
from fusepy_legacy.crypt.config import (
    AESSIV_FLAG,
    DIRIV,
    FIDO2_FLAG,
    FORWARD,
    FORWARD_PLAINTEXT_NAMES,
    GCMIV128,
    XCHACHA_FLAG,
    master_key_to_text,
)
from fusepy_legacy.crypt.errors import CryptError
from fusepy_legacy.errors import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_ROOT,
    EXIT_USAGE,
    MountError,
)
from fusepy_legacy.output import complete_output
from fusepy_legacy.vault.cat import write_range
from fusepy_legacy.vault.config_file import (
    check_new,
    describe,
    initialize,
    keep_config,
    read_config,
    replace_config,
)
from fusepy_legacy.vault.listing import Listing
from fusepy_legacy.vault.location import Location, locate, locate_labelled, locate_plain
from fusepy_legacy.vault.passwords import PasswordSource, unlock
from fusepy_legacy.vault.paths import PlainRoots, PlainTree, decrypt_path, encrypt_path
from fusepy_legacy.vault.plain import Plain
from fusepy_legacy.vault.report import Lost, Progress, Report, VaultError, code_of, printable
from fusepy_legacy.vault.restore import Restore, check_destination
from fusepy_legacy.vault.speed import measure
from fusepy_legacy.vault.tree import Entry, Vault
from fusepy_legacy.vault.verify import Verification

PROGRAM = "fusepy-vault"
DESCRIPTION = """Work with encrypted trees in the gocryptfs format, without mounting them.

A SOURCE is the directory of an encrypted tree (the one with gocryptfs.conf), or that and a plain path in
it: backup/letters/2024 is letters/2024 in the tree in backup. Passwords are asked for on a terminal, else
taken from the first line of standard input."""
EPILOG = """exit codes: 0 done, 1 usage, 6 the directory cannot be used, 9 no password is to be had,
11 not done, or not all, 12 wrong password, 14 not a master key, 15 interrupted, 22 empty password,
23 the config cannot be read, 24 it cannot be written, 26 damage was found"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {message} (see {self.prog} -h)", file=sys.stderr)
        raise SystemExit(EXIT_USAGE)


def main(arguments: Optional[List[str]] = None) -> int:
    """Do one command and return an exit code: 0, or one of fusepy_legacy.errors."""
    try:
        with complete_output():
            options = _parser().parse_args(arguments)
        if arguments is None:  # not for a program that calls this
            # As Ctrl-C: small unfinished files are removed, and a prompt gives the terminal its echo back.
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            secrecy.forbid_dumps()
            secrecy.lock_memory()
        if sys.stdout is None:  # closed, so its number would be the next file's that is opened
            raise VaultError("there is no standard output", EXIT_USAGE)
        with complete_output():
            code: int = options.function(options)
        return code
    except BrokenPipeError:
        return EXIT_FAILED  # nobody reads any more
    except KeyboardInterrupt:
        return _fail("interrupted", EXIT_INTERRUPTED)
    except (VaultError, MountError) as error:
        return _fail(str(error), error.exit_code)
    except Lost as error:
        return _fail(str(error), code_of(error))
    except CryptError as error:
        return _fail(str(error), EXIT_FAILED)
    except OSError as error:
        name = "" if error.filename is None else f"{printable(os.fsencode(error.filename))}: "
        return _fail(f"{name}{error.strerror or error}", EXIT_FAILED)


def _fail(message: str, code: int) -> int:
    print(f"{PROGRAM}: {message}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    layout = argparse.RawDescriptionHelpFormatter
    parser = _Parser(prog=PROGRAM, description=DESCRIPTION, epilog=EPILOG, formatter_class=layout)
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", dest="command")
    commands.required = True  # not an argument before Python 3.7

    where = _Parser(add_help=False)
    where.add_argument("--config", metavar="FILE", help="the config, if it is not in the tree")
    password = _Parser(add_help=False)
    password.add_argument(
        "--passfile",
        metavar="FILE",
        action="append",
        help="a file whose first line is the password",
    )
    password.add_argument(
        "--extpass",
        metavar="COMMAND",
        help="a program that prints the password (run without a shell)",
    )
    key = _Parser(add_help=False, parents=[where, password])
    key.add_argument(
        "--masterkey", metavar="FILE", help="a file with the master key, instead of a password"
    )

    tree = _Parser(add_help=False)
    tree.add_argument("source", metavar="DIR")
    sources = _Parser(add_help=False)
    sources.add_argument("sources", metavar="SOURCE", nargs="+")
    as_json = _Parser(add_help=False)
    as_json.add_argument("--json", action="store_true", help="print JSON")
    quiet = _Parser(add_help=False)
    quiet.add_argument("-q", "--quiet", action="store_true", help="no progress, no summary")

    def command(name: str, function: Any, help: str, *parents: Any) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=help, description=help, parents=parents)
        added.set_defaults(function=function)
        return added

    add = command("init", _init, "make a tree in an empty directory", password, tree)
    add.add_argument(
        "--scryptn", metavar="N", type=_number(10, 20), default=16, help="10 to 20 (16)"
    )
    add.add_argument(
        "--reverse", action="store_true", help="for a plain one, to be shown encrypted"
    )
    add.add_argument("--aessiv", action="store_true", help="AES-SIV (with --reverse always)")
    add.add_argument("--xchacha", action="store_true", help="XChaCha20-Poly1305 (needs PyNaCl)")
    add.add_argument("--plaintextnames", action="store_true", help="do not encrypt names")
    add.add_argument("--deterministic-names", action="store_true", help="no IV for each directory")
    add.add_argument(
        "--longnamemax",
        metavar="N",
        type=_number(62, 255),
        default=255,
        help="62 to 255 (255)",
    )
    command("info", _info, "show the config; no password is needed", where, as_json, tree)
    add = command("passwd", _passwd, "change the password", key, tree)
    add.add_argument("--scryptn", metavar="N", type=_number(10, 20), help="10 to 20 (as before)")
    add.add_argument("--new-passfile", metavar="FILE", action="append")
    add.add_argument("--new-extpass", metavar="COMMAND")
    command("masterkey", _masterkey, "print the master key", key, tree)
    add = command("ls", _ls, "list a directory", key, as_json, tree)
    add.add_argument("-l", dest="long", action="store_true", help="with metadata")
    add.add_argument("-R", dest="recursive", action="store_true", help="and all below it")
    add = command("cat", _cat, "print files", key, sources)
    add.add_argument(
        "--range", metavar="A-B", type=_byte_range, default=(0, None), help="bytes A to B, or A-"
    )
    add = command("restore", _restore, "make plain copies", key, quiet, sources)
    add.add_argument("destination", metavar="DESTINATION")
    add.add_argument(
        "--force", action="store_true", help="replace what exists, also what looks complete"
    )
    add = command("verify", _verify, "read all, report damage", key, quiet, as_json, sources)
    add.add_argument(
        "--against", metavar="PLAIN", help="a directory whose content the whole tree must equal"
    )
    add.add_argument(
        "--metadata",
        action="store_true",
        help="and its modes, owners, times of change and attributes",
    )
    plain = _Parser(add_help=False)
    plain.add_argument(
        "--root", metavar="DIR", help="the plain directory of a view whose --config is not in it"
    )
    plain.add_argument(
        "--roots",
        metavar="FILE",
        help="the roots file of a view of several directories, whose paths begin with / at its top",
    )
    command("encrypt-path", _encrypt_path, "plain paths to encrypted ones", key, plain, sources)
    command("decrypt-path", _decrypt_path, "encrypted paths to plain ones", key, plain, sources)
    command("speed", _speed, "measure the ciphers")
    return parser


def _number(least: int, most: int) -> Callable[[str], int]:
    """Return what parses a whole number in these limits; argparse's choices would list them all."""

    def parse(text: str) -> int:
        if not re.match("[0-9]+$", text, re.ASCII) or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!a} is not {least} to {most}")
        return int(text)

    return parse


def _byte_range(text: str) -> Tuple[int, Optional[int]]:
    """Parse A-B (both included, as in HTTP) or A- into begin and end."""
    first, _, last = text.partition("-")
    if not re.match("[0-9]+-[0-9]*$", text):
        raise argparse.ArgumentTypeError(f"{text!a} is not A-B or A-, in bytes")
    if last and int(last) < int(first):
        raise argparse.ArgumentTypeError(f"{text!a} ends before it begins")
    return int(first), int(last) + 1 if last else None


# Commands


def _init(options: argparse.Namespace) -> int:
    check_new(options.source, options.reverse)
    flags = FORWARD_PLAINTEXT_NAMES if options.plaintextnames else FORWARD
    if options.deterministic_names:
        flags -= {DIRIV}
    if options.aessiv or options.reverse:
        flags |= {AESSIV_FLAG}
    if options.xchacha:
        flags = flags - {GCMIV128} | {XCHACHA_FLAG}
    password = PasswordSource(options.passfile, options.extpass).read("New password", twice=True)
    initialize(
        options.source, options.reverse, password, flags, options.longnamemax, 1 << options.scryptn
    )
    print(f"{PROGRAM}: {PROGRAM} masterkey prints a key that opens the tree without the password;")
    print(f"{PROGRAM}: keep it in a safe place, away from this machine")
    return 0


def _info(options: argparse.Namespace) -> int:
    location = locate(options.source, options.config)
    facts = describe(location, read_config(location))
    if options.json:
        print(json.dumps(facts))
        return 0
    for name, value in facts.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {number}" for key, number in value.items())
        elif isinstance(value, list):
            value = " ".join(value)
        print(f"{name.replace('_', ' ')}: {printable(os.fsencode(str(value)))}")
    return 0


def _passwd(options: argparse.Namespace) -> int:
    location = locate(options.source, options.config)
    config = read_config(location)
    if FIDO2_FLAG in config.flags:
        message = "a FIDO2 token opens the tree; a password would shut it out, and not be asked for"
        raise VaultError(f"{location.config_file}: {message}", EXIT_USAGE)
    master_key = unlock(config, _password(options), options.masterkey)
    source = PasswordSource(options.new_passfile, options.new_extpass)
    password = source.read("New password", twice=True)
    cost = config.scrypt.n if options.scryptn is None else 1 << options.scryptn
    new = config.with_password(master_key, password, cost)
    if options.masterkey is not None:
        # Nothing tells a wrong one, and the old config may be all that has the right one.
        kept = keep_config(location)
        print(f"{PROGRAM}: the old config is kept as {printable(os.fsencode(kept))};")
        print(f"{PROGRAM}: remove it when the new password has opened the tree")
    replace_config(location, new)
    return 0


def _masterkey(options: argparse.Namespace) -> int:
    config = read_config(locate(options.source, options.config))
    print(master_key_to_text(unlock(config, _password(options), options.masterkey)))
    return 0


def _ls(options: argparse.Namespace) -> int:
    report = Report(Progress().say)
    with ExitStack() as stack:
        vault, [top] = _open(stack, options, [options.source])
        listing = Listing(vault, top, options.recursive, report)
        if options.json:
            print(json.dumps([listing.members(entry) for entry in listing]))
        else:
            for entry in listing:
                _print(listing.line(entry, options.long))
    return report.exit_code


def _cat(options: argparse.Namespace) -> int:
    with ExitStack() as stack:
        vault, entries = _open(stack, options, options.sources)
        for entry in entries:
            write_range(vault, entry, sys.stdout.buffer, *options.range)
    return 0


def _restore(options: argparse.Namespace) -> int:
    with ExitStack() as stack:
        vault, sources = _open(stack, options, options.sources)
        root = locate(options.sources[0], options.config).root
        check_destination(root, sources, options.destination)
        vault.content  # noqa: B018 - a cipher that is missing ends it here
        progress = stack.enter_context(_progress(vault, sources, options.quiet))
        report = Report(progress.say)
        restore = Restore(vault, options.destination, report, progress, options.force)
        stack.enter_context(restore)
        restore.run(sources)
    if not options.quiet:
        why = "only root can" if os.geteuid() else "root may not, here"
        owners = "" if restore.keeps_owners else f" (not their owners: {why})"
        _summary(f"{restore.restored} files restored{owners}", report)
    return report.exit_code


def _verify(options: argparse.Namespace) -> int:
    if options.metadata and options.against is None:
        raise VaultError("--metadata needs --against", EXIT_USAGE)
    with ExitStack() as stack:
        vault, sources = _open(stack, options, options.sources)
        vault.content  # noqa: B018 - as above
        against = None
        if options.against is not None:
            against = stack.enter_context(Plain(options.against, options.metadata))
        progress = stack.enter_context(_progress(vault, sources, options.quiet))
        report = Report((lambda line: None) if options.json else progress.say)
        verification = Verification(vault, report, progress, against)
        for source in sources:
            verification.run(source)
    counts = verification.counts()
    if options.json:
        damage = [item.members() for item in report.damage]
        failed = [{"path": os.fsdecode(path), "problem": why} for path, why in report.failures]
        left_over = list(map(os.fsdecode, report.leftovers))
        result = {**counts, "damage": damage, "failed": failed, "left_over": left_over}
        print(json.dumps(result))
    elif not options.quiet:
        text = "{files} files, {directories} directories, {bytes} bytes, {holes} of them holes"
        _summary(text.format(**counts), report)
    return report.exit_code


def _encrypt_path(options: argparse.Namespace) -> int:
    if options.roots is None:
        return _translate(options, encrypt_path, _locate_all_plain(options))
    roots = _labelled(options)
    places = [locate_labelled(word, roots, options.config) for word in options.sources]
    return _translate(options, encrypt_path, places)


def _decrypt_path(options: argparse.Namespace) -> int:
    if options.roots is None:
        return _translate(options, decrypt_path, _locate_all_plain(options))
    roots = _labelled(options)
    config = read_config(Location("/", options.config, b"", is_reverse=True))
    master_key = unlock(config, _password(options), options.masterkey)
    view = PlainRoots(roots, config, master_key)
    with view:
        for word in options.sources:
            _print(view.place(decrypt_path(view, os.fsencode(word.strip("/")))))
    return 0


def _labelled(options: argparse.Namespace) -> Dict[str, str]:
    """Return the directories of --roots by their labels."""
    if options.root is not None or options.config is None:
        raise VaultError("--roots goes with --config, and not with --root", EXIT_USAGE)
    return {root.label: root.path for root in roots_file.read(options.roots).roots}


def _locate_all_plain(options: argparse.Namespace) -> List[Location]:
    """Find the paths in encrypted trees, or in a plain one: by the config in it, or by --root."""
    if options.root is None:
        return _locate_all(options.sources, options.config)
    if options.config is None:
        raise VaultError("--root goes with --config; a config in DIR is found without", EXIT_USAGE)
    return [locate_plain(word, options.root, options.config) for word in options.sources]


def _translate(options: argparse.Namespace, function: Any, places: List[Location]) -> int:
    kind = PlainTree if places[0].is_reverse else Vault
    with _unlocked(kind, places[0], options) as vault:
        for place in places:
            _print(function(vault, place.path))
    return 0


def _speed(options: argparse.Namespace) -> int:
    for speed in measure():
        print(
            f"{speed.name}: {speed.encrypt:.0f} MB/s encrypted, {speed.decrypt:.0f} MB/s decrypted"
        )
    return 0


# What they share


def _password(options: argparse.Namespace) -> PasswordSource:
    return PasswordSource(options.passfile, options.extpass)


def _locate_all(words: List[str], config_file: Optional[str]) -> List[Location]:
    places = [locate(word, config_file) for word in words]
    if len({place.root for place in places}) > 1:
        raise VaultError("the paths are in several encrypted trees", EXIT_USAGE)
    return places


def _unlocked(kind: Any, place: Location, options: argparse.Namespace) -> Vault:
    config = read_config(place)
    vault: Vault = kind(place.root, config, unlock(config, _password(options), options.masterkey))
    return vault


def _open(
    stack: ExitStack, options: argparse.Namespace, words: List[str]
) -> Tuple[Vault, List[Entry]]:
    """Open the tree that typed paths are in, and find what they lead to."""
    places = _locate_all(words, options.config)
    if places[0].is_reverse:
        message = "it is a plain directory; only its encrypted view or a copy of that can be read"
        raise VaultError(f"{places[0].root}: {message}", EXIT_ROOT)
    vault = stack.enter_context(_unlocked(Vault, places[0], options))
    return vault, [vault.resolve(place.path) for place in places]


def _progress(vault: Vault, sources: List[Entry], quiet: bool) -> Progress:
    if quiet or not sys.stderr.isatty():
        return Progress()
    return Progress(sum(map(vault.total, sources)))


def _summary(text: str, report: Report) -> None:
    lost = f"; {len(report.damage)} damaged" if report.damage else ""
    failed = f"; {len(report.failures)} failed" if report.failures else ""
    print(f"{text}{lost}{failed}")


def _print(line: bytes) -> None:
    if sys.stdout.isatty():
        line = printable(line).encode()
    sys.stdout.buffer.write(line + b"\n")
