"""
How connections to destinations over TLS end, both ways, over real sockets.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from iawlb.core.outcome import Outcome
from tests.net import Peer, until
from tests.pem import Issued
from tests.rig import Running, payload, rig, settled

MIB = 1024 * 1024


class Secured(Peer):
    """
    A TLS server, or a client, whose records and ends the test writes.

    @cvar host: The name of the server, for a client.
    @ivar said: The bytes that were decrypted.
    @ivar notified: Whether the balancer has sent close_notify.
    """

    context: ssl.SSLContext
    host: str | None = None

    def __init__(self) -> None:
        super().__init__()
        self.said = bytearray()
        self.notified = False
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = self.context.wrap_bio(
            self._in,
            self._out,
            server_side=self.host is None,
            server_hostname=self.host,
        )
        self.shaken = False

    def connectionMade(self) -> None:
        """
        Begin the handshake, as a client.
        """
        super().connectionMade()
        if self.host is not None:
            self.dataReceived(b"")

    def dataReceived(self, data: bytes) -> None:
        """
        Go on with the handshake, or decrypt.
        """
        if data:
            self._in.write(data)
        with contextlib.suppress(ssl.SSLWantReadError):
            if not self.shaken:
                self._tls.do_handshake()
                self.shaken = True
            with contextlib.suppress(ssl.SSLZeroReturnError):
                while found := self._tls.read(65536):
                    self.said += found
            self.notified = True
        self.flush()

    def flush(self) -> None:
        """
        Send what was encrypted.
        """
        if self._out.pending:
            self.write(self._out.read())

    def encrypted(self, data: bytes) -> bytes:
        """
        Encrypt bytes.
        """
        self._tls.write(data)
        return self._out.read()

    def say(self, data: bytes) -> None:
        """
        Send bytes.
        """
        self._tls.write(data)
        self.flush()

    def notify(self) -> None:
        """
        Send close_notify.
        """
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLError):
            self._tls.unwrap()
        self.flush()


class Tls:
    """
    The certificate of the destination.
    """

    def __init__(self, folder: Path) -> None:
        root = Issued("root", authority=True)
        leaf = Issued("leaf", root, ["localhost"])
        self.ca, self.own = folder / "ca.pem", folder / "own.pem"
        self.ca.write_bytes(root.pem)
        self.own.write_bytes(leaf.keyPem + leaf.pem)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(self.own)

    @asynccontextmanager
    async def run(
        self,
        folder: Path,
        relay: str = "fast",
        client: Any = Peer,
        **settings: Any,
    ) -> AsyncIterator[tuple[Running, Any, Any]]:
        """
        Run a balancer, and connect a client.
        """
        make = type("Secured", (Secured,), {"context": self.context})
        given: dict[str, Any] = {
            "tls": True,
            "tlsCa": str(self.ca),
            "tlsName": "localhost",
        }
        async with rig(relay, "tcp4", folder, make, **given, **settings) as on:
            client = await on.client(client)
            destination: Any = await on.server.peer()
            await until(lambda: destination.shaken)
            yield on, client, destination

    @asynccontextmanager
    async def runBoth(
        self, folder: Path, **settings: Any
    ) -> AsyncIterator[tuple[Running, Any, Any]]:
        """
        Run a balancer that speaks TLS on both sides, and connect a client.
        """
        context = ssl.create_default_context(cafile=str(self.ca))
        own = {"context": context, "host": "localhost"}
        listen = f"127.0.0.1:0 certificate={self.own}"
        make = type("Client", (Secured,), own)
        async with self.run(folder, client=make, listener=listen, **settings) as on:
            client: Any = on[1]
            await until(lambda: client.shaken)
            yield on


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    """
    Make one certificate for all tests.
    """
    return Tls(tmp_path_factory.mktemp("tls"))


async def asked(client: Peer, destination: Any) -> None:
    """
    Let the client ask, and the destination hear.
    """
    client.write(b"question")
    await until(lambda: destination.said == b"question")


@pytest.mark.parametrize("strict", [False, True])
@pytest_twisted.ensureDeferred
async def test_destinationNotifies(tls: Tls, tmp_path: Path, strict: bool) -> None:
    """
    A destination that ends TLS and closes has ended in order, also strictly; the client
    gets the end behind the answer.
    """
    async with tls.run(tmp_path, strictTls=strict) as (on, client, destination):
        await asked(client, destination)
        destination.say(b"answer")
        destination.notify()
        destination.close()
        await until(lambda: client.ended)
        client.close()
        assert await on.outcome() is Outcome.DONE
        assert bytes(client.received) == b"answer"
        assert not client.wasReset


@pytest.mark.parametrize(
    ("strict", "outcome"),
    [(False, Outcome.DONE), (True, Outcome.DESTINATION_RESET)],
)
@pytest_twisted.ensureDeferred
async def test_destinationCloses(
    tls: Tls, tmp_path: Path, strict: bool, outcome: Outcome
) -> None:
    """
    A destination that closes without close_notify, behind a complete record, has ended
    in order, unless users say that this is a cut: then the client is reset.
    """
    async with tls.run(tmp_path, strictTls=strict) as (on, client, destination):
        await asked(client, destination)
        destination.say(b"answer")
        destination.close()
        await until(lambda: client.ended or client.lost)
        assert client.wasReset is strict
        if not strict:
            client.close()
        assert await on.outcome() is outcome
        assert bytes(client.received) == b"answer"


@pytest_twisted.ensureDeferred
async def test_destinationIsCut(tls: Tls, tmp_path: Path) -> None:
    """
    An end within a record is a cut, which the client sees as a reset.
    """
    async with tls.run(tmp_path) as (on, client, destination):
        await asked(client, destination)
        destination.say(b"answer")
        destination.write(destination.encrypted(bytes(1000))[:-1])
        destination.close()
        await client.closed()
        assert client.wasReset
        assert await on.outcome() is Outcome.DESTINATION_RESET


@pytest_twisted.ensureDeferred
async def test_destinationResets(tls: Tls, tmp_path: Path) -> None:
    """
    A reset by the destination becomes one of the client.
    """
    async with tls.run(tmp_path) as (on, client, destination):
        await asked(client, destination)
        destination.reset()
        await client.closed()
        assert client.wasReset
        assert await on.outcome() is Outcome.DESTINATION_RESET


@pytest_twisted.ensureDeferred
async def test_clientEnds(tls: Tls, tmp_path: Path) -> None:
    """
    When the client ends its half, the destination gets close_notify, and its answer
    still reaches the client.
    """
    async with tls.run(tmp_path) as (on, client, destination):
        client.write(b"question")
        client.end()
        await until(lambda: destination.notified)
        assert destination.said == b"question"
        await until(lambda: destination.ended or destination.lost)
        answer = payload(MIB, 1)
        destination.say(answer)
        destination.notify()
        destination.close()
        assert await client.got(len(answer)) == answer
        await until(lambda: client.ended)
        client.close()
        assert await on.outcome() is Outcome.DONE
        assert not client.wasReset


@pytest_twisted.ensureDeferred
async def test_destinationEndsFirst(tls: Tls, tmp_path: Path) -> None:
    """
    When the destination ends its half, by close_notify alone, the client gets the end,
    and what the client sends then still reaches the destination.
    """
    async with tls.run(tmp_path) as (on, client, destination):
        destination.say(b"greeting")
        destination.notify()
        await until(lambda: client.ended)
        assert bytes(client.received) == b"greeting"
        client.write(b"last words")
        client.end()
        await until(lambda: destination.ended or destination.lost)
        assert destination.said == b"last words"
        assert destination.notified
        destination.close()
        assert not destination.wasReset
        assert await on.outcome() is Outcome.DONE


@pytest_twisted.ensureDeferred
async def test_clientResets(tls: Tls, tmp_path: Path) -> None:
    """
    A reset by the client reaches the destination as one, without close_notify, by which
    the destination would take what it got for whole.
    """
    async with tls.run(tmp_path) as (on, client, destination):
        await asked(client, destination)
        client.reset()
        await destination.closed()
        assert destination.wasReset
        assert not destination.notified
        assert await on.outcome() is Outcome.CLIENT_RESET


@pytest_twisted.ensureDeferred
async def test_stalled(tls: Tls, tmp_path: Path) -> None:
    """
    While a destination reads nothing, the client is no longer read once a buffer is
    full, and the other way round; then all of it arrives.
    """
    up, down = payload(8 * MIB, 1), payload(8 * MIB, 2)
    async with tls.run(tmp_path, bufferSize=65536) as (on, client, destination):
        (session,) = on.balancer.sessions
        client.transport.pauseProducing()
        destination.transport.pauseProducing()
        client.write(up)
        for start in range(0, len(down), MIB):
            destination.say(down[start : start + MIB])
        relay: Any = session.relay
        for side in (relay.client, relay.destination):
            await settled(side.unwritten)
            assert side.unwritten() < 4 * 65536
        assert len(client.received) == len(destination.said) == 0
        client.transport.resumeProducing()
        destination.transport.resumeProducing()
        assert await client.got(len(down)) == down
        await until(lambda: len(destination.said) == len(up))
        assert bytes(destination.said) == up


@pytest_twisted.ensureDeferred
async def test_bothEndInOrder(tls: Tls, tmp_path: Path) -> None:
    """
    With TLS on both sides, the close_notify of one side becomes that of the other, and
    the other half goes on until it ends too; also strictly.
    """
    async with tls.runBoth(tmp_path, strictTls=True) as (on, client, destination):
        client.say(b"question")
        client.notify()
        await until(lambda: destination.notified)
        assert destination.said == b"question"
        answer = payload(MIB, 1)
        destination.say(answer)
        destination.notify()
        await until(lambda: client.notified)
        assert client.said == answer
        destination.close()
        client.close()
        assert await on.outcome() is Outcome.DONE


@pytest_twisted.ensureDeferred
async def test_bothDestinationIsCut(tls: Tls, tmp_path: Path) -> None:
    """
    A client over TLS sees that its answer was cut: it is reset, and gets no
    close_notify, by which it would take the answer for whole.
    """
    async with tls.runBoth(tmp_path) as (on, client, destination):
        destination.say(b"answer")
        destination.write(destination.encrypted(bytes(1000))[:-1])
        destination.close()
        await client.closed()
        assert (bytes(client.said), client.notified) == (b"answer", False)
        assert client.wasReset
        assert await on.outcome() is Outcome.DESTINATION_RESET


@pytest_twisted.ensureDeferred
async def test_bothClientIsCut(tls: Tls, tmp_path: Path) -> None:
    """
    A destination over TLS sees that its client was cut.
    """
    async with tls.runBoth(tmp_path) as (on, client, destination):
        client.say(b"question")
        client.write(client.encrypted(bytes(1000))[:-1])
        client.close()
        await destination.closed()
        assert (bytes(destination.said), destination.notified) == (b"question", False)
        assert destination.wasReset
        assert await on.outcome() is Outcome.CLIENT_RESET


@pytest.mark.parametrize("strict", [False, True])
@pytest_twisted.ensureDeferred
async def test_bothWithoutNotify(tls: Tls, tmp_path: Path, strict: bool) -> None:
    """
    A client that closes without close_notify has ended in order, or was cut, as users
    say; the destination learns of it by close_notify, or by a reset.
    """
    async with tls.runBoth(tmp_path, strictTls=strict) as (on, client, destination):
        client.say(b"question")
        client.close()
        await until(lambda: destination.notified or destination.lost)
        assert bytes(destination.said) == b"question"
        assert destination.notified is not strict
        if strict:
            await destination.closed()
            assert destination.wasReset
        else:
            destination.notify()
            destination.close()
        outcome = Outcome.CLIENT_RESET if strict else Outcome.DONE
        assert await on.outcome() is outcome
