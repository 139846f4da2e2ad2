"""Change files in a directory for a while, and print what must be in them at the end.

Usage: worker.py DIRECTORY NUMBER SECONDS. The files are in subdirectories that all workers share; the
names of each begin with its number. Exits with a message when a file is not what it should be.
"""

import hashlib
import json
import os
import random
import sys
import time


class Worker:
    def __init__(self, directory, number):
        self.directory = directory
        self.number = number
        self.serial = 0
        self.random = random.Random(number)
        self.contents = {}
        self.counts = {}

    def run(self, seconds):
        """Do one thing after another until the time is up; return the digest of each file left."""
        actions = (self.create, self.append, self.overwrite, self.read, self.rename, self.unlink)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            action = self.create if len(self.contents) < 2 else self.random.choice(actions)
            if action == self.create and len(self.contents) > 20:
                action = self.unlink
            action()
            self.counts[action.__name__] = self.counts.get(action.__name__, 0) + 1
        return {name: hashlib.sha256(data).hexdigest() for name, data in self.contents.items()}

    def new_name(self):
        self.serial += 1
        return f"{self.random.choice('ab')}/{self.number}-{self.serial}"

    def any_name(self):
        return self.random.choice(sorted(self.contents))

    def data(self):
        return bytes([self.random.randrange(256)]) * self.random.randrange(1, 100000)

    def path(self, name):
        return os.path.join(self.directory, name)

    def create(self):
        name, data = self.new_name(), self.data()
        with open(self.path(name), "xb") as file:
            file.write(data)
        self.contents[name] = data

    def append(self):
        name, data = self.any_name(), self.data()
        with open(self.path(name), "ab") as file:
            file.write(data)
        self.contents[name] += data

    def overwrite(self):
        name, data = self.any_name(), self.data()
        before = self.contents[name]
        offset = self.random.randrange(len(before))
        with open(self.path(name), "r+b") as file:
            file.seek(offset)
            file.write(data)
        self.contents[name] = before[:offset] + data + before[offset + len(data) :]

    def read(self):
        name = self.any_name()
        with open(self.path(name), "rb") as file:
            if file.read() != self.contents[name]:
                sys.exit(f"{name} was read with other contents than it was written with")

    def rename(self):
        old = self.any_name()
        new = self.new_name() if self.random.random() < 0.5 else self.any_name()
        os.rename(self.path(old), self.path(new))
        self.contents[new] = self.contents.pop(old)

    def unlink(self):
        name = self.any_name()
        os.unlink(self.path(name))
        del self.contents[name]


if __name__ == "__main__":
    worker = Worker(sys.argv[1], int(sys.argv[2]))
    digests = worker.run(float(sys.argv[3]))
    print(json.dumps({"digests": digests, "counts": worker.counts}))
