"""
The entrance of a pool: its listeners, the factories behind them, and the room that is
left.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from twisted.internet.defer import Deferred

from iawlb.arguments import ServerEndpoint, checkAddress
from iawlb.backend.address import parseListen
from iawlb.backend.tlslistener import Certificates, certificatesOf
from iawlb.core.events import Events
from iawlb.core.origin import Origin, PoolCount
from iawlb.core.retired import inUse
from iawlb.core.session import Session
from iawlb.core.table import SessionTable
from iawlb.errors import InvalidSetting
from iawlb.frontend.admission import Admission
from iawlb.frontend.door import Guard
from iawlb.frontend.factory import Arrival, Frontend
from iawlb.frontend.handover import SharedSocket
from iawlb.frontend.listener import Listener
from iawlb.frontend.listeners import Listeners
from iawlb.frontend.stepped import SteppedArrival
from iawlb.frontend.steps import Step, Steps
from iawlb.proxyvalidators import ALL
from iawlb.relay.context import RelayContext
from iawlb.relay.keepalive import KeepAlive
from iawlb.setting import checkNames, splitSettings
from iawlb.settings import ListenerSettings, Settings, inherited

StepsOf: TypeAlias = Callable[[ListenerSettings, Any], Sequence[Step]]
"""
Returns what the clients of a listener have to do before they enter the queue, from the
listener's settings and its certificates, which are L{None} if it does not end TLS.
"""


class Entrance:
    """
    Where the clients of a pool come in.

    @ivar listeners: The addresses that clients connect to.
    @ivar factory: Puts the connections of any endpoint into the queue.
    @ivar keepAlive: The keepalive options of connections that are accepted from now on.
    """

    def __init__(
        self,
        reactor: Any,
        clock: Any,
        count: PoolCount,
        settings: Settings,
        admission: Admission,
        table: SessionTable,
        events: Events,
        context: RelayContext,
        room: Callable[[], int],
        checkNoCircle: Callable[[Listener], None],
        keepAlive: KeepAlive,
        onHandshake: Callable[[Session], None],
        stepsOf: StepsOf,
        guardOf: Callable[[ListenerSettings], Guard | None],
        onChange: Callable[[], None],
    ) -> None:
        """
        @param room: Returns how many more connections may be accepted now.
        @param checkNoCircle: Raises L{InvalidSetting} if a destination leads to the
            address of a listener.
        @param onHandshake: Called when a session's TLS handshake has begun.
        @param stepsOf: Returns what has to be done before the clients of a listener
            enter the queue.
        @param guardOf: Returns the function that says which clients of a listener may
            come in.
        @param onChange: Called when a listener has come or gone.
        """
        self.listeners = Listeners(checkNoCircle)
        self._reactor = reactor
        self._clock = clock
        self._count = count
        self._settings = settings
        self._admission = admission
        self._table = table
        self._events = events
        self._context = context
        self._room = room
        self._readers = context.poller or reactor
        self.keepAlive = keepAlive
        self._onHandshake = onHandshake
        self._stepsOf = stepsOf
        self._guardOf = guardOf
        self._onChange = onChange
        # Those that have changed stay until their last client has come in.
        self._steps: list[Steps] = []
        embedded = ListenerSettings(**inherited(settings, ListenerSettings))
        self.factory = self._frontend(replace(embedded, name="embedded"))
        self._frontends = [self.factory]
        self._numbered = 0

    def configure(
        self, keepAlive: KeepAlive, onHandshake: Callable[[Session], None]
    ) -> None:
        """
        Use the settings of the pool as they are now, for the clients that come from now
        on.

        @param onHandshake: Called when a session's TLS handshake has begun.
        """
        self.keepAlive = keepAlive
        self._onHandshake = onHandshake
        self.renewSteps()
        for listener in self.listeners:
            listener.setKeepAlive(keepAlive)

    def renewSteps(self) -> None:
        """
        Let clients that come from now on take the steps that are needed now.
        """
        self._steps = inUse(self._steps)
        for frontend in self._frontends:
            self._prepare(frontend)

    def listen(
        self, address: str | ServerEndpoint, settings: Mapping[str, object]
    ) -> Listener:
        """
        Add a listener. It is opened at once if the others are open.

        @raise InvalidSetting: The address or a setting is wrong.
        @raise CannotListen: The listener could not be opened, and is not added.
        """
        listener = self.make(address, settings)
        self.listeners.add(listener)
        self._numbered += 1
        self._frontends.append(listener.frontend)
        self._onChange()
        return listener

    def make(
        self,
        address: str | ServerEndpoint,
        settings: Mapping[str, object],
        shared: Listener | None = None,
    ) -> Listener:
        """
        Make a listener, which L{admit} adds when it is open.

        @param shared: A listener of the same address, whose socket the new one shares
            until it takes the place of the other.
        @raise InvalidSetting: The address or a setting is wrong.
        """
        checkAddress(address, listening=True)
        text, path = repr(address), None
        endpoint: Any = address
        given: dict[str, Any] = {
            **inherited(self._settings, ListenerSettings),
            "name": f"listener-{self._numbered + 1}",
        }
        if isinstance(address, str):
            text, behind = splitSettings(address)
            checkNames(behind, ListenerSettings, "a listener", behind=True)
            given |= {"name": text, **behind}
        given.update(settings)
        checkNames(given, ListenerSettings, "a listener")
        socketOptions = ListenerSettings(**{**given, "name": "-"})
        if isinstance(address, str):
            # Before its name, which is the address again as a rule.
            port = None if shared is None else shared.shareable
            reactor = self._reactor
            if port is not None:
                # The socket stays as it is; its group is set when it is handed over.
                reactor = SharedSocket(reactor, port)
                socketOptions = replace(socketOptions, group=None, v6only=False)
            parsed = parseListen(reactor, text, self._settings.backlog, socketOptions)
            endpoint, path = parsed.endpoint, parsed.path
            certificates = parsed.certificates
            if port is not None:
                path = None
        elif socketOptions.ofSocket:
            raise InvalidSetting(
                f"{text} is an endpoint: mode, group and v6only are for addresses that "
                "are given as text"
            )
        else:
            certificates = certificatesOf(self._reactor, text, socketOptions)
        own = ListenerSettings(**given)
        heads = own
        if isinstance(address, str) and parsed.proxied and not own.acceptProxy:
            heads = replace(own, acceptProxy=(ALL,))
        frontend = self._frontend(heads, certificates)
        return Listener(
            self._reactor,
            endpoint,
            path,
            text,
            frontend,
            self._events,
            self._room,
            self._readers,
            self.keepAlive,
            own,
        )

    def admit(self, listener: Listener, instead: Listener | None = None) -> None:
        """
        Add a listener that is open and accepts nothing yet, and accept.

        @param instead: The listener whose socket the new one shares. It is closed; it
            may be one of another pool.
        """
        # The steps may have changed since it was made.
        self._prepare(listener.frontend)
        self.listeners.admit(listener, instead)
        self._frontends.append(listener.frontend)
        self._onChange()

    def forget(self, listener: Listener) -> None:
        """
        Remove a listener whose place another one has taken.
        """
        self._frontends.remove(listener.frontend)
        self.listeners.forget(listener)
        self._onChange()

    def unlisten(self, listener: Listener) -> Deferred[None]:
        """
        Close a listener and remove it. The clients that it has accepted are served, and
        those in the kernel's backlog are accepted first, as far as there is room.

        @return: Fires when the listener is closed.
        """
        self._frontends.remove(listener.frontend)
        closing = self.listeners.remove(listener)
        self._onChange()
        return closing

    def _frontend(
        self, settings: ListenerSettings, certificates: Certificates | None = None
    ) -> Frontend:
        frontend = Frontend(
            Origin(self._count, settings.name, settings.priority),
            self._clock,
            self._admission,
            self._table,
            self._context,
            self._onHandshake,
        )
        frontend.settings = settings
        frontend.certificates = certificates
        self._prepare(frontend)
        return frontend

    def _prepare(self, frontend: Frontend) -> None:
        frontend.onHandshake = self._onHandshake
        frontend.readers = self._readers
        frontend.setGuard(self._guardOf(frontend.settings))
        steps = self._stepsOf(frontend.settings, frontend.certificates)
        if steps:
            frontend.steps = Steps(self._clock, steps)
            frontend.arrive = SteppedArrival
            self._steps.append(frontend.steps)
        else:
            frontend.steps = ()
            frontend.arrive = Arrival

    def stop(self) -> None:
        """
        Stop all timers.
        """
        for each in self._steps:
            each.stop()
        self.factory.stop()
        self._admission.stop()
