"""
The processes of C{chaos.py}: the balancer with a control socket, and backends.

Every backend speaks the same small protocol, since a client cannot know which of
them it gets. A request is one line, C{NUMBER UP DOWN}, with UP bytes behind it; an
answer is one line, C{KIND PROCESS NUMBER DOWN}, with DOWN bytes behind it. All
bytes come from L{pattern}, so that both ends know what is right, and the process
number in the answer tells whose end a client has seen.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

BLOCK = random.Random(7).randbytes(6_000_011)
"""
What all bytes are cut from. Its length is the most that can be asked for, and a
prime number, so that no buffer's size divides it.
"""

REFUSING = 2.0
"""
How long a backend refuses connections after SIGUSR1, in seconds.
"""

HOLDING = 20.0
"""
How long the hung backend keeps a connection that it never reads, in seconds;
longer than any time-out of the balancer's.
"""


def pattern(number: int, length: int) -> bytes:
    """
    Make the bytes that belong to a number.
    """
    start = number * 7919 % len(BLOCK)
    piece = BLOCK[start : start + length]
    return piece + BLOCK[: length - len(piece)]


def closeByReset(connection: socket.socket) -> None:
    """
    Close a socket so that its peer gets an RST.
    """
    with suppress(OSError):
        connection.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
    connection.close()


class _Refuse(Exception):
    """
    Raised by SIGUSR1: close the listening socket for a while.
    """


def _answer(connection: socket.socket, kind: str) -> None:
    """
    Serve one connection as a backend of this kind does.
    """
    me = os.getpid()
    reading = connection.makefile("rb")
    with connection, reading, suppress(OSError, ValueError):
        connection.settimeout(60)
        if kind == "hung":
            time.sleep(HOLDING)
            return
        if kind == "named" and reading.readline(108)[:6] != b"PROXY ":
            return  # no client of such a backend gets anything without a header
        if kind == "speak":
            connection.sendall(f"hello {me} 0 0\n".encode())
        while line := reading.readline(100):
            number, up, down = map(int, line.split())
            request = reading.read(up)
            if len(request) < up:
                return  # the client has gone; one that is still there sees an end
            word = kind if request == pattern(number, up) else "wrong"
            connection.sendall(f"{word} {me} {number} {down}\n".encode())
            answer = pattern(number + 1, down)
            if kind == "reset":
                connection.sendall(answer[: down // 2])
                reading.close()
                closeByReset(connection)
                return
            if kind == "slow":
                step = down // 8 + 1
                for start in range(0, down, step):
                    connection.sendall(answer[start : start + step])
                    time.sleep(0.15)
                continue
            connection.sendall(answer)
            if kind == "close":
                return
            if kind == "half":
                connection.shutdown(socket.SHUT_WR)
                while reading.read(65536):
                    pass
                return


def backend(kind: str, port: int) -> None:
    """
    Run a backend for ever: C{echo} (several requests on a connection), C{close}
    (it closes after its answer), C{speak} (it speaks first), C{half} (it ends its
    half after its answer), C{named} (it wants a PROXY header), C{slow}, C{hung} (it
    never reads) or C{reset} (it resets in the middle of its answer).
    """

    def refuse(number: int, frame: object) -> None:
        raise _Refuse

    signal.signal(signal.SIGUSR1, refuse)
    while True:
        try:
            with socket.create_server(("127.0.0.1", port), backlog=128) as listening:
                while True:
                    connection, _ = listening.accept()
                    threading.Thread(
                        target=_answer, args=(connection, kind), daemon=True
                    ).start()
        except _Refuse:
            with suppress(_Refuse):
                time.sleep(REFUSING)


def _control(balancer: Any, descriptor: int) -> None:
    """
    Obey orders that come by a socket, and answer each with the balancer's state.

    @param balancer: The L{iawlb.LoadBalancer}.
    """
    # Only here: the command chooses the reactor.
    from twisted.internet import reactor as chosen
    from twisted.internet.defer import Deferred, maybeDeferred
    from twisted.internet.protocol import Factory
    from twisted.protocols.basic import LineReceiver
    from twisted.python.failure import Failure

    reactor: Any = chosen

    def state() -> dict[str, object]:
        return {
            "sessions": len(balancer.sessions),
            "waiting": balancer.waiting + balancer.pool("default").door.delayed,
            "destinations": {
                each.name: [each.active, each.connecting, each.state]
                for each in balancer.destinations
            },
            "timers": len(reactor.getDelayedCalls()),
            "readers": len(reactor.getReaders()),
        }

    def configure(changes: dict[str, Any]) -> None:
        pool = balancer.pool("default")
        pool.configure(replace(pool.settings, **changes))

    def do(what: str, *arguments: Any) -> Deferred[Any]:
        if what == "state":
            return maybeDeferred(lambda: None)
        if what == "configure":
            return maybeDeferred(configure, *arguments)
        if what == "pool":
            method, *others = arguments
            return maybeDeferred(getattr(balancer.pool("default"), method), *others)
        if what == "addProgram":
            address, own = arguments
            return maybeDeferred(balancer.add, address, **own)
        return maybeDeferred(getattr(balancer, what), *arguments)

    class Control(LineReceiver):
        """
        Reads the orders.
        """

        delimiter = b"\n"

        def lineReceived(self, line: bytes) -> None:
            """
            Obey one, C{[NUMBER, WHAT, ARGUMENT...]}.
            """
            number, what, *arguments = json.loads(line)

            def said(result: object) -> None:
                error = ""
                if isinstance(result, Failure):
                    error = result.getErrorMessage()
                answer = {"number": number, "error": error, **state()}
                self.sendLine(json.dumps(answer).encode())

            do(what, *arguments).addBoth(said)

    reactor.adoptStreamConnection(
        descriptor, socket.AF_UNIX, Factory.forProtocol(Control)
    )
    os.close(descriptor)  # the reactor has its own


def balancer(mode: str, descriptor: int, description: str) -> None:
    """
    Run the balancer.

    @param mode: C{command} for C{twistd iawlb}, with its own log and clock; or
        C{embedded} for a L{iawlb.LoadBalancer} in a plain reactor, with Twisted's
        own log.
    @param descriptor: The control socket.
    @param description: C{listen}, C{dest} and C{settings} as JSON.
    """
    from iawlb import LoadBalancer

    told = json.loads(description)
    if mode == "command":
        # The balancer that the command makes is caught when it starts.
        start = LoadBalancer.startService

        def startService(self: LoadBalancer) -> None:
            start(self)
            _control(self, descriptor)

        LoadBalancer.startService = startService  # type: ignore[method-assign]
        options = [f"--listen={each}" for each in told["listen"]]
        options += [f"--dest={each}" for each in told["dest"]]
        for name, value in told["settings"].items():
            option = re.sub("[A-Z]", lambda match: "-" + match[0].lower(), name)
            options.append(f"--{option}={value}")
        from twisted.scripts.twistd import run

        sys.argv = ["twistd", "-n", "--pidfile=", "iawlb", *options]
        run()
        return
    from twisted.internet import reactor as chosen
    from twisted.logger import globalLogBeginner, textFileLogObserver

    reactor: Any = chosen
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stdout)])
    made = LoadBalancer(reactor, told["listen"], told["dest"], **told["settings"])
    made.startService()
    reactor.addSystemEventTrigger("before", "shutdown", made.stopService)
    _control(made, descriptor)
    reactor.run()


def main(arguments: Sequence[str]) -> None:
    """
    Be what C{chaos.py} asks for.
    """
    role, *rest = arguments
    if role == "backend":
        backend(rest[0], int(rest[1]))
    else:
        balancer(rest[0], int(rest[1]), rest[2])


if __name__ == "__main__":
    main(sys.argv[1:])
