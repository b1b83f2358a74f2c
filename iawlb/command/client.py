"""
Asks the running balancer, over HTTP on its admin address.
"""

from __future__ import annotations

import json
import os
import pwd
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse, IncompleteRead
from typing import Any
from urllib.parse import urlencode

from iawlb.adminplace import (
    ENVIRONMENT,
    AdminAddress,
    readAdminAddress,
    usualPlaces,
)
from iawlb.command.connection import BoundedSocket, Connection
from iawlb.command.failures import CommandError, Denied, NotRunning, OutputClosed
from iawlb.errors import InvalidSetting

LIMIT = 10.0
"""
Longest wait for an answer, beside the time that the balancer was asked to wait.
"""

EVERY = 0.5
"""
How often progress is shown while an answer is awaited, in seconds.
"""

LARGEST = 64 * 1024 * 1024
"""
The largest answer that is read, in bytes.
"""

TOKEN_FILE = "IAWLB_TOKEN_FILE"
"""
The name of the environment variable that holds the name of the token's file.
"""

START = "; start one with iawlb run FILE, or say where it is with --admin ADDRESS"

Idle = Callable[[], None]


class Answer:
    """
    The answer of the balancer.

    @ivar body: The answer as it came.
    @ivar value: The answer, read as JSON.
    @ivar date: The time of day at the balancer, in the form of HTTP.
    """

    def __init__(self, body: bytes, value: Any, date: str | None) -> None:
        self.body = body
        self.value = value
        self.date = date


class Client:
    """
    Asks the balancer at one address.
    """

    def __init__(self, address: AdminAddress, token: str | None = None) -> None:
        self.address = address
        self._token = token

    @property
    def where(self) -> str:
        """
        The address, for people.
        """
        if isinstance(self.address, str):
            return self.address
        host, port = self.address
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        query: Mapping[str, Any] | None = None,
        limit: float = LIMIT,
        idle: Idle | None = None,
    ) -> Answer:
        """
        Ask for one answer.

        @param body: What to send as JSON.
        @param query: The parameters to put into the address; those that are L{None}
            are left out.
        @param limit: Longest wait for the whole answer, in seconds.
        @param idle: Called now and then while the answer has not begun to come.
        @raise CommandError: There is no right answer.
        """
        given = {key: each for key, each in (query or {}).items() if each is not None}
        target = f"{path}?{urlencode(given)}" if given else path
        connection = Connection(self.address, limit)
        with self._explained(connection):
            self._send(connection, method, target, body)
            if idle is not None:
                connection.awaitAnswer(EVERY, idle)
            with connection.getresponse() as response:
                read = response.read(LARGEST + 1)
            if not read or (response.length and len(read) <= LARGEST):
                raise ConnectionError
        if len(read) > LARGEST:
            raise CommandError(
                f"the answer of {self.where} is longer than {LARGEST >> 20} MiB"
            )
        return self._read(response, read)

    @contextmanager
    def stream(
        self, path: str, query: Mapping[str, Any], headers: Mapping[str, str]
    ) -> Iterator[tuple[BoundedSocket, HTTPResponse]]:
        """
        Ask for an answer that does not end.

        @return: The socket, to set deadlines of reads, and the answer.
        @raise CommandError: There is no right answer.
        """
        connection = Connection(self.address, LIMIT)
        with self._explained(connection):
            self._send(connection, "GET", f"{path}?{urlencode(query)}", None, headers)
            with connection.getresponse() as response:
                kind = response.headers.get_content_type()
                if response.status != 200 or kind != "text/event-stream":
                    self._read(response, response.read(LARGEST))
                    raise CommandError(self._stranger(response))
                yield connection.bounded, response

    def _send(
        self,
        connection: Connection,
        method: str,
        target: str,
        body: Mapping[str, Any] | None,
        more: Mapping[str, str] | None = None,
    ) -> None:
        headers = {"Connection": "close"}
        headers.update(more or {"Accept": "application/json, application/problem+json"})
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = json.dumps(body).encode()
        connection.request(method, target, data, headers)

    @contextmanager
    def _explained(self, connection: Connection) -> Iterator[None]:
        """
        Turn what can go wrong with a connection into lines for people, and close the
        connection.
        """
        try:
            yield
        except OutputClosed:
            raise
        except TimeoutError:
            raise CommandError(f"{self.where} did not answer in time") from None
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
            raise NotRunning(f"no balancer runs at {self.where}{START}") from None
        except PermissionError:
            raise CommandError(self._forbidden()) from None
        except (IncompleteRead, ConnectionError):
            raise CommandError(
                f"{self.where} closed the connection before its answer was complete"
            ) from None
        except HTTPException:
            raise CommandError(
                f"{self.where} does not answer in HTTP: is it another program's?"
            ) from None
        except OSError as error:
            why = error.strerror or error
            raise CommandError(f"cannot connect to {self.where}: {why}") from None
        finally:
            connection.close()

    def _forbidden(self) -> str:
        text = f"permission denied: {self.where}"
        if isinstance(self.address, str):
            try:
                owner = os.stat(self.address).st_uid
            except OSError:
                return f"{text}: its folder is another user's"
            return f"{text} belongs to {_userName(owner)}: run this as that user"
        return text

    def _read(self, response: HTTPResponse, body: bytes) -> Answer:
        """
        Read an answer.

        @raise CommandError: The answer is an error, or is not in the form of the API.
        """
        kind = response.headers.get_content_type()
        if kind not in ("application/json", "application/problem+json"):
            raise CommandError(self._stranger(response))
        try:
            value = json.loads(body)
        except (ValueError, RecursionError):
            raise CommandError(f"the answer of {self.where} is not JSON") from None
        if response.status >= 400:
            raise Denied(self._denial(response, value), response.status, body)
        return Answer(body, value, response.headers["Date"])

    def _stranger(self, response: HTTPResponse) -> str:
        kind = response.headers.get_content_type()
        return (
            f"{self.where} answers {response.status} with {kind}, not as a balancer's "
            "admin address does: is it another program's?"
        )

    def _denial(self, response: HTTPResponse, problem: Any) -> str:
        told = problem if isinstance(problem, dict) else {}
        detail = told.get("detail") or told.get("why")
        detail = detail or f"{response.status} {response.reason}"
        if response.status in (401, 403):
            detail = f"permission denied: {detail}"
            if response.status == 401 and self._token is None:
                detail += " (give --token-file FILE)"
        _, _, theirs = (response.headers["Server"] or "").partition("iawlb/")
        ours = _version()
        if theirs and theirs != ours:
            detail += f" (the balancer is iawlb {theirs}, this command {ours})"
        return str(detail)


