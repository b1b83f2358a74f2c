"""
Any order of what clients, destinations and the user do to a pool, with real workers in
memory.
"""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.trial.unittest import SynchronousTestCase

from iawlb.core.events import SESSION_PULLED
from iawlb.core.session import Session
from iawlb.pool import Pool
from tests.doubles import Backend, Recorder, Rig, Wire, accept

SLOTS = {"a": 1, "b": 2, "c": 0}
"""
The slots of each destination.
"""

MACHINE = settings(
    max_examples=80,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


class Checks(Recorder):
    """
    Checks each session that takes a slot.
    """

    pool: Pool

    def __init__(self) -> None:
        super().__init__()
        self.mistakes: list[str] = []

    def sessionChanged(self, session: Session, event: str) -> None:
        """
        Check the slots, and that the pool is not paused.
        """
        super().sessionChanged(session, event)
        if event != SESSION_PULLED:
            return
        pool = self.pool
        if pool.gate.paused is not None:
            self.mistakes.append(f"{session.number} was pulled in a pause")
        if pool.slots and pool.active > pool.slots:
            self.mistakes.append(f"{pool.active} have a slot of {pool.slots}")
        each = pool.workers[session.destination or ""].destination
        if each.slots and each.active > each.slots:
            self.mistakes.append(f"{each} has {each.slots} slots")


class PoolMachine(RuleBasedStateMachine):
    """
    The steps.
    """

    policy = "least"

    def __init__(self) -> None:
        super().__init__()
        self.rig = Rig(
            0, policy=self.policy, queueTimeout=0, poolSlots=2, choose=self.choice()
        )
        self.pool = self.rig.balancer.pools["default"]
        self.checks = Checks()
        self.checks.pool = self.pool
        self.rig.balancer.observe(self.checks)
        self.backends = {name: Backend() for name in SLOTS}
        for name, backend in self.backends.items():
            self.rig.balancer.add(backend, name=name, slots=SLOTS[name])
        self.clients: list[Wire] = []

    def choice(self) -> Any:
        """
        Return the function that chooses for each client, if there is one.
        """
        return None

    def wires(self) -> list[Wire]:
        """
        The open connections of the destinations.
        """
        return [
            wire
            for backend in self.backends.values()
            for wire in backend.wires
            if wire.connected
        ]

    @rule(number=st.integers(1, 5), host=st.integers(1, 9))
    def connect(self, number: int, host: int) -> None:
        """
        Clients come.
        """
        for each in range(number):
            self.arrive(f"192.0.2.{host + each}")

    def arrive(self, host: str) -> None:
        """
        Let a client come.
        """
        self.clients.append(accept(self.rig.balancer.factory, host))

    @precondition(lambda self: bool(self.clients))
    @rule(data=st.data(), reset=st.booleans())
    def leave(self, data: st.DataObject, reset: bool) -> None:
        """
        A client leaves.
        """
        index = data.draw(st.integers(0, len(self.clients) - 1))
        client = self.clients.pop(index)
        if client.connected:
            client.lose(reset)

    @precondition(lambda self: bool(self.wires()))
    @rule(data=st.data(), reset=st.booleans())
    def end(self, data: st.DataObject, reset: bool) -> None:
        """
        A destination closes a connection.
        """
        wires = self.wires()
        wires[data.draw(st.integers(0, len(wires) - 1))].lose(reset)

    @rule(name=st.sampled_from("abc"), how=st.sampled_from(["hold", "refuse", "ok"]))
    def behave(self, name: str, how: str) -> None:
        """
        A destination behaves in another way from now on.
        """
        backend = self.backends[name]
        backend.hold = how == "hold"
        backend.refuse = Refused() if how == "refuse" else None

    @rule(name=st.sampled_from("abc"), how=st.sampled_from(["", "refused", "silent"]))
    def answer(self, name: str, how: str) -> None:
        """
        The oldest connect that is held ends.
        """
        backend = self.backends[name]
        if backend.pending and how:
            backend.fail(Refused() if how == "refused" else ConnectTimeout())
        elif backend.pending:
            backend.succeed()

    @rule(seconds=st.none() | st.integers(1, 3))
    def pause(self, seconds: int | None) -> None:
        """
        The user pauses the pool.
        """
        now = self.rig.clock.seconds()
        self.pool.pause(until=None if seconds is None else now + seconds)

    @rule(spread=st.sampled_from([0.0, 0.0, 0.5, 3.0]))
    def resume(self, spread: float) -> None:
        """
        The user resumes the pool.
        """
        self.pool.resume(spread)

    @rule(slots=st.integers(0, 4))
    def setPoolSlots(self, slots: int) -> None:
        """
        The user changes the slots of the pool.
        """
        self.pool.setPoolSlots(slots)

    @rule(name=st.sampled_from("abc"), slots=st.integers(0, 3))
    def setSlots(self, name: str, slots: int) -> None:
        """
        The user changes the slots of a destination.
        """
        self.pool.setSlots(name, slots)

    @rule(name=st.sampled_from("abc"), paused=st.booleans())
    def setPaused(self, name: str, paused: bool) -> None:
        """
        The user pauses or resumes a destination.
        """
        self.pool.setPaused(name, paused)

    @rule(seconds=st.sampled_from([0.0, 0.02, 0.3, 2.0]))
    def advance(self, seconds: float) -> None:
        """
        Time passes.
        """
        self.rig.advance(seconds)

    @invariant()
    def counted(self) -> None:
        """
        Check what was pulled, and that the gate counts what the destinations do.
        """
        assert not self.checks.mistakes
        if self.pool.queue.gate is not None:
            assert self.pool.gate._taken == self.pool.active
        else:
            assert self.pool.gate.paused is None
            assert not self.pool.slots

    def teardown(self) -> None:
        """
        When all is well again, all that wait are served.
        """
        self.pool.resume()
        for name, backend in self.backends.items():
            backend.hold, backend.refuse = False, None
            self.pool.setPaused(name, False)
            while backend.pending:
                backend.succeed()
        for _ in range(300):
            self.rig.advance(0.1)
            for wire in self.wires():
                wire.lose()
            if not len(self.pool.queue):
                break
        assert not len(self.pool.queue)


class SourcePoolMachine(PoolMachine):
    """
    The same steps where each client is bound to a destination.
    """

    policy = "source"


class AnyOrderTests(SynchronousTestCase):
    """
    Any order of the steps.
    """

    def test_anyOrder(self) -> None:
        """
        Whatever fails, leaves, or is paused in whatever order: the slots of the pool
        and of the destinations are never exceeded, nothing is served in a pause, and in
        the end everybody is.
        """
        for machine in (PoolMachine, SourcePoolMachine):
            run_state_machine_as_test(machine, settings=MACHINE)
