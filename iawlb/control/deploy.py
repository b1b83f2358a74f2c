"""
Deploy: replace the destinations of a pool by new ones, once these are ready.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from iawlb.arguments import shown
from iawlb.balancer import Balancer
from iawlb.control.answers import DONE, LEFT, UNDONE, Answer, answer, sessions
from iawlb.control.bodies import (
    DESTINATION,
    Argument,
    ownSettings,
    readArguments,
    text,
)
from iawlb.control.errors import Conflict, InvalidSetting
from iawlb.control.targets import nameOf
from iawlb.control.waits import Waits
from iawlb.pool import Pool
from iawlb.setting import byOption, checkNames, splitSettings
from iawlb.settings import DestinationSettings
from iawlb.validators import duration, flag, positiveDuration
from iawlb.workers.worker import Worker

MOST = 10_000
"""
The number of destinations that one deploy may bring.
"""


def bringBack(pool: Pool, worker: Worker) -> None:
    """
    Let a destination take sessions again that is drained or being removed.
    """
    if worker.destination.removing:
        pool.keep(worker.destination.name)
    elif worker.destination.draining:
        pool.undrain(worker.destination.name)


def readDestinations(value: object) -> list[dict[str, Any]]:
    """
    Read the new destinations of a deploy.

    @raise InvalidSetting: The value is no list of destinations, or one is wrong.
    """
    if not isinstance(value, list | tuple) or not 0 < len(value) <= MOST:
        raise InvalidSetting(
            f"{shown(value)} is not a list of 1 to {MOST} destinations"
        )
    found = []
    for index, each in enumerate(value):
        if isinstance(each, str):
            each = {"address": each}
        if not isinstance(each, dict):
            raise InvalidSetting(f"[{index}] {shown(each)} is not a destination")
        try:
            found.append(readArguments(each, DESTINATION, "a destination"))
        except InvalidSetting as error:
            raise InvalidSetting(f"[{index}] {error}") from None
    return found


DEPLOY = {
    "pool": Argument(text),
    "destinations": Argument(readDestinations),
    "deployTimeout": Argument(positiveDuration, 30.0),
    "drainTimeout": Argument(duration, 30.0),
    "force": Argument(flag, False),
}


class Deploy:
    """
    Deploys: one at a time for each pool, until its new destinations serve.
    """

    def __init__(self, balancer: Balancer, waits: Waits) -> None:
        self._balancer = balancer
        self._waits = waits
        self._underWay: set[Pool] = set()

    async def run(
        self,
        pool: Pool,
        wanted: Sequence[dict[str, Any]],
        deployTimeout: float,
        drainTimeout: float,
        force: bool,
        by: str,
    ) -> Answer:
        """
        Bring the new destinations, wait until a connect to each succeeds, let them take
        the place of the others, and remove those when they are drained.

        A destination of the pool that is among the new ones, by its name and address,
        stays. If a new one is not ready in time, nothing has changed.

        @raise InvalidSetting: A destination is wrong; nothing has changed.
        @raise Conflict: Another deploy of the pool is under way, or a name is taken.
        """
        if pool in self._underWay:
            raise Conflict(f"another deploy of pool {pool.name} is under way")
        self._underWay.add(pool)
        new: list[Worker] = []
        try:
            kept = self._bring(pool, wanted, force, new)
            missing = await self._missing(pool, new, deployTimeout)
        except BaseException:
            self._takeBack(pool, new)
            raise
        finally:
            self._underWay.discard(pool)
        if missing:
            self._takeBack(pool, new)
            return answer(UNDONE, 0, missing)
        old = self._swap(pool, new, kept, by)
        result = await self._finish(pool, new, old, drainTimeout)
        result["messages"] += [
            f"{nameOf(pool, each)} is still paused"
            for each in kept
            if each.destination.paused
        ]
        return result

    def _bring(
        self,
        pool: Pool,
        wanted: Iterable[dict[str, Any]],
        force: bool,
        new: list[Worker],
    ) -> dict[Worker, DestinationSettings]:
        """
        Add the new destinations, which take no sessions yet.

        @param new: Gets the workers of the destinations that were added.
        @return: The workers of the destinations that are there already, each with the
            settings that were asked for.
        """
        kept: dict[Worker, DestinationSettings] = {}
        for index, each in enumerate(wanted):
            given = ownSettings(each)
            address = given.pop("address")
            try:
                plain, behind = splitSettings(address)
                name = given.get("name") or behind.get("name") or plain
                there = pool.workers.get(name)
                if there is None:
                    added = pool.add(address, given, ready=force)
                    new.append(pool.workers[added.name])
                    continue
                checkNames(behind, DestinationSettings, "a destination", behind=True)
                own: Any = {**behind, **given, "name": name}
                settings = replace(there.destination.settings, **own)
            except InvalidSetting as error:
                raise InvalidSetting(
                    f"destinations: [{index}] {byOption(error)}"
                ) from None
            if there in new or there in kept:
                raise InvalidSetting(
                    f"destinations: [{index}] {shown(name)} is given twice"
                )
            self._checkSame(pool, there, plain)
            kept[there] = settings
        return kept

    def _checkSame(self, pool: Pool, there: Worker, address: str) -> None:
        """
        Check that a destination that has the name of a new one is the same.

        @raise Conflict: It is another.
        """
        if there.destination.address != address:
            raise Conflict(
                f"{nameOf(pool, there)} is {there.destination.address}: give the new "
                "one another name"
            )

    async def _missing(
        self, pool: Pool, new: Sequence[Worker], seconds: float
    ) -> list[str]:
        """
        Wait until all new destinations are ready.

        @return: A line for each that is not ready when the time is over, or one if the
            pool was removed meanwhile.
        """

        def removed() -> bool:
            return self._balancer.pools.get(pool.name) is not pool

        def missing() -> list[Worker]:
            found = [each for each in new if _whyNot(pool, each) is not None]
            for each in found:
                each.hurry()
            return found

        if missing():
            await self._waits.until(lambda: removed() or not missing(), seconds)
        if removed():
            return [f"pool {pool.name} was removed"]
        return [
            f"{nameOf(pool, each)} is not ready: {_whyNot(pool, each)}"
            for each in missing()
        ]

    def _takeBack(self, pool: Pool, new: Iterable[Worker]) -> None:
        """
        Remove the new destinations.
        """
        for each in new:
            name = each.destination.name
            if pool.workers.get(name) is each:
                pool.remove(name)

    def _swap(
        self,
        pool: Pool,
        new: Sequence[Worker],
        kept: dict[Worker, DestinationSettings],
        by: str,
    ) -> list[Worker]:
        """
        Let the new destinations take the place of the others.

        @return: The workers of the others, which drain.
        """
        old = [
            each
            for each in pool.workers.values()
            if each not in new and each not in kept and not each.destination.removing
        ]
        for each in new:
            pool.setPaused(each.destination.name, False, by)
        for each, settings in kept.items():
            bringBack(pool, each)
            pool.configureDestination(each.destination.name, settings)
        for each in old:
            if not each.destination.draining:
                pool.drain(each.destination.name)
        self._waits.check()
        return old

    async def _finish(
        self, pool: Pool, new: Iterable[Worker], old: Sequence[Worker], seconds: float
    ) -> Answer:
        """
        Wait until the other destinations are drained, and remove them.
        """

        def there() -> list[Worker]:
            return [
                each for each in old if pool.workers.get(each.destination.name) is each
            ]

        def back() -> list[Worker]:
            return [each for each in there() if not each.destination.draining]

        def left() -> int:
            return sum(each.destination.active for each in there())

        await self._waits.until(lambda: not left() or bool(back()), seconds)
        messages = [f"{nameOf(pool, each)} takes sessions again" for each in back()]
        result = UNDONE if messages else LEFT if left() else DONE
        for each in there():
            destination = each.destination
            if destination.draining:
                if destination.active:
                    messages.append(
                        f"{nameOf(pool, each)} still has "
                        f"{sessions(destination.active)}, and is removed then"
                    )
                pool.remove(destination.name)
        added = [each.destination.name for each in new]
        removed = [each.destination.name for each in old]
        return answer(result, left(), messages, added=added, removed=removed)


def _whyNot(pool: Pool, worker: Worker) -> str | None:
    """
    Return why a new destination is not ready, or L{None} if it is.
    """
    if pool.workers.get(worker.destination.name) is not worker:
        return "it was removed"
    return worker.destination.why
