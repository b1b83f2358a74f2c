"""
What all connections of a balancer share.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

from iawlb.relay.poller import SocketPoller
from iawlb.relay.resets import ResetWatch
from iawlb.relay.sends import SendWatch


@dataclass(frozen=True, slots=True)
class RelayContext:
    """
    What all connections of a balancer share.

    @ivar bufferSize: Bytes read at a time, and bytes held for a slow reader.
    @ivar poller: Serves plain sockets, or L{None} when every connection is a transport
        of Twisted's.
    @ivar resets: Detects resets on connections that are not being read.
    @ivar sends: Waits until the kernel has sent what was written.
    @ivar strictTls: Whether a TLS connection that ends without close_notify counts as
        cut off.
    @ivar seconds: Returns the time of the monotonic clock.
    """

    bufferSize: int
    poller: SocketPoller | None = None
    resets: ResetWatch = field(default_factory=ResetWatch)
    sends: SendWatch = field(default_factory=SendWatch)
    seconds: Callable[[], float] = monotonic
    strictTls: bool = False
