"""Where passwords come from: a terminal, files, a program or standard input, never the command line."""

import getpass
import os
import shlex
import subprocess
import sys
from typing import BinaryIO, List, Optional

from fusepy_legacy.crypt.config import FIDO2_FLAG, PASSWORD_MAX, Config, master_key_from_text
from fusepy_legacy.crypt.errors import CryptError, WrongPassword
from fusepy_legacy.errors import (
    EXIT_CONFIG,
    EXIT_EMPTY_PASSWORD,
    EXIT_MASTER_KEY,
    EXIT_PASSWORD,
    EXIT_PASSWORD_SOURCE,
)
from fusepy_legacy.vault.report import VaultError

_OUTPUT_MAX = 1 << 20  # of a program that prints a password, and maybe more in further lines


class PasswordSource:
    """`passfiles`: the first lines of several are joined (as gocryptfs does). `extpass`: a command line.

    With neither, the terminal is asked, or a line of standard input taken if that is no terminal.
    """

    def __init__(
        self, passfiles: Optional[List[str]] = None, extpass: Optional[str] = None
    ) -> None:
        self.passfiles = passfiles or []
        self.extpass = extpass

    def read(self, prompt: str, twice: bool = False) -> bytes:
        """Return a password, without the newline; `twice`: a terminal is asked again.

        Raises VaultError: 9 where there is none to be had, 22 for an empty one.
        """
        if self.passfiles:
            password = b"".join(map(_first_line_of, self.passfiles))
        elif self.extpass is not None:
            password = _from_program(self.extpass)
        elif sys.stdin is not None and sys.stdin.isatty():
            password = _typed(prompt)
            if twice and _typed(f"{prompt}, again") != password:
                raise VaultError("the two passwords differ", EXIT_PASSWORD_SOURCE)
        elif sys.stdin is not None:
            password = _first_line(sys.stdin.buffer)
        else:
            password = b""
        if not password:
            raise VaultError("the password is empty", EXIT_EMPTY_PASSWORD)
        if len(password) > PASSWORD_MAX:
            message = f"the password has more than {PASSWORD_MAX} bytes"
            raise VaultError(message, EXIT_PASSWORD_SOURCE)
        return password


def unlock(config: Config, source: PasswordSource, master_key_file: Optional[str] = None) -> bytes:
    """Return the master key, from its text form in a file instead of a password if one is given.

    Raises VaultError: what `PasswordSource.read` raises, 12 for a wrong password, 14 for a text that is
    no master key, 23 for a config that asks too much.
    """
    if master_key_file is not None:
        try:
            return master_key_from_text(_first_line_of(master_key_file).decode("latin-1"))
        except CryptError as error:
            raise VaultError(f"{master_key_file}: {error}", EXIT_MASTER_KEY)
    return open_config(config, source.read("Password"))


def open_config(config: Config, password: bytes) -> bytes:
    """Return the master key; raises VaultError, 12 for a wrong password, 23 for what asks too much."""
    try:
        return config.unlock(password)
    except WrongPassword as error:
        how = "; only gocryptfs asks the FIDO2 token" if FIDO2_FLAG in config.flags else ""
        raise VaultError(f"{error}{how}", EXIT_PASSWORD)
    except CryptError as error:
        raise VaultError(str(error), EXIT_CONFIG)


def _typed(prompt: str) -> bytes:
    try:
        return os.fsencode(getpass.getpass(f"{prompt}: "))
    except EOFError:  # Ctrl-D, which is the end of any other standard input, too
        return b""
    except UnicodeDecodeError:
        message = "what was typed is not text in this locale; a passfile may hold any bytes"
        raise VaultError(message, EXIT_PASSWORD_SOURCE) from None


def _first_line(file: BinaryIO) -> bytes:
    line = file.readline(PASSWORD_MAX + 2)
    return line[:-1] if line.endswith(b"\n") else line


def _first_line_of(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return _first_line(file)
    except OSError as error:
        raise VaultError(f"{path}: {error.strerror}", EXIT_PASSWORD_SOURCE)


def _output(words: List[str]) -> bytes:
    """Run a program to its end and return what it prints: only then it is known not to have failed."""
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            output = process.stdout.read(_OUTPUT_MAX + 1)
            if len(output) > _OUTPUT_MAX:
                raise ValueError(f"{words[0]}: it printed more than {_OUTPUT_MAX} bytes")
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, words)
    return output


def _from_program(command: str) -> bytes:
    try:
        words = shlex.split(command)
        if not words:
            raise ValueError("the command is empty")
        return _output(words).split(b"\n", 1)[0]
    except ValueError as error:
        problem = str(error)
    except OSError as error:
        problem = f"{words[0]}: {error.strerror}"
    except subprocess.CalledProcessError as error:
        problem = f"{words[0]}: it ended with {error.returncode}"
    raise VaultError(f"extpass: {problem}", EXIT_PASSWORD_SOURCE)
