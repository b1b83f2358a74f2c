"""
Destinations given by name.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    TCP6ServerEndpoint,
)
from twisted.internet.error import ConnectionRefusedError, DNSLookupError
from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IHostResolution,
    IResolutionReceiver,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from iawlb.backend.names import (
    FRESH,
    HEAD_START,
    MOST_ADDRESSES,
    NameEndpoint,
    lookedUp,
)
from iawlb.backend.socketconnector import Target
from tests.net import Server, connected, freePort, reactor


@implementer(IHostnameResolver, IHostResolution)
class _Resolver:
    """
    A resolver that answers when the test says so.

    @ivar asked: The names that were looked up.
    """

    name = "resolver"

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._receivers: list[IResolutionReceiver] = []

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: object = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        self.asked.append(hostName)
        resolutionReceiver.resolutionBegan(self)
        self._receivers.append(resolutionReceiver)
        return self

    def cancel(self) -> None:
        raise AssertionError("not expected")

    def answer(self, *addresses: str | IAddress) -> None:
        """
        Answer the oldest look-up.
        """
        receiver = self._receivers.pop(0)
        for each in addresses:
            if isinstance(each, str):
                kind = IPv6Address if ":" in each else IPv4Address
                receiver.addressResolved(kind("TCP", each, 9001))
            else:
                receiver.addressResolved(each)
        receiver.resolutionComplete()


class _Reactor(MemoryReactorClock):
    """
    A reactor whose connects the test plays.

    @ivar without: An address family that this host does not have, as the colon
        or dot in its addresses.
    """

    without: str | None = None

    def connectTCP(self, host: str, *args: Any, **kwargs: Any) -> Any:
        if self.without is not None and self.without in host:
            raise OSError("address family not supported")
        return super().connectTCP(host, *args, **kwargs)


class NameEndpointTests(SynchronousTestCase):
    """
    A name is looked up ahead, and all its addresses are tried.
    """

    def setUp(self) -> None:
        """
        Make an endpoint whose reactor and resolver are played.
        """
        self.resolver = _Resolver()
        self.reactor: Any = _Reactor()
        self.reactor.installNameResolver(self.resolver)
        self.endpoint = NameEndpoint(self.reactor, "app", 9001, 5.0, ("192.0.2.9", 0))

    def connect(self) -> Deferred[Any]:
        """
        Ask for a connection.
        """
        return self.endpoint.connect(Factory.forProtocol(Protocol))

    def resolved(self, *addresses: str) -> None:
        """
        Have the name looked up.
        """
        looking = self.endpoint.lookUp()
        self.resolver.answer(*addresses)
        self.successResultOf(looking)

    def tried(self) -> list[str]:
        """
        List the addresses that were connected to, in order.
        """
        return [each[0] for each in self.reactor.tcpClients]

    def succeed(self, index: int) -> None:
        """
        A connect succeeds.
        """
        factory = self.reactor.tcpClients[index][2]
        factory.buildProtocol(None).makeConnection(StringTransport())

    def refuse(self, index: int) -> None:
        """
        A connect is refused.
        """
        factory = self.reactor.tcpClients[index][2]
        factory.clientConnectionFailed(None, Failure(ConnectionRefusedError()))

    def quiet(self, *given: int) -> None:
        """
        Check that no timer is left, and that only these connects were given up.
        """
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        stopped = [each.stoppedConnecting for each in self.reactor.connectors]
        self.assertEqual([i for i, each in enumerate(stopped) if each], list(given))

    # Looking up.

    def test_oneLookUp(self) -> None:
        """
        A burst of connections asks the resolver once, and later ones not at all.
        """
        connecting = [self.connect() for _ in range(3)]
        self.assertEqual(self.resolver.asked, ["app"])
        self.assertEqual(self.tried(), [])
        self.resolver.answer("192.0.2.1")
        self.assertEqual(self.tried(), ["192.0.2.1"] * 3)
        for index, each in enumerate(connecting):
            self.succeed(index)
            self.successResultOf(each)
        self.connect()
        self.assertEqual(self.resolver.asked, ["app"])
        self.assertEqual(len(self.tried()), 4)
        self.quiet()

    def test_stale(self) -> None:
        """
        A destination that moved is found by its name: an old answer is renewed, while
        the connections do not wait.
        """
        self.resolved("192.0.2.1")
        self.reactor.advance(FRESH)
        self.connect()
        self.assertEqual(self.resolver.asked, ["app"])
        self.reactor.advance(1)
        self.connect()
        self.connect()
        self.assertEqual(self.resolver.asked, ["app"] * 2)
        self.assertEqual(self.tried(), ["192.0.2.1"] * 3)
        self.resolver.answer("192.0.2.2")
        self.connect()
        self.assertEqual(self.tried()[3:], ["192.0.2.2"])

    def test_resolverGone(self) -> None:
        """
        While the resolver knows nothing, the old answer is used, and the resolver
        is not asked for each connection.
        """
        self.resolved("192.0.2.1")
        self.reactor.advance(FRESH + 1)
        self.connect()
        self.resolver.answer()
        self.connect()
        self.assertEqual(self.tried(), ["192.0.2.1"] * 2)
        self.assertEqual(self.resolver.asked, ["app"] * 2)

    def test_noAddress(self) -> None:
        """
        A name without an address fails the connects with an error that names it;
        they work as soon as it has one.
        """
        connecting = [self.connect(), self.connect()]
        self.resolver.answer()
        for each in connecting:
            error = self.failureResultOf(each, DNSLookupError)
            self.assertIn("app", error.getErrorMessage())
        self.connect()
        self.resolver.answer("192.0.2.1")
        self.assertEqual(self.tried(), ["192.0.2.1"])

    def test_cancelledLookUp(self) -> None:
        """
        A connect that is given up while the name is looked up connects to
        nothing, and the others go on.
        """
        first, second = self.connect(), self.connect()
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.resolver.answer("192.0.2.1")
        self.assertEqual(self.tried(), ["192.0.2.1"])
        self.succeed(0)
        self.successResultOf(second)

    def test_addresses(self) -> None:
        """
        Each IP address of an answer is kept once, and not too many.
        """
        looking = self.endpoint.lookUp()
        many = [f"192.0.2.{each}" for each in range(100)]
        self.resolver.answer("::1", UNIXAddress("/a"), "::1", *many)
        hosts = [each.host for each in self.successResultOf(looking)]
        self.assertEqual(hosts, ["::1", *many[: MOST_ADDRESSES - 1]])

    def test_ahead(self) -> None:
        """
        A name is looked up before its first connection; an address needs no lookup.
        """
        looking = lookedUp(self.endpoint)
        self.resolver.answer("192.0.2.1")
        self.assertIsNone(self.successResultOf(looking))
        self.connect()
        self.assertEqual(self.tried(), ["192.0.2.1"])
        self.assertEqual(self.resolver.asked, ["app"])
        literal = TCP4ClientEndpoint(self.reactor, "192.0.2.1", 9001)
        self.assertIsNone(self.successResultOf(lookedUp(literal)))

    def test_aheadWithoutAddress(self) -> None:
        """
        A name that has no address is known to have none before any connection.
        """
        looking = lookedUp(self.endpoint)
        self.resolver.answer()
        self.failureResultOf(looking, DNSLookupError)

    def test_named(self) -> None:
        """
        The text of an endpoint shows its host and port.
        """
        self.assertEqual(repr(self.endpoint), "<NameEndpoint app:9001>")

    # Connecting.

    def test_oneAddress(self) -> None:
        """
        A connect has its time limit and local address, and fails with the destination's
        error.
        """
        self.resolved("192.0.2.1")
        connecting = self.connect()
        host, port, _, timeout, local = self.reactor.tcpClients[0]
        self.assertEqual((host, port), ("192.0.2.1", 9001))
        self.assertEqual((timeout, local), (5.0, ("192.0.2.9", 0)))
        self.refuse(0)
        self.failureResultOf(connecting, ConnectionRefusedError)

    def test_headStart(self) -> None:
        """
        An address that does not answer, such as a broken IPv6 path, costs a
        quarter of a second: then the next is tried beside it, and the first to
        answer is taken.
        """
        self.resolved("::1", "192.0.2.1")
        connecting = self.connect()
        self.reactor.advance(HEAD_START - 0.001)
        self.assertEqual(self.tried(), ["::1"])
        self.reactor.advance(0.001)
        self.assertEqual(self.tried(), ["::1", "192.0.2.1"])
        self.assertNoResult(connecting)
        self.succeed(1)
        self.successResultOf(connecting)
        self.quiet(0)

    def test_slowButFirst(self) -> None:
        """
        The first address is still taken if it answers after its head start.
        """
        self.resolved("::1", "192.0.2.1")
        connecting = self.connect()
        self.reactor.advance(HEAD_START)
        self.succeed(0)
        self.successResultOf(connecting)
        self.quiet(1)

    def test_refused(self) -> None:
        """
        A refusing address costs nothing: the next is tried at once, and the one
        that worked is tried first from then on, also after the name was looked
        up again.
        """
        self.resolved("::1", "192.0.2.1", "192.0.2.2")
        connecting = self.connect()
        self.refuse(0)
        self.assertEqual(self.tried(), ["::1", "192.0.2.1"])
        self.succeed(1)
        self.successResultOf(connecting)
        self.quiet()
        self.connect().addErrback(lambda _: None).cancel()
        self.assertEqual(self.tried()[2:], ["192.0.2.1"])
        self.resolved("::2", "192.0.2.1")
        self.connect().addErrback(lambda _: None).cancel()
        self.assertEqual(self.tried()[3:], ["192.0.2.1"])
        self.resolved("::2", "192.0.2.3")
        self.connect().addErrback(lambda _: None).cancel()
        self.assertEqual(self.tried()[4:], ["::2"])

    def test_nextHasItsHeadStart(self) -> None:
        """
        After a refusal the next address has a head start of its own.
        """
        self.resolved("::1", "::2", "::3")
        self.connect()
        self.reactor.advance(HEAD_START - 0.001)
        self.refuse(0)
        self.reactor.advance(HEAD_START - 0.001)
        self.assertEqual(self.tried(), ["::1", "::2"])
        self.reactor.advance(0.001)
        self.assertEqual(self.tried(), ["::1", "::2", "::3"])

    def test_allRefused(self) -> None:
        """
        A connect fails when every address has failed, and not before.
        """
        self.resolved("::1", "192.0.2.1")
        connecting = self.connect()
        self.reactor.advance(HEAD_START)
        self.refuse(1)
        self.assertNoResult(connecting)
        self.refuse(0)
        self.failureResultOf(connecting, ConnectionRefusedError)
        self.quiet()

    def test_firstFailure(self) -> None:
        """
        A failed connect reports the error of the preferred address: the last address
        may fail only because this machine has no IPv6.
        """
        self.resolved("192.0.2.1", "::1")
        connecting = self.connect()
        self.refuse(0)
        factory = self.reactor.tcpClients[1][2]
        factory.clientConnectionFailed(None, Failure(OSError(99, "cannot assign")))
        self.failureResultOf(connecting, ConnectionRefusedError)

    def test_localhost(self) -> None:
        """
        localhost is 127.0.0.1 and ::1, whatever the hosts file says, and in its
        order.
        """
        self.endpoint = NameEndpoint(self.reactor, "localhost", 9001, 5.0, None)
        both = {"127.0.0.1", "::1"}
        for answers in ([], ["127.0.0.1"], ["::1"], ["::1", "127.0.0.1"]):
            looking = self.endpoint.lookUp()
            self.resolver.answer(*answers)
            found = [each.host for each in self.successResultOf(looking)]
            self.assertEqual(set(found), both)
            self.assertEqual(len(found), 2)
        fresh = NameEndpoint(self.reactor, "localhost", 9001, 5.0, None)
        looking = fresh.lookUp()
        self.resolver.answer("::1")
        self.assertEqual(self.successResultOf(looking)[0].host, "::1")

    def test_withoutFamily(self) -> None:
        """
        A host that has no IPv6 reaches the IPv4 address at once; one that has
        neither fails.
        """
        self.resolved("::1", "192.0.2.1")
        self.reactor.without = ":"
        connecting = self.connect()
        self.assertEqual(self.tried(), ["192.0.2.1"])
        self.succeed(0)
        self.successResultOf(connecting)
        self.reactor.without = ""
        self.failureResultOf(self.connect(), OSError)
        self.quiet()

    # The target of plain sockets.

    def test_target(self) -> None:
        """
        The address that worked is the target of plain sockets, from the local address
        that was asked for, until it fails; then there are other addresses to try, or
        none.
        """
        self.makePlain()
        for addresses in (("192.0.2.1", "::1"), ("192.0.2.1",)):
            self.resolved(*addresses)
            self.assertIsNone(self.endpoint.target)
            self.connectTo(0)
            local = ("192.0.2.9", 0)
            four = Target(socket.AF_INET, ("192.0.2.1", 9001), local)
            self.assertEqual(self.endpoint.target, four)
            self.assertEqual(self.endpoint.plainFailed(), len(addresses) > 1)
            self.assertIsNone(self.endpoint.target)

    def test_targetMoves(self) -> None:
        """
        With plain sockets, too, an old answer is renewed; an address that is no longer
        in the answer is not used.
        """
        self.makePlain()
        self.resolved("192.0.2.1")
        self.connectTo(0)
        for answer, still in (("192.0.2.1", True), ("192.0.2.2", False)):
            self.reactor.advance(FRESH + 1)
            asked = len(self.resolver.asked)
            self.assertIsNotNone(self.endpoint.target)
            self.assertIsNotNone(self.endpoint.target)
            self.assertEqual(len(self.resolver.asked), asked + 1)
            self.resolver.answer(answer)
            self.assertEqual(self.endpoint.target is not None, still)

    def test_withoutTarget(self) -> None:
        """
        A destination with a time-out of its own is not connected by a plain socket.
        """
        self.resolved("192.0.2.1")
        self.connectTo(0)
        self.assertIsNone(self.endpoint.target)

    def makePlain(self) -> None:
        """
        Make an endpoint whose address is a target of plain sockets.
        """
        local = ("192.0.2.9", 0)
        self.endpoint = NameEndpoint(self.reactor, "app", 9001, 5.0, local, True)

    def connectTo(self, index: int) -> None:
        """
        Connect, to the first address.
        """
        self.reactor.tcpClients.clear()
        connecting = self.connect()
        self.succeed(index)
        self.successResultOf(connecting)

    def test_cancelled(self) -> None:
        """
        A connect that is given up leaves no connection attempt and no timer.
        """
        self.resolved("::1", "::2", "::3")
        connecting = self.connect()
        self.reactor.advance(HEAD_START)
        connecting.cancel()
        self.failureResultOf(connecting, CancelledError)
        self.reactor.advance(10)
        self.assertEqual(self.tried(), ["::1", "::2"])
        self.quiet(0, 1)


@implementer(IHostnameResolver)
class _BothFamilies(_Resolver):
    """
    Answers at once what most systems say of localhost, which this one may not.
    """

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: object = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        super().resolveHostName(resolutionReceiver, hostName)
        self.answer("::1", "127.0.0.1")
        return self


@pytest.fixture
def bothFamilies() -> Iterator[None]:
    """
    Have localhost mean ::1 and 127.0.0.1.
    """
    resolver = reactor.installNameResolver(_BothFamilies())
    yield
    reactor.installNameResolver(resolver)


async def _reachTwice(host: str) -> None:
    """
    Connect to localhost twice, where a server listens on one of its addresses.
    """
    number = freePort(host)
    kind = TCP6ServerEndpoint if ":" in host else TCP4ServerEndpoint
    endpoint: IStreamServerEndpoint = kind(reactor, number, interface=host)
    server = await Server().listen(endpoint)
    name = NameEndpoint(reactor, "localhost", number, 5.0, None)
    try:
        for _ in range(2):
            peer = await connected(name)
            peer.close()
            await peer.closed()
    finally:
        await server.stop()
    assert len(server.peers) == 2


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest_twisted.ensureDeferred
async def test_eitherFamily(host: str, bothFamilies: None) -> None:
    """
    A server that listens on only one of localhost's two addresses is reached by
    that name.
    """
    await _reachTwice(host)


@pytest_twisted.ensureDeferred
async def test_systemResolver() -> None:
    """
    A name is looked up as the system does.
    """
    await _reachTwice("127.0.0.1")
