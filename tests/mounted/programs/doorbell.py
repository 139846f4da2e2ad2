"""A filesystem with a bell and a button: writing to the button makes the bell readable, and says so."""

import select
import stat

from memory import Memory, Node, serve


class Doorbell(Memory):
    def __init__(self, *args, **kw):
        Memory.__init__(self, *args, **kw)
        self.rung = False
        self.waiting = []
        for name in "bell", "button":
            self.nodes["/" + name] = Node(stat.S_IFREG | 0o644)

    def poll(self, path, handle):
        if handle is not None:
            self.waiting.append(handle)
        return select.POLLIN if self.rung else 0

    def write(self, path, data, offset):
        self.rung = True
        while self.waiting:
            self.NotifyPoll(self.waiting.pop())
        return len(data)


def main():
    serve(Doorbell)


if __name__ == "__main__":
    main()
