"""
Tests for the user's own choice of where a client goes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError
from twisted.trial.unittest import SynchronousTestCase

from iawlb.core.destination import Destination
from iawlb.core.outcome import Outcome
from iawlb.core.session import Session
from iawlb.errors import InvalidSetting
from iawlb.frontend.choosing import Choice
from tests.doubles import Backend, Rig, accept
from tests.net import Echo
from tests.stage import stage


class ChooseTests(SynchronousTestCase):
    """
    C{choose}, in memory.
    """

    def rig(self, choose: Any, **settings: object) -> Rig:
        """
        Make a balancer with two destinations, a and b, of one slot each.
        """
        return Rig(2, choose=choose, slots=1, **settings)

    def test_wait(self) -> None:
        """
        A client for which nothing special is chosen waits in the queue as always,
        whether the function returns at once, is a coroutine, or gives a Deferred.
        """

        async def coroutine(session: Session) -> Choice:
            return Choice.WAIT

        later: Deferred[None] = Deferred()
        for choose in (lambda session: None, coroutine, lambda session: later):
            rig = self.rig(choose)
            rig.client()
            if not later.called and rig.recorder.pulls == []:
                later.callback(None)
            self.assertEqual(rig.recorder.pulls, [(1, "a")])

    def test_destination(self) -> None:
        """
        A client goes to the destination that is chosen for it.
        """
        chosen: list[Destination] = []
        rig = self.rig(lambda session: chosen[0])
        chosen += rig.balancer.destinations[1:]
        rig.client()
        (session,) = rig.balancer.sessions
        assert session.info is not None
        self.assertIs(session.info.chosen, rig.balancer.destinations[1])

    def test_refuse(self) -> None:
        """
        A client that is refused is closed, and no destination sees it.
        """
        rig = self.rig(lambda session: Choice.REFUSE)
        client = rig.client()
        self.assertEqual(client.closing, "close")
        client.lose()
        self.assertEqual(rig.recorder.outcomes, {1: Outcome.REFUSED})
        self.assertEqual(rig.recorder.pulls, [])

    def test_fails(self) -> None:
        """
        If the function raises, or returns what is no place to go, that one session ends
        and the failure is logged; the next client is served.
        """
        answers: list[Any] = []
        rig = self.rig(lambda session: answers.pop()())
        for answer, error in ((lambda: 1 / 0, ZeroDivisionError), (int, ValueError)):
            answers.append(answer)
            client = rig.client()
            client.lose()
            self.assertEqual(len(self.flushLoggedErrors(error)), 1)
            rig.advance(1.1)
        self.assertEqual(
            rig.recorder.outcomes, dict.fromkeys((1, 2), Outcome.CHOICE_FAILED)
        )
        answers.append(lambda: None)
        rig.client()
        self.assertEqual(rig.recorder.pulls, [(3, "a")])

    def test_unknownPlace(self) -> None:
        """
        A destination that was removed can no longer be chosen.
        """
        chosen: list[Any] = []
        rig = self.rig(lambda session: chosen[0])
        chosen.append(rig.balancer.destinations[0])
        self.successResultOf(rig.balancer.remove("a"))
        rig.client().lose()
        (failure,) = self.flushLoggedErrors(ValueError)
        self.assertIn("return a pool or a destination", failure.getErrorMessage())
        self.assertEqual(rig.recorder.outcomes, {1: Outcome.CHOICE_FAILED})

    def test_timeout(self) -> None:
        """
        A function that does not answer within the handshake time-out costs its client
        the session, and its Deferred is cancelled; a client that leaves meanwhile is
        not asked about any more.
        """
        cancelled: list[int] = []

        def choose(session: Session) -> Deferred[None]:
            number = session.number
            return Deferred(lambda _: cancelled.append(number))

        rig = self.rig(choose, handshakeTimeout="5s")
        slow, leaves = rig.clients(2)
        leaves.lose(reset=True)
        self.assertEqual(cancelled, [2])
        rig.advance(5.1)
        self.assertEqual((slow.closing, cancelled), ("close", [2, 1]))
        slow.lose()
        self.assertEqual(
            rig.recorder.outcomes,
            {1: Outcome.CHOICE_TIMEOUT, 2: Outcome.CLIENT_LEFT_CHOICE},
        )

    def test_stubborn(self) -> None:
        """
        A Deferred that answers although it was cancelled changes nothing.
        """
        late: Deferred[None] = Deferred(lambda each: each.callback(None))
        rig = self.rig(lambda session: late)
        rig.client().lose()
        self.assertEqual(rig.recorder.outcomes, {1: Outcome.CLIENT_LEFT_CHOICE})
        self.assertEqual(rig.recorder.pulls, [])

    def test_noFunction(self) -> None:
        """
        What cannot be called is refused.
        """
        wrong: Any = "a"
        error = self.assertRaises(InvalidSetting, self.rig, wrong)
        self.assertEqual(str(error), "choose: 'a' is no function")

    def test_pool(self) -> None:
        """
        A client that belongs to another pool waits in that pool's queue, and counts
        there. If the queue is full, it is closed, and said to be.
        """
        rig = Rig(1)
        balancer = rig.balancer
        other = balancer.addPool("other", queueSize=1)
        asking = balancer.addPool("asking", choose=lambda session: other)
        waiting, much = accept(asking.factory), accept(asking.factory)
        self.assertEqual((len(other.queue), len(asking.queue)), (1, 0))
        self.assertEqual(much.closing, "close")
        much.lose()
        self.assertEqual(rig.recorder.outcomes, {2: Outcome.QUEUE_FULL})
        self.assertEqual((other.count.live, asking.count.live), (1, 0))
        other.add(Backend(), {"name": "o"})
        self.assertEqual(rig.recorder.pulls, [(1, "o")])
        self.assertEqual((other.count.accepted, asking.count.accepted), (2, 2))
        waiting.lose()

    def test_replaced(self) -> None:
        """
        When a destination that was chosen is replaced while it is connected to, the
        client goes to the one that has taken its place, at once.
        """
        chosen: list[Destination] = []
        rig = self.rig(lambda session: chosen[0])
        chosen += rig.balancer.destinations
        rig.backends[0].hold = True
        rig.client()
        rig.balancer._pool.replace("a", Backend(), {})
        self.assertEqual(rig.recorder.pulls, [(1, "a")])
        rig.backends[0].fail(ConnectionRefusedError())
        self.assertEqual(rig.recorder.pulls, [(1, "a"), (1, "a")])
        self.assertEqual(rig.balancer.destinations[0].active, 1)
        rig.advance(0.1)
        self.assertEqual(rig.states(), ["up", "up"])

    def test_limitsOfBoth(self) -> None:
        """
        A client that went to another pool counts for both when that pool gets limits,
        and for neither when it has ended.
        """
        rig = Rig(1)
        balancer, pool = rig.balancer, rig.balancer._pool
        asking = balancer.addPool(
            "asking", choose=lambda session: pool, maxPerSource=10
        )
        client = accept(asking.factory)
        pool.configure(replace(pool.settings, maxSessions=10))
        found = [asking.door.turnstile, pool.door.turnstile]
        self.assertEqual([each and each.active for each in found], [1, 1])
        rig.backends[0].wires[0].lose()
        client.lose()
        self.assertEqual([each and each.active for each in found], [0, 0])

    def test_poolGoes(self) -> None:
        """
        A pool that is removed is gone when the clients that came by its listener, and
        went to another pool, are no longer its own.
        """
        rig = Rig(1)
        balancer = rig.balancer
        answer: Deferred[Any] = Deferred()
        asking = balancer.addPool("asking", choose=lambda session: answer)
        accept(asking.factory)
        removed = balancer.removePool("asking")
        self.assertNoResult(removed)
        answer.callback(balancer.pools["default"])
        self.successResultOf(removed)
        self.assertEqual(rig.recorder.pulls, [(1, "a")])


@pytest_twisted.ensureDeferred
async def test_firstBytes() -> None:
    """
    With C{--take-slot first-byte} the function sees the client's first bytes, and the
    destination gets them too.
    """
    seen: list[bytes] = []

    def choose(session: Session) -> None:
        assert session.info is not None
        seen.append(session.info.firstBytes)

    async with stage(choose=choose, takeSlot="first-byte") as on:
        await on.serve(make=Echo)
        await on.assertEchoed()
        assert seen == [b"hello"]
