"""A mirror whose reads say in which thread they are served; -o single sets multithreaded = False."""

import sys
import threading

from fusepy_legacy import Passthrough, PassthroughFile


class NamingFile(PassthroughFile):
    def read(self, length, offset):
        return threading.current_thread().name.encode()[offset : offset + length]


class Naming(Passthrough):
    file_class = NamingFile
    single = False

    def __init__(self, *args, **kw):
        super().__init__(*args, **kw)
        self.parser.add_option(mountopt="single", action="store_true")

    def main(self, args=None):
        if self.single:
            self.multithreaded = False
        super().main(args)


if __name__ == "__main__":
    sys.exit(Naming().run())
