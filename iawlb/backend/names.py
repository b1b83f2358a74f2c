"""
Destinations given by name. The name is looked up ahead of the connections that need it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHostResolution,
    IProtocol,
    IProtocolFactory,
    IResolutionReceiver,
    IStreamClientEndpoint,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from iawlb.backend.socketconnector import Target, targetOf
from iawlb.clock import monotonicClock

FRESH = 30.0
"""
How old an answer may be before the name is looked up again, in seconds. The connection
for which this is noticed does not wait, and uses the old answer.
"""

MOST_ADDRESSES = 16
"""
The number of addresses that are kept of one name.
"""

HEAD_START = 0.25
"""
How long the connect to one address may take, in seconds, before the next address is
tried beside it (RFC 8305, connection attempt delay).
"""

_Addresses = tuple[IPv4Address | IPv6Address, ...]


@implementer(IResolutionReceiver)
class _Answer:
    """
    Collects the addresses of a name.
    """

    def __init__(self, done: Deferred[_Addresses]) -> None:
        self._done = done
        self._found: list[IPv4Address | IPv6Address] = []

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        """
        Called when the lookup begins; does nothing.
        """

    def addressResolved(self, address: IAddress) -> None:
        """
        Called with each address that was found. Keep IP addresses.
        """
        if isinstance(address, IPv4Address | IPv6Address):
            self._found.append(address)

    def resolutionComplete(self) -> None:
        """
        Called when the lookup is complete. Return the addresses through the Deferred.
        """
        self._done.callback(tuple(dict.fromkeys(self._found))[:MOST_ADDRESSES])


@implementer(IStreamClientEndpoint)
class NameEndpoint:
    """
    Connects to a name and port, over IPv6 and IPv4.

    Twisted's C{tcp:} client endpoint looks up IPv4 only, in a thread, for each
    connection. This endpoint keeps the answer: the address that worked last is tried
    first, and the others after it.
    """

    def __init__(
        self,
        reactor: Any,
        host: str,
        port: int,
        timeout: float,
        bindAddress: tuple[str, int] | None,
        plain: bool = False,
    ) -> None:
        """
        @param timeout: The longest time that a connect to one address may take, in
            seconds.
        @param bindAddress: The local address to connect from, if any.
        @param plain: Whether a plain socket may connect to the address that works.
        """
        self.host = host
        self.port = port
        self._reactor = reactor
        self._seconds = monotonicClock(reactor).seconds
        self._timeout = timeout
        self._bindAddress = bindAddress
        self._addresses: _Addresses = ()
        self._plain = plain
        self._asked = 0.0
        self._worked: Target | None = None
        self._asking: list[Deferred[_Addresses]] | None = None

    def __repr__(self) -> str:
        return f"<NameEndpoint {self.host}:{self.port}>"

    @property
    def target(self) -> Target | None:
        """
        The address that worked last, as the target of a plain socket, or L{None}.
        """
        if self._worked is None:
            return None
        self._refresh()
        return self._worked

    def plainFailed(self) -> bool:
        """
        Called when a connect to C{target} has failed: stop using that address.

        @return: Whether there are other addresses to try.
        """
        self._worked = None
        return len(self._addresses) > 1

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        Connect to whichever address answers first.

        @return: As L{IStreamClientEndpoint.connect}. Fails with L{DNSLookupError} when
            the name has no address, else with the failure of the first address that
            failed.
        """
        if not self._addresses:
            looking = self.lookUp()
            return looking.addCallback(self._connectAny, protocolFactory)
        self._refresh()
        return self._connectAny(self._addresses, protocolFactory)

    def _refresh(self) -> None:
        """
        Begin to look the name up again, if the answer is old.
        """
        if self._seconds() - self._asked > FRESH and self._asking is None:
            # After a failure, the old answer is kept; connects will show whether it
            # still holds.
            self.lookUp().addErrback(lambda failure: failure.trap(DNSLookupError))

    def lookUp(self) -> Deferred[_Addresses]:
        """
        Look the name up, once for all callers that ask meanwhile.

        @return: The name's addresses, with the one that worked last first. Fails with
            L{DNSLookupError} if there is none.
        """
        asker: Deferred[_Addresses] = Deferred()
        if self._asking is not None:
            self._asking.append(asker)
            return asker
        self._asking = [asker]
        self._asked = self._seconds()
        answer: Deferred[_Addresses] = Deferred()
        answer.addCallback(self._answered)
        self._reactor.nameResolver.resolveHostName(
            _Answer(answer), self.host, self.port
        )
        return asker

    def _answered(self, found: _Addresses) -> None:
        askers, self._asking = self._asking or [], None
        if self.host.lower() == "localhost":
            # Use both addresses, even if the hosts file has only one of them (RFC 6761,
            # 6.3).
            four = IPv4Address("TCP", "127.0.0.1", self.port)
            six = IPv6Address("TCP", "::1", self.port)
            found = tuple(dict.fromkeys((*found, four, six)))
        if found:
            last = self._addresses[:1]
            # The address that worked last stays first, if it is still in the answer.
            self._addresses = tuple(sorted(found, key=lambda each: each not in last))
            if last and last[0] not in found:
                self._worked = None
        for asker in askers:  # a Deferred that was cancelled ignores this
            if found:
                asker.callback(self._addresses)
            else:
                asker.errback(
                    Failure(DNSLookupError(f"no address found for {self.host}"))
                )

    def _connectAny(
        self, addresses: _Addresses, factory: IProtocolFactory
    ) -> Deferred[IProtocol]:
        return _FirstOf(self, addresses, factory).result

    def _connectOne(
        self, address: IPv4Address | IPv6Address, factory: IProtocolFactory
    ) -> Deferred[IProtocol]:
        kind = (
            TCP6ClientEndpoint
            if isinstance(address, IPv6Address)
            else TCP4ClientEndpoint
        )
        endpoint = kind(
            self._reactor, address.host, self.port, self._timeout, self._bindAddress
        )
        connecting: Deferred[IProtocol] = endpoint.connect(factory)
        return connecting

    def worked(self, address: IPv4Address | IPv6Address) -> None:
        """
        Try this address first from now on.
        """
        self._addresses = (
            address,
            *(each for each in self._addresses if each != address),
        )
        if self._plain:
            self._worked = targetOf(address, self.port, self._bindAddress)


