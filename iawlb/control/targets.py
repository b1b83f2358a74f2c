"""
What an operation is about: all pools, one pool, or one destination.
"""

from __future__ import annotations

from dataclasses import dataclass

from iawlb.arguments import shown
from iawlb.balancer import Balancer
from iawlb.control.errors import InvalidSetting, NotFound
from iawlb.core.session import Session
from iawlb.pool import Pool
from iawlb.setting import nearest
from iawlb.workers.serving import Serving
from iawlb.workers.worker import Worker

ALL = "*"
MOST_NAMES = 10
MOST_COMPARED = 100
"""
The number of names that a message lists, and that are compared with a wrong name.
"""


@dataclass(frozen=True, slots=True)
class Target:
    """
    The pools, or the one destination, that an operation is about.

    @ivar pools: The pools; of a destination its pool alone.
    @ivar worker: The worker of the destination; L{None} if the target is whole pools.
    """

    pools: tuple[Pool, ...]
    worker: Worker | None = None

    @property
    def name(self) -> str:
        """
        The name of the target, for people.
        """
        names = ", ".join(each.name for each in self.pools)
        return names if self.worker is None else nameOf(self.pools[0], self.worker)

    @property
    def active(self) -> int:
        """
        The number of sessions that hold a slot.
        """
        if self.worker is not None:
            return self.worker.destination.active
        return sum(each.active for each in self.pools)

    @property
    def gone(self) -> bool:
        """
        Whether the destination was removed.
        """
        worker = self.worker
        workers = self.pools[0].workers if self.pools else {}
        return worker is not None and workers.get(worker.destination.name) is not worker

    def notUp(self) -> list[str]:
        """
        Return a line for the destination, or for each pool, that is not up.
        """
        if self.worker is not None:
            found = self.worker.destination
            why = f": {found.why}" if found.why else ""
            return [f"{self.name} is {found.state}{why}"]
        down = [each for each in self.pools if each.state != "up"]
        return [f"{each.name} is {each.state}" for each in down[:MOST_NAMES]]

    def holds(self, session: Session) -> bool:
        """
        Return whether a session holds a slot of the target.
        """
        holder = getattr(session, "holder", None)
        if not isinstance(holder, Serving) or not holder.holdsSlot:
            return False
        if self.worker is not None and session.destination != (
            self.worker.destination.name
        ):
            return False
        return any(session.pool == each.name for each in self.pools)


def nameOf(pool: Pool, worker: Worker) -> str:
    """
    Return the name of a destination with that of its pool.
    """
    return f"{pool.name}/{worker.destination.name}"


def findTarget(balancer: Balancer, text: str) -> Target:
    """
    Find a target.

    @param text: C{*} for all pools, or the name of a pool or of a destination. The
        latter needs C{POOL/} before it if several pools have such a destination.
    @raise NotFound: There is no such pool or destination.
    @raise InvalidSetting: Several pools have such a destination.
    """
    pools = balancer.pools
    if text == ALL:
        return Target(tuple(pools.values()))
    if text in pools:
        return Target((pools[text],))
    name, _, behind = text.partition("/")
    if name in pools and behind in pools[name].workers:
        return Target((pools[name],), pools[name].workers[behind])
    found = [each for each in pools.values() if text in each.workers]
    if len(found) > 1:
        names = " or ".join(f"{each.name}/{text}" for each in found[:MOST_NAMES])
        raise InvalidSetting(
            f"target: {shown(text)} is a destination of {len(found)} pools: write "
            f"{names}"
        )
    if found:
        return Target((found[0],), found[0].workers[text])
    known = list(pools)
    for pool in pools.values():
        known += [nameOf(pool, each) for each in pool.workers.values()]
    raise NotFound(
        f"there is no pool or destination {shown(text)}{_instead(text, known)}"
    )


def findPool(balancer: Balancer, name: str) -> Pool:
    """
    Find a pool.

    @raise NotFound: There is no pool of that name.
    """
    pool = balancer.pools.get(name)
    if pool is None:
        raise NotFound(
            f"there is no pool {shown(name)}{_instead(name, list(balancer.pools))}"
        )
    return pool


def findWorker(pool: Pool, name: str) -> Worker:
    """
    Find the worker of a destination.

    @raise NotFound: The pool has no destination of that name.
    """
    worker = pool.workers.get(name)
    if worker is None:
        instead = _instead(name, list(pool.workers))
        raise NotFound(f"pool {pool.name} has no destination {shown(name)}{instead}")
    return worker


def _instead(text: str, known: list[str]) -> str:
    meant = nearest(text[:MOST_COMPARED], known[:MOST_COMPARED])
    if meant is not None:
        return f": write {meant}"
    names = ", ".join(known[:MOST_NAMES]) or "none"
    more = ", ..." if len(known) > MOST_NAMES else ""
    return f"; there is {names}{more}"
