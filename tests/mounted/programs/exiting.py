"""A mirror that ends itself when "handler" is removed, or, in another thread, when "thread" is.

When "exit" is removed, it leaves the program from inside the handler.
"""

import sys
import threading

from fusepy_legacy import Passthrough


class Exiting(Passthrough):
    def unlink(self, path):
        super().unlink(path)
        if path == "/handler":
            self.exit()
        if path == "/thread":
            threading.Thread(target=self.exit).start()
        if path == "/exit":
            sys.exit(3)

    def main(self, args=None):
        super().main(args)
        print("main has returned", flush=True)


if __name__ == "__main__":
    sys.exit(Exiting().run())
