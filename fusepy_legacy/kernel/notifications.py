"""What the engine tells the kernel unasked: messages in place of replies, whose unique is 0."""

from fusepy_legacy.kernel import abi


def inval_inode(node_id: int, data: bool) -> bytes:
    """Return the message that makes the kernel forget a node's attributes, and its cached data too."""
    # A negative offset is for the attributes only: fs/fuse/inode.c, fuse_reverse_inval_inode.
    return _message(
        abi.NOTIFY_INVAL_INODE, abi.NOTIFY_INVAL_INODE_OUT.pack(node_id, 0 if data else -1, 0)
    )


def inval_entry(directory_id: int, name: bytes) -> bytes:
    """Return the message that makes the kernel look a name up again, and its directory's attributes."""
    body = abi.NOTIFY_INVAL_ENTRY_OUT.pack(directory_id, len(name), 0)
    return _message(abi.NOTIFY_INVAL_ENTRY, body + name + b"\0")


def poll_wakeup(number: int) -> bytes:
    """Return the message that makes the kernel poll an open file again; `number` is POLL_IN.kh."""
    return _message(abi.NOTIFY_POLL, abi.NOTIFY_POLL_WAKEUP_OUT.pack(number))


def _message(code: int, body: bytes) -> bytes:
    return abi.OUT_HEADER.pack(abi.OUT_HEADER.size + len(body), code, 0) + body
