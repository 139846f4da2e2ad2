"""Two mounts in one process: what is written to /button changes both, and says so of one from another thread.

twins.py MOUNTPOINT MOUNTPOINT; the text written is WHOSE THREAD: "0" or "1" for the mount that is told,
and "own" for a thread that serves nobody, "handler" for the one that serves the write.
"""

import queue
import select
import stat
import sys
import threading

import fuse
from memory import Memory, Node

NAMES = ("bell", "button", "text")


class Twin(Memory):
    twins = []
    changes = queue.Queue()

    def __init__(self, *args, **kw):
        Memory.__init__(self, *args, **kw)
        self.rung = False
        self.waiting = []
        self.twins.append(self)
        for name in NAMES:
            self.nodes["/" + name] = Node(stat.S_IFREG | 0o666, b"old")

    def poll(self, path, handle):
        if handle is not None:
            self.waiting.append(handle)
        return select.POLLIN if self.rung else 0

    def truncate(self, path, length):
        return 0

    def write(self, path, data, offset):
        whose, thread = data.decode().split()
        if thread == "own":
            self.changes.put(int(whose))
        else:
            change(int(whose))
        return len(data)


def change(whose):
    for twin in Twin.twins:
        twin.nodes["/text"].set(b"new")
    told = Twin.twins[whose]
    told.rung = True
    assert told.Invalidate("/text") == 0, "unknown"
    while told.waiting:
        told.NotifyPoll(told.waiting.pop())


def watch():
    while True:
        change(Twin.changes.get())


def serve(twin):
    try:
        twin.main()
    except fuse.FuseError as error:
        print(error, file=sys.stderr)


def main():
    threads = []
    options = "kernel_cache,attr_timeout=1000,entry_timeout=1000"
    for mountpoint in sys.argv[1:]:
        twin = Twin(dash_s_do="setsingle")
        twin.parse([mountpoint, "-f", "-o", options], errex=1)
        threads.append(threading.Thread(target=serve, args=(twin,)))
    threading.Thread(target=watch, daemon=True).start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
