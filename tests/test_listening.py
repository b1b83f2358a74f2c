"""
Listeners of the balancer, over sockets.
"""

from __future__ import annotations

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.error import CannotListenError, ConnectionRefusedError
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IStreamServerEndpoint,
)
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import Logger, formatEvent
from zope.interface import implementer

from iawlb.errors import CannotListen, InvalidSetting
from iawlb.frontend.listeners import Listeners
from iawlb.service import LoadBalancer
from tests.net import (
    LIMIT,
    Echo,
    Server,
    collectUnbound,
    connected,
    freePort,
    reactor,
    until,
)


def portOf(address: str) -> int:
    """
    Read the port of an address of the balancer's.
    """
    return int(address.rpartition(":")[2])


async def assertEchoed(address: str) -> None:
    """
    Be a client of an address, and get back what was sent.
    """
    client = await connected(portOf(address))
    client.write(b"hello")
    assert await client.got(5) == b"hello"
    client.close()
    await client.closed()


@pytest.mark.parametrize("text", ("0", "127.0.0.1:0", "tcp:0:interface=127.0.0.1"))
@pytest_twisted.ensureDeferred
async def test_anyPort(text: str) -> None:
    """
    A listener on port 0 takes a port that is free, which C{addresses} shows.
    """
    server = await Server(Echo).listen()
    balancer = LoadBalancer(reactor, [text], [f"127.0.0.1:{server.number}"])
    assert balancer.addresses == [text]
    balancer.startService()
    (address,) = balancer.addresses
    assert portOf(address) > 0
    await assertEchoed(address)
    await balancer.stopService().addTimeout(LIMIT, reactor)
    await server.stop()


@implementer(IStreamServerEndpoint)
class Late:
    """
    An endpoint that does not listen at once.
    """

    def __init__(self) -> None:
        self.opening: Deferred[IListeningPort] = Deferred()

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        return self.opening


@pytest_twisted.ensureDeferred
async def test_listenWhileRunning() -> None:
    """
    A listener that is added to a running balancer is open when C{listen} returns;
    it is closed with the others, and opened again with them.
    """
    server = await Server(Echo).listen()
    balancer = LoadBalancer(reactor, ["127.0.0.1:0"], [f"127.0.0.1:{server.number}"])
    balancer.startService()
    balancer.listen("127.0.0.1:0", name="second")
    balancer.listen(TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1"))
    assert len(set(balancer.addresses)) == 3
    for address in balancer.addresses:
        await assertEchoed(address)
    await balancer.stopService().addTimeout(LIMIT, reactor)
    balancer.listen("127.0.0.1:0")
    assert balancer.addresses[3] == "127.0.0.1:0"
    for address in balancer.addresses[:3]:
        with pytest.raises(ConnectionRefusedError):
            await connected(portOf(address))
    balancer.startService()
    for address in balancer.addresses:
        await assertEchoed(address)
    await balancer.stopService().addTimeout(LIMIT, reactor)
    await server.stop()


@pytest_twisted.ensureDeferred
async def test_listenWherePrivileged() -> None:
    """
    Once the listeners are bound, before the start, another is bound at once too.
    """
    balancer = LoadBalancer(reactor, ["127.0.0.1:0"])
    balancer.privilegedStartService()
    balancer.listen("127.0.0.1:0")
    assert portOf(balancer.addresses[1]) > 0
    balancer.startService()
    await balancer.stopService().addTimeout(LIMIT, reactor)


@pytest_twisted.ensureDeferred
async def test_cannotListenWhileRunning() -> None:
    """
    A listener that cannot be opened is an error for the caller, and is not added; the
    listeners that are open stay open.
    """
    server = await Server(Echo).listen()
    balancer = LoadBalancer(reactor, ["127.0.0.1:0"], [f"127.0.0.1:{server.number}"])
    balancer.startService()
    (address,) = balancer.addresses
    for _ in range(2):
        with pytest.raises(CannotListen, match=f"{address}: Address already in use"):
            balancer.listen(address)
    collectUnbound()
    assert balancer.addresses == [address]
    await assertEchoed(address)
    await balancer.stopService().addTimeout(LIMIT, reactor)
    await server.stop()


@pytest_twisted.ensureDeferred
async def test_listenWhileRefusing() -> None:
    """
    While no destination is up and connections are refused, a listener that is
    added refuses too, and serves with the others when one is up.
    """
    server = await Server(Echo).listen()
    balancer = LoadBalancer(reactor, ["127.0.0.1:0"], whenDown="refuse")
    balancer.startService()
    balancer.listen("127.0.0.1:0")
    for address in balancer.addresses:
        with pytest.raises(ConnectionRefusedError):
            await connected(portOf(address))
    balancer.add(f"127.0.0.1:{server.number}")
    for address in balancer.addresses:
        await assertEchoed(address)
    await balancer.stopService().addTimeout(LIMIT, reactor)
    await server.stop()


@pytest_twisted.ensureDeferred
async def test_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    When an endpoint that did not listen at once fails, the log says so, since no caller
    waits for it.
    """
    events = EventLoggingObserver()
    monkeypatch.setattr(Listeners, "log", Logger(observer=events))
    balancer = LoadBalancer(reactor)
    balancer.startService()
    late = Late()
    balancer.listen(late)
    assert list(events) == []
    late.opening.errback(CannotListenError("here", 80, OSError(98, "Taken")))
    (event,) = events
    assert "Taken" in (formatEvent(event) or "")
    await balancer.stopService().addTimeout(LIMIT, reactor)


@pytest_twisted.ensureDeferred
async def test_circle() -> None:
    """
    A destination that is a listener of the balancer's is refused by C{add}, by
    C{listen} and at the start, in whichever way its port is known; no listener is left
    open, and the others are not affected.
    """
    port = freePort()
    balancer = LoadBalancer(reactor, [f"127.0.0.1:{port}"])
    with pytest.raises(InvalidSetting, match=f"'{port}' leads back to the listener"):
        balancer.add(str(port))
    balancer.add("127.0.0.1:1 name=other")
    balancer.startService()
    with pytest.raises(InvalidSetting, match="leads back"):
        balancer.add(f"localhost:{port} name=again")
    fixed = freePort()
    balancer.add(f"127.0.0.1:{fixed}")
    for listener in (
        f"localhost:{fixed}",
        TCP4ServerEndpoint(reactor, fixed, interface="127.0.0.1"),
    ):
        with pytest.raises(InvalidSetting, match="leads back"):
            balancer.listen(listener)
        with pytest.raises(ConnectionRefusedError):
            await connected(fixed)
    assert balancer.addresses == [f"127.0.0.1:{port}"]
    await balancer.stopService().addTimeout(LIMIT, reactor)
    # An endpoint object's place is known when it listens.
    endpoint = TCP4ServerEndpoint(reactor, fixed, interface="127.0.0.1")
    again = LoadBalancer(reactor, ["127.0.0.1:0", endpoint], [f"127.0.0.1:{fixed}"])
    with pytest.raises(InvalidSetting, match="leads back"):
        again.startService()
    await until(lambda: not reactor.getDelayedCalls())
    for address in again.addresses:
        with pytest.raises(ConnectionRefusedError):
            await connected(portOf(address))
