"""
Messages to the service manager, systemd: the process is ready, reloads, stops, is
alive, and which listening sockets are to be kept for the next process (sd_notify).
"""

from __future__ import annotations

import errno
import os
import socket
import time
from array import array
from collections import deque
from collections.abc import Iterator, Mapping

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from iawlb.backend import held
from iawlb.backend.address import placeOf
from iawlb.backend.held import storedName, whereOf
from iawlb.balancer import Balancer
from iawlb.compat import leaveToOthers
from iawlb.core.destination import Destination
from iawlb.core.ratelimit import FailureLog
from iawlb.frontend.listener import Listener

EVERY = 1.0
"""
The time between two looks at what is to be sent, in seconds.
"""

STATUS_EVERY = 5.0
"""
The least time between two messages that only say how many sessions there are.
"""

EXTENSION = 30.0
"""
The time, in seconds, for which systemd is asked to wait, again and again while the
balancer drains.
"""

LONGEST_STATUS = 200

_BOUND = 2000

Message = tuple[str, int | None]
"""
A message, and the descriptor that goes with it.
"""


class NotifySocket:
    """
    Sends messages to the socket of the service manager. No failure does any harm: a
    message that has no room is sent later, and any other failure is logged once.
    """

    log = Logger()

    def __init__(self, address: str) -> None:
        """
        @param address: The path of the socket; C{@} stands for the first byte of an
            abstract name.
        """
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._waiting: deque[Message] = deque(maxlen=_BOUND)
        self._failed = False
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def send(self, *lines: str, descriptor: int | None = None) -> None:
        """
        Send a message which has to arrive: after those that have to before it.

        @param descriptor: A descriptor that goes with the message. It is closed once
            the message was sent.
        """
        if len(self._waiting) == _BOUND:
            self._forget(self._waiting.popleft())
        self._waiting.append(("\n".join(lines), descriptor))
        self.flush()

    def sendNow(self, *lines: str) -> None:
        """
        Send a message which is of no use later: now, or not at all.
        """
        if self.flush():
            self._trySend(("\n".join(lines), None))

    def flush(self) -> bool:
        """
        Send what is waiting.

        @return: Whether nothing waits any more.
        """
        while self._waiting:
            if not self._trySend(self._waiting[0]):
                return False
            self._forget(self._waiting.popleft())
        return True

    def close(self) -> None:
        """
        Send what is waiting if there is room, and send nothing more.
        """
        self.flush()
        for message in self._waiting:
            self._forget(message)
        self._waiting.clear()
        self._socket.close()

    def _trySend(self, message: Message) -> bool:
        """
        Send a message.

        @return: Whether it is done with: sent, or never to be.
        """
        text, descriptor = message
        rights = []
        if descriptor is not None:
            carried = array("i", [descriptor])
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, carried)]
        try:
            self._socket.sendmsg([text.encode()], rights, 0, self._address)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.ENOBUFS, errno.ETOOMANYREFS):
                return False
            if not self._failed:
                self._failed = True
                self.log.warn(
                    "cannot notify the service manager: {why}",
                    why=error.strerror or error,
                )
        else:
            self._failed = False
        return True

    def _forget(self, message: Message) -> None:
        if message[1] is not None:
            os.close(message[1])


