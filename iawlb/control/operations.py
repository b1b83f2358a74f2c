"""
What a user does to a running balancer: pause, resume, stop, drain, deploy and so on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from iawlb.arguments import shown
from iawlb.balancer import Balancer
from iawlb.config.keys import DESTINATION, POOL, remote
from iawlb.control.answers import DONE, LEFT, UNDONE, Answer, answer
from iawlb.control.bodies import (
    ADD,
    DRAIN,
    PAUSE,
    REMOVE,
    RESUME,
    TARGET,
    WAIT,
    ownSettings,
    readArguments,
    readSettings,
)
from iawlb.control.deploy import DEPLOY, Deploy, bringBack
from iawlb.control.drains import Drains, Undone, cut
from iawlb.control.errors import InvalidSetting, NotFound
from iawlb.control.targets import Target, findPool, findTarget, findWorker, nameOf
from iawlb.control.waits import Waits, apart
from iawlb.core.condition import SERVING
from iawlb.core.routes import ROUTED
from iawlb.pool import Pool
from iawlb.setting import byOption
from iawlb.settings import DestinationSettings, inherited


class Operations:
    """
    The operations on a running balancer. Each is a coroutine that returns when it is
    done, or when its time is over.

    The result is a dictionary. C{result} is C{done}; C{left} if sessions were left when
    the time was over; or C{undone} if somebody has undone the operation meanwhile, or
    the operation has changed nothing. C{left} is the number of sessions that are left,
    and C{messages} is a list of lines for people.

    The arguments are those of the HTTP API, by keyword; C{by} names the person or
    program that asks. An operation that has begun goes on when its asker no longer
    waits.

    All raise L{InvalidSetting} for a wrong argument, L{NotFound} for a target that does
    not exist, and L{Conflict<iawlb.control.errors.Conflict>} for what cannot be done
    now.
    """

    def __init__(self, balancer: Balancer) -> None:
        self.balancer = balancer
        self._waits = Waits(balancer.clock)
        self._drains = Drains(balancer, self._waits)
        self._deploys = Deploy(balancer, self._waits)

    def close(self) -> None:
        """
        End all waits, because the balancer stops. The operations that wait return with
        what is left.
        """
        self._waits.stop()

    # Pauses.

    async def pause(self, *, by: str = "", **given: object) -> Answer:
        """
        Hold the new clients of pools, or keep them from a destination, and wait until
        the sessions have finished.

        All pools are those that exist now: a pool that is added later is not paused.

        @keyword target: C{*} for all pools, a pool, or a destination.
        @keyword maxPause: The longest time that one client waits; for pools alone.
        @keyword drainTimeout: How long to wait for the sessions.
        @keyword for: How long the pause lasts, if nobody resumes before.
        @keyword wait: Whether to return only when the sessions have finished.
        @keyword kill: Whether to cut the sessions that are left after C{drainTimeout}.
        """
        values = readArguments(given, PAUSE, "pause")
        target = findTarget(self.balancer, values["target"])
        if target.worker is not None and values["maxPause"] is not None:
            raise InvalidSetting(
                f"maxPause: {target.name} is a destination, whose clients go to the "
                "others: pause its pool"
            )
        seconds = values["for"]
        until = None if seconds is None else self.balancer.clock.seconds() + seconds
        if target.worker is None:
            for pool in target.pools:
                pool.pause(by, values["maxPause"], until)
        else:
            name = target.worker.destination.name
            target.pools[0].setPaused(name, True, by, until)
        return await self._finish(target, _resumed(target), values, "drainTimeout")

    async def resume(self, *, by: str = "", **given: object) -> Answer:
        """
        Undo a pause, a stop, or the drain or the removal of a destination.

        @keyword target: C{*} for all pools, a pool, or a destination.
        @keyword spread: The time over which the clients are served that wait now; for
            pools alone.
        """
        values = readArguments(given, RESUME, "resume")
        target = findTarget(self.balancer, values["target"])
        messages = []
        if target.worker is None:
            for pool in target.pools:
                pool.resume(values["spread"], by)
                messages += [
                    f"{nameOf(pool, each)} is still {each.destination.state}"
                    for each in pool.workers.values()
                    if each.destination.paused or each.destination.draining
                ]
        else:
            if values["spread"]:
                raise InvalidSetting(
                    f"spread: {target.name} is a destination: resume its pool"
                )
            (pool,) = target.pools
            bringBack(pool, target.worker)
            pool.setPaused(target.worker.destination.name, False, by)
        self._waits.check()
        return answer(messages=messages)

    async def stop(self, *, by: str = "", **given: object) -> Answer:
        """
        Refuse the new clients of pools at once. L{resume} undoes that.

        @keyword target: C{*} for all pools, or a pool.
        """
        values = readArguments(given, TARGET, "stop")
        target = findTarget(self.balancer, values["target"])
        if target.worker is not None:
            raise InvalidSetting(
                f"target: {target.name} is a destination: drain it, or stop its pool"
            )
        for pool in target.pools:
            pool.refuse(True, by)
        return answer(left=target.active)

    # Destinations.

    async def drain(self, *, by: str = "", **given: object) -> Answer:
        """
        Give a destination no more sessions, and wait until it has none. L{resume}
        undoes that.

        @keyword target: The destination.
        @keyword timeout: How long to wait for the sessions.
        @keyword wait: Whether to return only when the sessions have finished.
        @keyword kill: Whether to cut the sessions that are left after C{timeout}.
        """
        values = readArguments(given, DRAIN, "drain")
        target = findTarget(self.balancer, values["target"])
        if target.worker is None:
            raise InvalidSetting(
                f"target: {shown(values['target'])} is not a destination: pause a pool"
            )
        # Once is enough: each call leaves somebody who waits.
        if not target.worker.destination.draining:
            target.pools[0].drain(target.worker.destination.name)
        return await self._finish(target, _back(target), values, "timeout")

    async def _finish(
        self, target: Target, undone: Undone, values: Mapping[str, Any], timeout: str
    ) -> Answer:
        self._waits.check()
        return await apart(
            self._drains.finish(
                target, undone, values[timeout], values["wait"], values["kill"]
            )
        )

    async def deploy(self, *, by: str = "", **given: object) -> Answer:
        """
        Replace the destinations of a pool by new ones: wait until a connect to each new
        one succeeds, let them take the place of the others, and wait until these are
        drained and removed. If the new ones are not ready in time, nothing has changed.

        @keyword pool: The pool's name.
        @keyword destinations: The new destinations: each an address, or a dictionary
            with C{address}, C{name}, C{slots} and C{weight}.
        @keyword deployTimeout: How long the new ones may take to be ready.
        @keyword drainTimeout: How long to wait for the sessions of the others.
        @keyword force: Whether not to wait until the new ones are ready.
        """
        values = readArguments(given, DEPLOY, "deploy")
        pool = findPool(self.balancer, values["pool"])
        return await apart(
            self._deploys.run(
                pool,
                values["destinations"],
                values["deployTimeout"],
                values["drainTimeout"],
                values["force"],
                by,
            )
        )

    async def wait(self, *, by: str = "", **given: object) -> Answer:
        """
        Wait for a state of a target.

        @keyword target: C{*} for all pools, a pool, or a destination.
        @keyword until: C{drained}, no session holds a slot; C{removable}, the same
            while no new session can come; or C{up}.
        @keyword timeout: How long to wait.
        """
        values = readArguments(given, WAIT, "wait")
        target = findTarget(self.balancer, values["target"])
        reached = _CONDITIONS[values["until"]]
        await self._waits.until(
            lambda: target.gone or reached(target), values["timeout"]
        )
        if target.gone and values["until"] == "up":
            return answer(UNDONE, 0, [f"{target.name} was removed"])
        if target.gone or reached(target):
            return answer(DONE, target.active)
        lines = target.notUp() if values["until"] == "up" else []
        return answer(LEFT, target.active, [f"timed out: {each}" for each in lines])

    async def add(self, *, by: str = "", **given: object) -> Answer:
        """
        Add a destination.

        @keyword pool: The pool's name.
        @keyword address: The address, as after C{--dest}.
        @keyword name: The name; by default the address.
        The other keywords are settings of a destination, by their names in a
        configuration file.
        """
        values = readArguments(given, ADD, "add")
        pool = findPool(self.balancer, values.pop("pool"))
        address = values.pop("address")
        try:
            destination = pool.add(address, ownSettings(values))
        except InvalidSetting as error:
            raise InvalidSetting(byOption(error)) from error
        return answer(pool=pool.name, name=destination.name)

    async def remove(self, *, by: str = "", **given: object) -> Answer:
        """
        Give a destination no more sessions, wait until it has none, and remove it. If
        sessions are left when the time is over, it is removed when they end.

        @keyword pool: The pool's name.
        @keyword name: The destination's name.
        @keyword timeout: How long to wait for the sessions.
        @keyword kill: Whether to cut the sessions that are left after C{timeout}.
        """
        values = readArguments(given, REMOVE, "remove")
        pool = findPool(self.balancer, values["pool"])
        worker = findWorker(pool, values["name"])
        target = Target((pool,), worker)
        if not worker.destination.removing:
            pool.remove(values["name"])
        values["wait"] = True
        return await self._finish(target, _back(target), values, "timeout")

    # Values.

    async def set(
        self, *, target: object, values: Mapping[str, object], by: str = ""
    ) -> Answer:
        """
        Change values of a pool or a destination. What a pool gets is also for its
        destinations, but for those that have a value of their own.

        @param target: A pool or a destination.
        @param values: Settings that can change while the balancer runs, by their names
            in a configuration file.
        """
        name = readArguments({"target": target}, TARGET, "set")["target"]
        found = findTarget(self.balancer, name)
        if not values:
            raise InvalidSetting("set: there is nothing to set, such as slots")
        if found.worker is None:
            new = readSettings(values, remote(POOL), "a pool")
            changed = {each.name: replace(each.settings, **new) for each in found.pools}
            if found.pools and ROUTED & new.keys():
                found.pools[0].router.check(changed)
            _passOn(found.pools, new)
            for pool in found.pools:
                pool.configure(changed[pool.name])
        else:
            own = readSettings(values, remote(DESTINATION), "a destination")
            (pool,), destination = found.pools, found.worker.destination
            settings = replace(destination.settings, **own)
            pool.configureDestination(destination.name, settings)
        return answer()

    async def kill(self, *, id: int, by: str = "") -> Answer:
        """
        End a session at once.

        @param id: The session's number.
        """
        for session in self.balancer.sessions:
            if session.number == id:
                cut(session)
                return answer()
        raise NotFound(f"there is no session {shown(id)}")


def _passOn(pools: Iterable[Pool], new: Mapping[str, Any]) -> None:
    """
    Give new values of pools to those of their destinations that have the former ones.

    @raise InvalidSetting: A destination cannot have the values; none is changed.
    """
    undo: list[tuple[Pool, str, DestinationSettings]] = []
    try:
        for pool in pools:
            former = inherited(pool.settings, DestinationSettings)
            names = former.keys() & new.keys()
            for worker in [*pool.workers.values()]:
                own = worker.destination.settings
                theirs: Any = {
                    each: new[each]
                    for each in names
                    if getattr(own, each) == former[each]
                }
                pool.configureDestination(own.name, replace(own, **theirs))
                undo.append((pool, own.name, own))
    except InvalidSetting as error:
        for pool, name, own in undo:
            pool.configureDestination(name, own)
        raise InvalidSetting(byOption(error)) from error


def _resumed(target: Target) -> Undone:
    """
    Return a function that says whether a pause that begins now is undone.
    """
    pauses = {pool: pool.gate.pauses for pool in target.pools}
    worker = target.worker

    def undone() -> str | None:
        if worker is not None:
            paused = worker.destination.paused or target.gone
            return None if paused else f"{target.name} was resumed"
        for pool, number in pauses.items():
            if pool.gate.paused is None or pool.gate.pauses != number:
                return f"pool {pool.name} was resumed"
        return None

    return undone


def _back(target: Target) -> Undone:
    """
    Return a function that says whether the drain of a destination is undone.
    """

    def undone() -> str | None:
        worker = target.worker
        if worker is None or worker.destination.draining or target.gone:
            return None
        return f"{target.name} takes sessions again"

    return undone


def _drained(target: Target) -> bool:
    return not target.active


def _removable(target: Target) -> bool:
    if target.active:
        return False
    if all(each.gate.paused is not None or each.stopped for each in target.pools):
        return True
    if target.worker is None:
        return False
    destination = target.worker.destination
    return destination.paused or destination.draining


def _up(target: Target) -> bool:
    if target.worker is not None:
        # A backup that is not needed is as well as it can be.
        return target.worker.destination.state in (*SERVING, "standby")
    return all(each.state == "up" for each in target.pools)


_CONDITIONS: dict[str, Callable[[Target], bool]] = {
    "drained": _drained,
    "removable": _removable,
    "up": _up,
}
