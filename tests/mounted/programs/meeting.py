"""A mirror whose reads wait for company, -o patience=SECONDS long, and answer how many there were."""

import sys
import threading

from fusepy_legacy import Passthrough, PassthroughFile


class MeetingFile(PassthroughFile):
    def read(self, length, offset):
        return b"%d" % self.filesystem.meet()


class Meeting(Passthrough):
    file_class = MeetingFile

    def __init__(self, *args, **kw):
        super().__init__(*args, **kw)
        self.parser.add_option(mountopt="patience")
        self.arrival = threading.Condition()
        self.present = 0
        self.most = 0

    def meet(self):
        with self.arrival:
            self.present += 1
            self.most = max(self.most, self.present)
            self.arrival.notify_all()
            self.arrival.wait_for(lambda: self.most > 1, float(self.patience))
            self.present -= 1
            return self.most


if __name__ == "__main__":
    sys.exit(Meeting().run())
