"""A mirror whose handlers take -o seconds=, release after a write and readlink; it says what it does."""

import os
import sys
import time

from fusepy_legacy import Passthrough, PassthroughFile


class LingeringFile(PassthroughFile):
    written = False

    def write(self, data, offset):
        self.written = True
        return super().write(data, offset)

    def release(self, flags):
        if self.written:
            self.filesystem.linger("release")
        super().release(flags)


class Lingering(Passthrough):
    file_class = LingeringFile
    asks = ""

    def __init__(self, *args, **kw):
        super().__init__(*args, **kw)
        self.parser.add_option(mountopt="seconds")
        self.parser.add_option(mountopt="asks")

    def linger(self, name):
        print(f"{name} begins", flush=True)
        time.sleep(float(self.seconds))
        print(f"{name} ends", flush=True)

    def readlink(self, path):
        """Also ask another path, which may be in this mount."""
        self.linger("readlink")
        if self.asks:
            try:
                os.stat(self.asks)
            except OSError as error:
                print(f"asked: {error.strerror}", flush=True)
        return super().readlink(path)

    def fsdestroy(self):
        print("destroyed", flush=True)


if __name__ == "__main__":
    sys.exit(Lingering().run())
