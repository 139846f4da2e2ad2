"""Requests about the mount as a whole: INIT, DESTROY, INTERRUPT, STATFS, SYNCFS."""

import errno
import logging
import os
import struct
from typing import TYPE_CHECKING

from fusepy_legacy.kernel import abi, negotiation
from fusepy_legacy.kernel.nodes import Node
from fusepy_legacy.kernel.operations import call

if TYPE_CHECKING:
    from fusepy_legacy.kernel.engine import Engine

logger = logging.getLogger(__name__)


def init(engine: "Engine", node: Node, data: memoryview) -> bytes:
    """Agree with the kernel on what both can do, and start the filesystem.

    Whatever fails here fails the mount: the kernel takes an error as its end.
    """
    operations = engine.operations
    try:
        offer = _offer(engine, data)
        if not offer.agreement.minor:
            return offer.reply  # the kernel is of a later major version, and will ask again
        engine.agreement = offer.agreement
        if not offer.agreement.has(abi.INIT_PASSTHROUGH):
            engine.backings.open = None
        if operations.fsinit is not None:
            call(operations.fsinit)
    except BaseException as error:
        if not isinstance(error, OSError):  # an OSError says all in its one line
            logger.error("the filesystem failed to start", exc_info=True)
        engine.failure = error
        engine.on_failure()
        raise OSError(errno.EIO, os.strerror(errno.EIO)) from error
    engine.on_ready()
    return offer.reply


def _offer(engine: "Engine", data: memoryview) -> negotiation.Offer:
    layout = abi.INIT_IN if len(data) >= abi.INIT_IN.size else abi.INIT_IN_COMPAT
    try:
        request = abi.InitIn(*layout.unpack_from(data))
    except struct.error as error:
        raise OSError(errno.EINVAL, f"malformed INIT: {error}") from error
    locks = abi.INIT_POSIX_LOCKS if engine.operations.lock is not None else 0
    locks |= abi.INIT_FLOCK_LOCKS if engine.operations.flock is not None else 0
    return negotiation.negotiate(request, engine.options, engine.wanted, locks)


def destroy(engine: "Engine", node: Node) -> bytes:
    """Answer; fsdestroy is called when the loop has ended, which not every kernel announces."""
    return b""


def interrupt(engine: "Engine", node: Node, unique: int) -> None:
    """Ask a waiting request to end. There is no answer: the request's own is the answer."""
    engine.waits.interrupt(unique)


def statfs(engine: "Engine", node: Node) -> bytes:
    """Return size and room: the path's if the handler takes one, as fuse-python's does not."""
    operations = engine.operations
    if operations.statfs is None:  # what libfuse answers: lib/fuse.c, fuse_lib_statfs
        return abi.STATFS_OUT.pack(0, 0, 0, 0, 0, 512, 255, 0)
    if operations.takes("statfs", 1):
        try:
            status = engine.call_by_path("statfs", node)
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
            status = call(operations.statfs, "/")
    else:
        status = call(operations.statfs)
    return abi.STATFS_OUT.pack(
        int(status.f_blocks),
        int(status.f_bfree),
        int(status.f_bavail),
        int(status.f_files),
        int(status.f_ffree),
        int(status.f_bsize),
        int(status.f_namemax),
        int(status.f_frsize),
    )


def syncfs(engine: "Engine", node: Node, padding: int) -> bytes:
    """Bring the whole filesystem to the disk."""
    call(engine.required("syncfs"))
    return b""
