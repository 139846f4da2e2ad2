"""Several mirrors in one process: several.py ROOT MOUNTPOINT [ROOT MOUNTPOINT]…"""

import sys
import threading

from fusepy_legacy import Passthrough


def serve(root, mountpoint):
    filesystem = Passthrough()
    filesystem.parse([mountpoint, "-f", "-o", f"root={root}"], values=filesystem)
    filesystem.main()
    print(f"the end of {mountpoint}", flush=True)


if __name__ == "__main__":
    words = sys.argv[1:]
    threads = [threading.Thread(target=serve, args=pair) for pair in zip(words[::2], words[1::2])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
