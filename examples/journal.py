#!/usr/bin/env python3
"""A mirror that keeps a journal: who wrote how much to which file, one line when the file is closed.

journal.py MOUNTPOINT -o root=DIR,journal=FILE
"""

import os
import sys
import threading
import time

from fusepy_legacy import MountError, Passthrough, PassthroughFile


class JournalFile(PassthroughFile):
    """Counts for one open; the count cannot get mixed up with another open of the same file."""

    def __init__(self, path, flags, *mode):
        super().__init__(path, flags, *mode)
        self.path = path
        self.uid = self.filesystem.caller().uid
        self.written = 0
        self.guard = threading.Lock()  # two threads of one program may write through one open

    def write(self, data, offset):
        count = super().write(data, offset)
        with self.guard:
            self.written += count
        return count

    def release(self, flags):
        super().release(flags)
        if self.written:
            self.filesystem.note(f"uid {self.uid} wrote {self.written} bytes to {self.path}")


class Journal(Passthrough):
    file_class = JournalFile
    journal = None

    def __init__(self, *args, **kw):
        super().__init__(*args, **kw)
        self.parser.add_option(
            mountopt="journal", metavar="FILE", help="append the journal to FILE"
        )

    def prepare(self, arguments):
        if self.journal is None:
            raise MountError("no journal given; say where to write it: -o journal=FILE", 1)
        try:
            self.descriptor = os.open(self.journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            raise MountError(f"journal {self.journal}: {error.strerror}", 1)
        return super().prepare(arguments)

    def note(self, line):
        # Paths may hold any bytes; one write to a file opened with O_APPEND is one whole line.
        os.write(self.descriptor, os.fsencode(f"{time.strftime('%FT%T')} {line}\n"))


if __name__ == "__main__":
    sys.exit(Journal().run())