def _version() -> str:
    # Imported only where it is needed: it takes a third of the command's start.
    from importlib.metadata import version

    return version("iawlb")


def _userName(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"


def findClient(address: str | None, tokenFile: str | None) -> Client:
    """
    Find the balancer: at the address given, else at that of the environment, else at
    the usual places.

    @raise CommandError: The address or the token cannot be read, or nothing is at the
        usual places.
    """
    token = _readToken(tokenFile or os.environ.get(TOKEN_FILE))
    source = "--admin"
    if address is None:
        address, source = os.environ.get(ENVIRONMENT), ENVIRONMENT
    if address:
        try:
            return Client(readAdminAddress(address), token)
        except InvalidSetting as error:
            raise CommandError(f"{source}: {error}", 2) from None
    places = usualPlaces(os.environ, os.geteuid())
    for place in places:
        if not _isAbsent(place):
            return Client(place, token)
    where = " and no ".join(places)
    raise NotRunning(f"no balancer runs here: there is no {where}{START}")


def _isAbsent(place: str) -> bool:
    """
    Return whether there is surely nothing at a path. Connecting explains anything else.
    """
    try:
        os.stat(place)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _readToken(file: str | None) -> str | None:
    """
    Read the token: the last word of the file's first line that is not empty and no
    comment, so that a file of the balancer's own does too.

    @raise CommandError: There is none.
    """
    if not file:
        return None
    try:
        with open(file, "rb") as opened:
            lines = opened.read(64 * 1024).decode().split("\n")
    except OSError as error:
        raise CommandError(f"--token-file: {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CommandError(f"--token-file: {file}: is not text") from None
    words = [each.split()[-1] for each in lines if not _isComment(each)]
    if not words:
        raise CommandError(f"--token-file: {file}: holds no token")
    token = words[0]
    if not token.isascii() or not token.isprintable():
        raise CommandError(f"--token-file: {file}: the token is not printable ASCII")
    return token


def _isComment(line: str) -> bool:
    """
    Return whether a line of a file of tokens is empty or a comment.
    """
    return line.lstrip()[:1] in ("", "#")
