"""
What was changed while the balancer ran, and so differs from its configuration.

Nobody has to report a change: the balancer is compared with its configuration. Each
difference has the value of the configuration beside it. So when the configuration is
read again, a value that changed there wins, and a value that did not leaves the
difference as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from iawlb.backend.address import sameDestination
from iawlb.balancer import Balancer
from iawlb.config.keys import DESTINATION, POOL
from iawlb.config.model import Configuration, DestinationConfig, PoolConfig
from iawlb.config.wording import pathOf
from iawlb.control.plan import Where
from iawlb.core.destination import Destination
from iawlb.pool import Pool
from iawlb.settings import DestinationSettings, Settings, inherited

VALUES = ("address", *DESTINATION)
"""
What the configuration says of a destination.
"""


@dataclass(frozen=True, slots=True)
class Difference:
    """
    One difference between a balancer and its configuration.

    @ivar where: The place: C{("pools", "web", "destinations", "a", "slots")}; one that
        ends with C{paused}, C{stopped} or C{drained} for a state, and one that ends
        with the name of a destination that was added or removed.
    @ivar file: The value in the configuration; L{None} for what it does not have.
    @ivar runtime: The value now; L{None} for a destination that was removed, and a
        L{Pause} for C{paused}.
    """

    where: Where
    file: Any
    runtime: Any

    @property
    def path(self) -> str:
        """
        The place, as messages name it.
        """
        return pathOf(self.where)

    @property
    def pool(self) -> str:
        """
        The pool's name.
        """
        return self.where[1]

    @property
    def destination(self) -> str | None:
        """
        The destination's name, if it concerns one.
        """
        return self.where[3] if len(self.where) > 3 else None

    @property
    def key(self) -> str | None:
        """
        What of the pool or destination differs; L{None} if a destination was added or
        removed.
        """
        if self.destination is None:
            return self.where[2]
        return self.where[4] if len(self.where) > 4 else None


def differences(balancer: Balancer, of: Configuration) -> Iterator[Difference]:
    """
    Iterate over the differences between a balancer and its configuration.
    """
    for found in steps(balancer, of):
        yield from found


def steps(balancer: Balancer, of: Configuration) -> Iterator[list[Difference]]:
    """
    Compare step by step, as there may be a thousand destinations: in each step one
    pool, or one of its destinations.

    @return: Iterates over what differs in each step, which is nothing in most.
    """
    for name, config in of.pools.items():
        pool = balancer.pools.get(name)
        if pool is not None:
            yield list(_ofPool(pool, config))
            yield from _ofDestinations(pool, config)


def _ofPool(pool: Pool, config: PoolConfig) -> Iterator[Difference]:
    """
    Iterate over the differences of a pool without its destinations.
    """
    where: Where = ("pools", pool.name)
    if pool.gate.paused is not None:
        yield Difference((*where, "paused"), None, pool.gate.paused)
    if pool.stopped:
        yield Difference((*where, "stopped"), False, True)
    for key, each in POOL.items():
        file = written(getattr(config.settings, each.name))
        runtime = written(getattr(pool.settings, each.name))
        if file != runtime:
            yield Difference((*where, key), file, runtime)


def _ofDestinations(pool: Pool, config: PoolConfig) -> Iterator[list[Difference]]:
    """
    Compare the destinations of a pool, in each step one.
    """
    where: Where = ("pools", pool.name, "destinations")
    live = {
        name: worker.destination
        for name, worker in pool.workers.items()
        if not worker.destination.removing
    }
    for name, destination in live.items():
        configured = config.destinations.get(name)
        yield list(_ofDestination((*where, name), destination, configured, pool))
    for name, missing in config.destinations.items():
        if name not in live:
            values = memberValues(missing, config.settings)
            yield [Difference((*where, name), values, None)]


def _ofDestination(
    where: Where, now: Destination, config: DestinationConfig | None, pool: Pool
) -> Iterator[Difference]:
    """
    Iterate over the differences of a destination that is there.
    """
    if config is None:
        yield Difference(where, None, memberValues(now, pool.settings))
    else:
        configured = destinationValues(config)
        for key, runtime in _values(now.address, now.settings).items():
            file = configured[key]
            if file != runtime and not (
                key == "address" and sameDestination(file, runtime)
            ):
                yield Difference((*where, key), file, runtime)
    if now.paused:
        yield Difference((*where, "paused"), None, now.pause)
    if now.draining:
        yield Difference((*where, "drained"), False, True)


def memberValues(of: Destination | DestinationConfig, pool: Settings) -> dict[str, Any]:
    """
    Return what tells a destination from the others of its pool: the address, slots,
    weight, and the settings that are not those of every destination.

    @param pool: The settings of the pool.
    """
    own = _values(of.address, of.settings)
    others = DestinationSettings(**inherited(pool, DestinationSettings))
    usual = _values("", others)
    return {
        key: value
        for key, value in own.items()
        if key in ("slots", "weight")
        # What a program has given as a function cannot be written.
        or (value != usual[key] and not callable(value))
    }


def destinationValues(config: DestinationConfig) -> dict[str, Any]:
    """
    Return what a configuration says of a destination: the address, and the settings by
    their names in a file.
    """
    return _values(config.address, config.settings)


def _values(address: str, settings: DestinationSettings) -> dict[str, Any]:
    found = {
        key: written(getattr(settings, of.name)) for key, of in DESTINATION.items()
    }
    return {"address": address, **found}


def written(value: Any) -> Any:
    """
    Return the value of a setting as a state file has it: a tuple becomes a list.
    """
    return [written(each) for each in value] if isinstance(value, tuple) else value
