"""
Any order of what clients, destinations and the user do to a pool that uses everything
at once: fairness, priorities, limits, chosen destinations, checks, backups, and
changes of all of these while it runs. In memory.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run
from twisted.internet.address import IPv4Address
from twisted.trial.unittest import SynchronousTestCase

from iawlb.core.session import Session
from tests.doubles import Backend, MemoryListener, Wire
from tests.test_pool_machine import MACHINE, SLOTS, PoolMachine

OWN: dict[str, list[Any]] = {
    "backup": [False, True],
    "ejectAfter": [0, 1, 3],
    "endOnDown": [False, True],
    "sendProxy": ["off", "v1", "v2"],
    "slowStart": [0.0, 1.0],
    "weight": [1, 3],
}
"""
Settings of a destination, and some of their values; the first is the usual one.
"""

POOL: dict[str, list[Any]] = {
    "acceptBatch": [1, 3],
    "bandwidthOut": [0, 1000],
    "fairness": [False, True],
    "loadFactor": [0.0, 1.25],
    "maxAge": [0.0, 1.0],
    "maxPerSource": [0, 1, 3],
    "maxSessions": [0, 2, 8],
    "overLimit": ["delay", "delay", "refuse"],
    "policy": ["least", "source", "quick", "first"],
    "queueSize": [10_000, 5],
    "rest": [0.0, 0.2],
    "sessionRate": ["0", "1/s", "100/m"],
    "sourceMask": ["32,56", "24,56", "0,0"],
    "sourceRate": ["0", "3/s"],
    "spillAfter": [0.0, 0.3],
    "takeSlot": ["accept", "first-byte"],
}
"""
The same of the pool.
"""

SOME = {key: st.sampled_from(values) for key, values in POOL.items()}


class EdgeMachine(PoolMachine):
    """
    The steps.
    """

    def __init__(self) -> None:
        super().__init__()
        self.chosen: str | None = None
        self.well = dict.fromkeys(SLOTS, True)
        self.gone: list[Backend] = []
        self.listeners = [MemoryListener() for _ in range(3)]
        for number, listener in enumerate(self.listeners):
            self.rig.balancer.listen(listener, priority=4 * number)

    def choice(self) -> Any:
        return self.choose

    def choose(self, session: Session) -> Any:
        """
        Choose the destination that the test wants.
        """
        worker = self.pool.workers.get(self.chosen or "")
        return None if worker is None else worker.destination

    def wires(self) -> list[Wire]:
        every = [*self.backends.values(), *self.gone]
        return [wire for each in every for wire in each.wires if wire.connected]

    @initialize(values=st.fixed_dictionaries(SOME))
    def begin(self, values: dict[str, Any]) -> None:
        """
        The user has set much already, and clients come and wait.
        """
        self.pool.configure(replace(self.pool.settings, **values))
        for backend in self.backends.values():
            backend.hold = True
        for host in range(1, 5):
            self.come(3, host, host % 3, "b" if host == 1 else None)

    @rule(
        number=st.integers(1, 4),
        host=st.integers(1, 6),
        where=st.integers(0, 2),
        chosen=st.sampled_from([None, None, *SLOTS]),
    )
    def come(self, number: int, host: int, where: int, chosen: str | None) -> None:
        """
        Clients come to a listener, for which a destination may be chosen.
        """
        self.chosen = chosen
        for _ in range(number):
            self.arrive(f"192.0.2.{host}", where)

    def arrive(self, host: str, where: int = 0) -> None:
        address = IPv4Address("TCP", host, 1)
        protocol = self.listeners[where].factory.buildProtocol(address)
        if protocol is not None:  # else it was refused
            self.clients.append(Wire(protocol))
            protocol.makeConnection(self.clients[-1])

    @rule()
    def close(self) -> None:
        """
        The connections of clients close that were closed.
        """
        for each in self.clients:
            if each.connected and each.closing:
                each.lose()
        self.clients = [each for each in self.clients if each.connected]

    @rule(name=st.sampled_from([*SLOTS]), well=st.booleans())
    def check(self, name: str, well: bool) -> None:
        """
        The check of a destination finds something from now on.
        """
        self.well[name] = well

    @rule(name=st.sampled_from([*SLOTS]), draining=st.booleans())
    def drain(self, name: str, draining: bool) -> None:
        """
        The user drains a destination, or lets it serve again.
        """
        (self.pool.drain if draining else self.pool.undrain)(name)

    @rule(name=st.sampled_from([*SLOTS]))
    def replace(self, name: str) -> None:
        """
        The user gives a destination another address.
        """
        self.gone.append(self.backends[name])
        self.backends[name] = Backend()
        self.pool.replace(name, self.backends[name], {"slots": SLOTS[name]})

    @rule(name=st.sampled_from([*SLOTS]), key=st.sampled_from([*OWN]), data=st.data())
    def setOwn(self, name: str, key: str, data: st.DataObject) -> None:
        """
        The user changes a setting of a destination.
        """
        own = self.pool.workers[name].destination.settings
        changes = {key: data.draw(st.sampled_from(OWN[key]))}
        self.pool.configureDestination(name, replace(own, **changes))

    @rule(name=st.sampled_from([*SLOTS]), checked=st.booleans())
    def setCheck(self, name: str, checked: bool) -> None:
        """
        The user begins or stops to check a destination.
        """
        own = self.pool.workers[name].destination.settings
        check: Any = (lambda destination: self.well[name]) if checked else "off"
        times: Any = {"checkInterval": 0.5, "checkFast": 0.2, "checkDown": 0.3}
        self.pool.configureDestination(name, replace(own, healthCheck=check, **times))

    @rule(key=st.sampled_from([*POOL]), data=st.data())
    def setPool(self, key: str, data: st.DataObject) -> None:
        """
        The user changes a setting of the pool.
        """
        changes = {key: data.draw(st.sampled_from(POOL[key]))}
        self.pool.configure(replace(self.pool.settings, **changes))

    @rule()
    def jump(self) -> None:
        """
        The process stands still for 40 s.
        """
        self.rig.clock.advance(40)

    @invariant()
    def limitsCounted(self) -> None:
        """
        Check that each source counts the sessions that it has, and no other.
        """
        turnstile = self.pool.door.turnstile
        if turnstile is None:
            return
        assert {*turnstile._passed, *turnstile._delayed} <= {
            *self.rig.balancer.sessions
        }
        active = Counter(turnstile._passed.values())
        delayed: Counter[Any] = Counter()
        for session, (source, _) in turnstile._delayed.items():
            delayed[source] += 1
            active[source] += source is not None and session not in source.waiting
        for source in turnstile.sources:
            assert (source.active, source.delayed) == (active[source], delayed[source])

    @precondition(lambda self: self.pool._rebinder._next is None)
    @invariant()
    def nobodyStarves(self) -> None:
        """
        Check that no destination is idle that could serve a client that waits.
        """
        queue = self.pool.queue
        assert len({*queue}) == len(queue)
        if queue.gate is None or queue.gate.open:
            for each in queue._takers:
                assert queue._nextFor(each) is None

    def teardown(self) -> None:
        """
        When all is well again, all are served, and nothing is left.
        """
        self.chosen = None
        usual: dict[str, Any] = {key: values[0] for key, values in POOL.items()}
        self.pool.configure(replace(self.pool.settings, **usual))
        own: dict[str, Any] = {key: values[0] for key, values in OWN.items()}
        for name in SLOTS:
            self.well[name] = True
            self.pool.undrain(name)
            before = self.pool.workers[name].destination.settings
            self.pool.configureDestination(name, replace(before, **own))
        for each in self.gone:
            each.hold, each.refuse = False, None
            while each.pending:
                each.succeed()
        self.rig.advance(0.3)
        super().teardown()
        assert not self.pool.door.delayed
        for wire in (*self.clients, *self.wires()):
            if wire.connected:
                wire.lose()
        self.rig.advance(1)
        assert not self.rig.balancer.sessions
        assert not any(each.active for each in self.pool.destinations)
        turnstile = self.pool.door.turnstile
        assert turnstile is None or not (turnstile.active or turnstile.delayed)
        self.rig.balancer.stopService()
        self.rig.advance(0.5)
        assert not self.rig.clock.getDelayedCalls()


class AnyOrderTests(SynchronousTestCase):
    """
    Any order of the steps.
    """

    def test_everything(self) -> None:
        """
        Whatever is used together and changed meanwhile: no client is lost or served
        twice, none waits beside an idle destination, and all counts return to 0.
        """
        run(EdgeMachine, settings=settings(MACHINE, max_examples=200))
