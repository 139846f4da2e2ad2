"""What is in an encrypted tree beside what was encrypted: its config, directory IVs and companions.

Names are str here, as os.fsdecode makes them.
"""

import os
import re

from fusepy_legacy.crypt.config import CONFIG_FILE, OLD_CONFIG_SUFFIX
from fusepy_legacy.crypt.names import COMPANION_SUFFIX, DIRECTORY_IV_FILE, LONG_NAME_PREFIX

CONFIG_NAME = os.fsdecode(CONFIG_FILE)
IV_NAME = os.fsdecode(DIRECTORY_IV_FILE)
# What rmdir moves a directory's IV to, in the directory above, before the directory itself goes.
REMOVED_IV = IV_NAME + ".rmdir."

_LONG = os.fsdecode(LONG_NAME_PREFIX)
_COMPANION = os.fsdecode(COMPANION_SUFFIX)
# What a change of password leaves when it is killed, ours (vault/config_file.py) or that of gocryptfs, and
# with a master key in any case.
_OLD = re.escape(os.fsdecode(OLD_CONFIG_SUFFIX))
_LEFT_BY_PASSWD = re.compile(rf"{re.escape(CONFIG_NAME)}({_OLD}|(\.[0-9a-f]{{8}})?\.tmp)\Z")


def is_internal(stored: str, top: bool, plaintext_names: bool) -> bool:
    """Whether a name on the disk is none of what was encrypted; `top`: it is in the tree's top directory.

    With `plaintext_names` there is nothing but the config: what only looks internal is a file.
    """
    if plaintext_names:
        return top and stored == CONFIG_NAME
    if not stored.startswith("gocryptfs."):
        return False
    if stored.startswith(_LONG):
        return stored.endswith(_COMPANION)
    if stored == IV_NAME or stored.startswith(REMOVED_IV):
        return True
    return top and (stored == CONFIG_NAME or _LEFT_BY_PASSWD.match(stored) is not None)