class _FirstOf:
    """
    A connect to several addresses, which keeps the first that answers. The next address
    is tried when the one before fails, or after a head start.
    """

    def __init__(
        self,
        endpoint: NameEndpoint,
        addresses: Sequence[IPv4Address | IPv6Address],
        factory: IProtocolFactory,
    ) -> None:
        self._endpoint = endpoint
        self._left = list(addresses)
        self._factory = factory
        self._pending: list[Deferred[IProtocol]] = []
        self._timer: IDelayedCall | None = None
        self._over = False
        self._first: Failure | None = None
        self.result: Deferred[IProtocol] = Deferred(lambda _: self._finish())
        self._next()

    def _next(self) -> None:
        """
        Begin to connect to the next address.
        """
        address = self._left.pop(0)
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        if self._left:
            self._timer = self._endpoint._reactor.callLater(HEAD_START, self._next)
        connecting = self._endpoint._connectOne(address, self._factory)
        self._pending.append(connecting)
        connecting.addCallbacks(
            self._connected,
            self._failed,
            callbackArgs=(address, connecting),
            errbackArgs=(connecting,),
        )

    def _connected(
        self,
        protocol: IProtocol,
        address: IPv4Address | IPv6Address,
        connecting: Deferred[IProtocol],
    ) -> None:
        self._pending.remove(connecting)
        self._finish()
        self._endpoint.worked(address)
        self.result.callback(protocol)

    def _failed(self, failure: Failure, connecting: Deferred[IProtocol]) -> None:
        if self._over:
            return
        self._pending.remove(connecting)
        # Report the failure of the first address: the last one may fail only because
        # this machine has no IPv6.
        self._first = self._first or failure
        if self._left:
            self._next()
        elif not self._pending:
            self._finish()
            first, self._first = self._first, None
            self.result.errback(first)

    def _finish(self) -> None:
        self._over = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        pending, self._pending = self._pending, []
        for each in pending:
            each.cancel()


def lookedUp(endpoint: IStreamClientEndpoint) -> Deferred[None]:
    """
    Look an endpoint's name up, if it has one.

    @return: Fails with L{DNSLookupError} when the name has no address.
    """
    if not isinstance(endpoint, NameEndpoint):
        return succeed(None)
    return endpoint.lookUp().addCallback(lambda addresses: None)
