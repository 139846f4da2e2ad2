"""A mirror that says how many nodes the kernel knows, as the root's user.nodes."""

import sys

from fusepy_legacy import Passthrough


class Knowing(Passthrough):
    def getxattr(self, path, name, size):
        if name != "user.nodes":
            return super().getxattr(path, name, size)
        count = str(len(self._session.engine.nodes))
        return count if size else len(count)


if __name__ == "__main__":
    sys.exit(Knowing().run())