class ServiceManager:
    """
    Tells the service manager what the process does. Without a service manager, or one
    that is not to be told, nothing is done.
    """

    log = Logger()

    def __init__(
        self, balancer: Balancer, environment: Mapping[str, str] | None = None
    ) -> None:
        """
        @param environment: By default that of the process.
        """
        if environment is None:
            environment = os.environ
        self._clock = balancer.clock
        self._balancer = balancer
        self._socket: NotifySocket | None = None
        address = environment.get("NOTIFY_SOCKET", "")
        if address.startswith(("/", "@")):
            self._socket = NotifySocket(address)
        elif address:
            self.log.warn(
                "NOTIFY_SOCKET is {address}, and only /path and @name are known",
                address=address,
            )
        self._alive = _interval(environment)
        # systemd tells it since version 254; 0 is that it would keep none.
        self._stores = environment.get("FDSTORE") != "0"
        # The number of the socket that is kept under each name.
        self._stored: dict[str, int] = {}
        self._tick: IDelayedCall | None = None
        self._lastAlive = self._lastStatus = 0.0
        self._status = ""
        self._stopping = False
        self._failures = FailureLog(self._clock, "notifying the service manager")

    def started(self) -> None:
        """
        Called when the listeners are open and the balancer serves.
        """
        useless = held.HELD.release()
        if self._socket is None:
            return
        for name in useless:
            self._socket.send("FDSTOREREMOVE=1", f"FDNAME={name}")
        self._store()
        self._status = self.status()
        self._socket.send("READY=1", f"STATUS={self._status}")
        self._lastAlive = self._lastStatus = self._clock.seconds()
        self._again()

    def reloading(self) -> None:
        """
        Called when a reload begins.
        """
        if self._socket is not None and not self._stopping:
            now = time.monotonic_ns() // 1000
            self._socket.send(
                "RELOADING=1", f"MONOTONIC_USEC={now}", "STATUS=Reloading"
            )

    def reloaded(self) -> None:
        """
        Called when a reload has ended, whether it was successful or not.
        """
        if self._socket is not None and not self._stopping:
            self._store()
            self._status = self.status()
            self._socket.send("READY=1", f"STATUS={self._status}")

    def stopping(self) -> None:
        """
        Called when the process begins to stop, before the listeners close. Those that
        systemd keeps stay open for the next process.
        """
        if self._socket is None or self._stopping:
            return
        self._stopping = True
        if self._stores:
            for listener, _ in self._listening():
                leaveToOthers(listener.port)
        self._status = self.status()
        self._socket.send("STOPPING=1", f"STATUS={self._status}", self._extension())

    def stopped(self) -> None:
        """
        Called when the balancer has stopped.
        """
        tick, self._tick = self._tick, None
        if tick is not None:
            tick.cancel()
        self._failures.stop()
        notified, self._socket = self._socket, None
        if notified is not None:
            notified.close()

    def status(self) -> str:
        """
        Return what the balancer does, in a line.
        """
        sessions = len(self._balancer.sessions)
        waiting = sum(len(each.queue) for each in self._balancer.pools.values())
        every = list(self._destinations())
        up = sum(1 for each in every if each.isUp)
        counted = f"{sessions} sessions, {waiting} of them waiting"
        if self._stopping:
            return f"Stopping: {counted}"
        return f"{up} of {len(every)} destinations up; {counted}"[:LONGEST_STATUS]

    def _destinations(self) -> Iterator[Destination]:
        for pool in self._balancer.pools.values():
            yield from pool.destinations

    def _again(self) -> None:
        wait = EVERY if self._alive is None else min(EVERY, self._alive)
        self._tick = self._clock.callLater(wait, self._look)

    def _look(self) -> None:
        """
        Send what has changed or is due.
        """
        self._again()
        notified = self._socket
        assert notified is not None
        now = self._clock.seconds()
        notified.flush()
        if self._alive is not None and now - self._lastAlive >= self._alive:
            self._lastAlive = now
            notified.sendNow("WATCHDOG=1")
        if not self._stopping:
            self._store()
        if now - self._lastStatus < STATUS_EVERY:
            return
        self._lastStatus = now
        lines = [self._extension()] if self._stopping else []
        status = self.status()
        if status != self._status:
            self._status = status
            lines.append(f"STATUS={status}")
        if lines:
            notified.sendNow(*lines)

    def _extension(self) -> str:
        return f"EXTEND_TIMEOUT_USEC={EXTENSION * 1e6:.0f}"

    def _listening(self) -> Iterator[tuple[Listener, socket.socket]]:
        """
        Return the listeners whose sockets systemd may keep: not those that it holds
        anyway for a socket unit, and no Unix socket that was renamed when it listened
        again after it had refused, as such a socket does not know its path.
        """
        for pool in self._balancer.pools.values():
            for listener in pool.listeners:
                found = getattr(listener.port, "socket", None)
                if found is None or listener.text.startswith("systemd:"):
                    continue
                if found.family == socket.AF_UNIX:
                    place = placeOf(listener.text, listening=True)
                    if place is None or place.path != os.fsdecode(found.getsockname()):
                        continue
                yield listener, found

    def _store(self) -> None:
        """
        Have systemd keep the sockets that listen, and forget those that do no more.
        """
        if not self._stores:
            return
        try:
            self._storeAll()
        except OSError:
            # No descriptor is free, say.
            self._failures.add()

    def _storeAll(self) -> None:
        notified = self._socket
        assert notified is not None
        listening: dict[str, tuple[int, socket.socket]] = {}
        for _, found in self._listening():
            name = storedName(whereOf(found))
            listening[name] = (os.fstat(found.fileno()).st_ino, found)
        for name, number in list(self._stored.items()):
            if name not in listening or listening[name][0] != number:
                del self._stored[name]
                notified.send("FDSTOREREMOVE=1", f"FDNAME={name}")
        for name, (number, found) in listening.items():
            if name not in self._stored:
                self._stored[name] = number
                # systemd would drop a socket that refuses for a while (FDPOLL).
                notified.send(
                    "FDSTORE=1",
                    f"FDNAME={name}",
                    "FDPOLL=0",
                    descriptor=os.dup(found.fileno()),
                )


def _interval(environment: Mapping[str, str]) -> float | None:
    """
    Return the time after which systemd is to be told again that the process is alive,
    half of what it waits; L{None} if it does not wait for that.
    """
    given = environment.get("WATCHDOG_USEC", "")
    process = environment.get("WATCHDOG_PID", "")
    if not given.isdecimal() or int(given) == 0:
        return None
    if process and process != str(os.getpid()):
        return None
    return int(given) / 2e6
