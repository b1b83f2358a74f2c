"""
Restore what was changed while the balancer ran before.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from iawlb.backend.address import sameDestination
from iawlb.balancer import Balancer
from iawlb.config.keys import DESTINATION, POOL
from iawlb.config.model import Configuration, DestinationConfig
from iawlb.control.build import valuesOf
from iawlb.control.overlay import (
    VALUES,
    Difference,
    destinationValues,
    memberValues,
    written,
)
from iawlb.control.statefile import BadState
from iawlb.core.pause import Pause
from iawlb.pool import Pool


class Superseded(Exception):
    """
    A difference no longer holds, since the configuration has changed there; the message
    says how.
    """


class Restorer:
    """
    Makes the differences again that a balancer had from its configuration, before it is
    started. Where the configuration has changed since, it holds.
    """

    def __init__(self, balancer: Balancer, of: Configuration, now: float) -> None:
        """
        @param of: The configuration that the balancer was made from.
        @param now: The monotonic time.
        """
        self._balancer = balancer
        self._configuration = of
        self._now = now

    def restore(self, difference: Difference, address: str | None) -> None:
        """
        Make a difference again.

        @param address: The address of the destination that was paused or drained.
        @raise Superseded: The configuration has changed there.
        @raise BadState: The difference cannot be made.
        @raise InvalidSetting: A value is out of its limits.
        """
        pool = self._balancer.pools.get(difference.pool)
        if pool is None:
            raise Superseded("the pool is gone")
        if difference.destination is None:
            self._restorePool(pool, difference)
            return
        config = self._configuration.pools[pool.name].destinations.get(
            difference.destination
        )
        if difference.key is None:
            self._restoreMember(pool, difference, config)
        elif difference.key in VALUES:
            self._restoreValue(pool, difference, config)
        else:
            self._restoreState(pool, difference, address)

    def _restorePool(self, pool: Pool, difference: Difference) -> None:
        key, runtime = difference.key, difference.runtime
        if key == "paused":
            self._checkTime(runtime)
            pool.pause(runtime.by, runtime.maxPause, runtime.until)
            pool.gate.paused = runtime  # which has begun earlier
            return
        if key == "stopped":
            pool.refuse(True)
            return
        configured = self._configuration.pools[pool.name].settings
        if key is None or key not in POOL:
            raise BadState("there is no such setting")
        name = POOL[key].name
        self._checkFile(written(getattr(configured, name)), difference.file)
        pool.configure(replace(pool.settings, **{name: runtime}))

    def _restoreMember(
        self, pool: Pool, difference: Difference, config: DestinationConfig | None
    ) -> None:
        """
        Add a destination again, or remove it again.
        """
        name, runtime = difference.destination, difference.runtime
        assert name is not None
        if runtime is None:
            settings = self._configuration.pools[pool.name].settings
            configured = memberValues(config, settings) if config else None
            self._checkFile(configured, difference.file)
            pool.remove(name)
            return
        if config is not None:
            raise Superseded(f"{config.origin} has it now")
        if not isinstance(runtime, dict) or not isinstance(runtime.get("address"), str):
            raise BadState("it has no address")
        own = {
            of.name: runtime[key] for key, of in DESTINATION.items() if key in runtime
        }
        pool.add(runtime["address"], {**own, "name": name})

    def _restoreValue(
        self, pool: Pool, difference: Difference, config: DestinationConfig | None
    ) -> None:
        """
        Give a destination the address or the setting again that it had.
        """
        name, key = difference.destination, difference.key
        if config is None or name not in pool.workers:
            raise Superseded("the destination is gone")
        assert key is not None
        self._checkFile(destinationValues(config)[key], difference.file)
        if key == "address":
            if not isinstance(difference.runtime, str):
                raise BadState("its address is no text")
            pool.replace(name, difference.runtime, valuesOf(config.settings))
        else:
            own: Any = {DESTINATION[key].name: difference.runtime}
            settings = pool.workers[name].destination.settings
            pool.configureDestination(name, replace(settings, **own))

    def _restoreState(
        self, pool: Pool, difference: Difference, address: str | None
    ) -> None:
        """
        Pause or drain a destination again.
        """
        name, runtime = difference.destination, difference.runtime
        worker = pool.workers.get(name or "")
        if worker is None:
            raise Superseded("the destination is gone")
        now = worker.destination
        if address is None or not sameDestination(address, now.address):
            raise Superseded(f"the destination's address is {now.address} now")
        if difference.key == "drained":
            pool.drain(now.name)
        elif difference.key == "paused":
            self._checkTime(runtime)
            pool.setPaused(now.name, True, runtime.by, runtime.until)
            now.pause = runtime
        else:
            raise BadState(f"there is no state {difference.key!r}")

    def _checkTime(self, pause: Pause) -> None:
        if pause.until is not None and pause.until <= self._now:
            raise Superseded(f"the pause by {pause.by!r} is over")

    def _checkFile(self, now: Any, then: Any) -> None:
        """
        Check that the configuration says what it said when the difference was made.

        @raise Superseded: It says something else now.
        """
        if now != then:
            raise Superseded(f"the configuration has changed: {then!r} is {now!r} now")
