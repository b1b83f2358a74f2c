"""
What the pools of a balancer share.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from iawlb.core.events import Events
from iawlb.core.table import SessionTable
from iawlb.frontend.routing import Router
from iawlb.programs.shared import Programs
from iawlb.relay.context import RelayContext
from iawlb.relay.throttle import Throttle


@dataclass(frozen=True, slots=True)
class Shared:
    """
    What the pools of a balancer share.

    @ivar reactor: The reactor.
    @ivar clock: The reactor's monotonic time, which no change of the wall clock moves.
    @ivar events: The observers, to which every step is reported.
    @ivar table: All sessions that live.
    @ivar context: What all connections share.
    @ivar programs: The programs that were started for destinations.
    @ivar pools: The pools of the balancer, by their names.
    @ivar throttle: Reads again the connections with a bandwidth limit.
    @ivar router: Which pools take the clients of which pool's listeners.
    """

    reactor: Any
    clock: Any
    events: Events
    table: SessionTable
    context: RelayContext
    programs: Programs
    pools: Mapping[str, Any]
    throttle: Throttle
    router: Router
