"""
The load balancer as a service: the public, embeddable object with one pool.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Unpack

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol

from iawlb.arguments import (
    BalancerArguments,
    ClientEndpoint,
    DestinationArguments,
    ListenerArguments,
    PolicyName,
    ServerEndpoint,
    addressesOf,
)
from iawlb.balancer import Balancer
from iawlb.core.destination import Destination
from iawlb.core.events import Observer
from iawlb.core.policy import Policy
from iawlb.errors import InvalidSetting
from iawlb.frontend.choosing import Choose


class LoadBalancer(Balancer):
    """
    A load balancer with one pool, C{default}: connections wait in its queue, and each
    destination's worker pulls the next one when it has a free slot.

    It can be started in any Twisted program::

        balancer = LoadBalancer(
            reactor,
            listeners=["tcp:8080"],
            destinations=["localhost:9001", "localhost:9002 slots=4"],
            queueTimeout="10s",
        )
        balancer.startService()

    @ivar factory: A factory that puts the connections it accepts into the queue. Give
        it to any endpoint or service of your own.
    """

    def __init__(
        self,
        reactor: Any,
        listeners: Iterable[str | ServerEndpoint] = (),
        destinations: Iterable[str | ClientEndpoint] = (),
        *,
        policy: PolicyName | Policy | None = None,
        choose: Choose | None = None,
        observers: Iterable[Observer] | None = None,
        **settings: Unpack[BalancerArguments],
    ) -> None:
        """
        @param listeners: Addresses to listen on, each with its settings behind it, as
            after C{--listen}; or endpoints.
        @param destinations: Addresses to forward to, each with its settings behind it,
            as after C{--dest}; or endpoints, whose settings are the defaults (use
            L{add} to give others).
        @param policy: The name of a policy, or one of your own (see L{IPolicy}).
        @param choose: Chooses where each client goes, see
            L{Balancer.addPool<iawlb.balancer.Balancer.addPool>}.
        @param observers: Objects that are called at every step (see L{IObserver}); by
            default one that writes log lines.
        @param settings: Any field of L{Settings}, by its name.
        @raise InvalidSetting: An argument is wrong.
        """
        given: dict[str, Any] = {**settings}
        if isinstance(policy, str):
            given["policy"] = policy
        super().__init__(reactor, observers=observers, **given)
        self._pool = self.addPool("default", policy=policy, choose=choose)
        self.factory = self._pool.factory
        for listener in addressesOf(listeners, listening=True):
            self._named("listeners", self.listen, listener)
        for destination in addressesOf(destinations, listening=False):
            self._named("destinations", self.add, destination)

    def _named(self, argument: str, take: Callable[[Any], object], item: Any) -> None:
        """
        Take an item of an argument.

        @raise InvalidSetting: The item is wrong; the message names the argument.
        """
        try:
            take(item)
        except InvalidSetting as error:
            raise InvalidSetting(f"{argument}: {error}") from error

    # Destinations, also while the balancer runs.

    @property
    def destinations(self) -> list[Destination]:
        """
        The destinations, in the order in which they were added. Read them freely, and
        change them by the methods here.
        """
        return self._pool.destinations

    def add(
        self,
        address: str | ClientEndpoint,
        **settings: Unpack[DestinationArguments],
    ) -> Destination:
        """
        Add a destination. If the balancer runs, the destination takes sessions at once.

        @param address: As after C{--dest}, or an endpoint.
        @param settings: C{name}, C{slots} and C{weight}; they override those behind the
            address.
        @raise InvalidSetting: The address or a setting is wrong, or the name is taken.
        """
        return self._pool.add(address, settings)

    def remove(self, name: str) -> Deferred[None]:
        """
        Remove a destination: it takes no more sessions, and those it has continue.

        @return: Fires when the last of the sessions has ended and the destination is
            gone.
        @raise UnknownDestination: There is no destination of that name.
        """
        return self._pool.remove(name)

    def pause(self, name: str | None = None) -> None:
        """
        Let a destination take no more sessions. The sessions it has continue; new ones
        wait, or go to other destinations. So the destination can be restarted without a
        client noticing.

        @param name: The destination's name; by default all destinations are paused.
        @raise UnknownDestination: There is no destination of that name.
        """
        self._pool.setPaused(name, True)

    def resume(self, name: str | None = None) -> None:
        """
        Undo L{pause}.

        @raise UnknownDestination: There is no destination of that name.
        """
        self._pool.setPaused(name, False)

    # Listeners and clients.

    @property
    def addresses(self) -> list[str]:
        """
        The addresses that the balancer listens on, each as C{host:port}, C{[v6]:port}
        or C{unix:path}; before it is started, as the user wrote them.
        """
        return self._pool.listeners.addresses

    def listen(
        self,
        address: str | ServerEndpoint,
        **settings: Unpack[ListenerArguments],
    ) -> None:
        """
        Add a listener. It is opened when the balancer is started, or at once if the
        balancer runs: C{addresses} then holds its address. If its endpoint does not
        listen at once, the listener is opened a little later, and a failure is logged.

        @param address: As after C{--listen}, or an endpoint.
        @param settings: C{name}, which overrides the one behind the address.
        @raise InvalidSetting: The address or a setting is wrong.
        @raise CannotListen: The listener could not be opened; it is not added.
        """
        self._pool.listen(address, settings)

    @property
    def waiting(self) -> int:
        """
        The number of sessions that wait in the queue.
        """
        return len(self._pool.queue)

    def takeOver(self, protocol: IProtocol, data: bytes = b"") -> None:
        """
        Put a connection of your own protocol into the queue. The protocol is not called
        any more.

        @param protocol: A connected protocol. Its transport must call the protocol
            itself, as Twisted's TCP, Unix and TLS transports do.
        @param data: Bytes that the protocol has read, which the destination gets first.
        @raise InvalidSetting: The connection cannot be taken over, or there is no room;
            the connection is left as it was.
        """
        transport: Any = getattr(protocol, "transport", None)
        for attribute in ("protocol", "wrappedProtocol"):
            if getattr(transport, attribute, None) is protocol:
                break
        else:
            raise InvalidSetting(f"{protocol!r} is not what its transport calls")
        side = self.factory.buildProtocol(transport.getPeer())
        if side is None:
            raise InvalidSetting("there is no room for another connection")
        setattr(transport, attribute, side)
        side.fromStart = False
        if data:
            side.early.append(data)
        side.makeConnection(transport)
        # A protocol that has read something is past any handshake.
        if not side.ready:
            side.handshakeCompleted()
