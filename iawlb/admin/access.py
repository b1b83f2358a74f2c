"""
Who asks, and what he may do: roles, tokens, peers of Unix sockets, and browsers that
ask on behalf of other sites.
"""

from __future__ import annotations

import hmac
import ipaddress
import os
import re
import socket
import stat
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from twisted.logger import Logger

from iawlb.admin.problem import Problem
from iawlb.errors import InvalidSetting


class Role(IntEnum):
    """
    What a client may do. Each role may do what those before it may.
    """

    NONE = 0
    READ = 1
    OPERATE = 2
    ADMIN = 3

    @property
    def word(self) -> str:
        """
        The role's name, as in the token file.
        """
        return self.name.lower()


ROLES = {each.word: each for each in Role if each}
LARGEST_FILE = 64 * 1024
SHORTEST_TOKEN = 16


@dataclass(frozen=True, slots=True)
class Asker:
    """
    The client of a request.

    @ivar name: The client for the audit line, such as C{uid 0 (pid 12)}.
    """

    role: Role
    name: str
    hasToken: bool = False


class Tokens:
    """
    The tokens of a file, of which each line is C{ROLE TOKEN}; empty lines, and those
    that begin with C{#}, are comments. When the file has changed it is read again. If
    it cannot be used then, the former tokens go on.
    """

    log = Logger()

    def __init__(self, path: str) -> None:
        """
        @raise InvalidSetting: The file cannot be read, or a line is wrong, or others
            may read the file.
        """
        self._path = path
        self._version = _versionOf(path)
        self._tokens = _readTokens(path)

    def roleOf(self, token: str) -> Role | None:
        """
        Return the role of a token. The time that takes says nothing of the tokens.
        """
        self._readAgain()
        given = token.encode()
        found = None
        for role, each in self._tokens:
            if hmac.compare_digest(each, given):
                found = role
        return found

    def _readAgain(self) -> None:
        """
        Read the file if it has changed.
        """
        version = _versionOf(self._path)
        if version == self._version:
            return
        self._version = version
        try:
            self._tokens = _readTokens(self._path, again=True)
        except InvalidSetting as error:
            self.log.error("{why}; the former tokens can still be used", why=str(error))
        else:
            self.log.info("the tokens of {path} were read again", path=self._path)


def _versionOf(path: str) -> object:
    """
    Return what differs when a file has changed.
    """
    try:
        found = os.stat(path)
    except OSError as error:
        return error.errno
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_mode


def _readTokens(path: str, again: bool = False) -> list[tuple[Role, bytes]]:
    """
    Read a file of tokens.

    @param again: Whether the process serves already, and must not wait for a pipe.
    @raise InvalidSetting: Something is wrong with it.
    """
    setting = "admin-tokens"
    try:
        if again and not stat.S_ISREG(os.stat(path).st_mode):
            raise InvalidSetting(f"{setting}: {path} is not a regular file")
        with open(path, encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode
            if stat.S_ISREG(mode) and mode & (stat.S_IRWXO | stat.S_IWGRP):
                raise InvalidSetting(
                    f"{setting}: others can read or write {path}: chmod 600 {path}"
                )
            text = file.read(LARGEST_FILE + 1)
    except OSError as error:
        why = error.strerror
        raise InvalidSetting(f"{setting}: cannot read {path}: {why}") from None
    except UnicodeDecodeError:
        raise InvalidSetting(f"{setting}: {path} is not text") from None
    if len(text) > LARGEST_FILE:
        raise InvalidSetting(f"{setting}: {path} is longer than {LARGEST_FILE} bytes")
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        where = f"{setting}: {path}:{number}"
        if len(words) != 2 or words[0] not in ROLES:
            raise InvalidSetting(
                f"{where}: a line is ROLE TOKEN, and a role is read, operate or admin"
            )
        if not re.fullmatch(r"[A-Za-z0-9._~+/-]+=*", words[1]):
            raise InvalidSetting(
                f"{where}: a token is of letters, digits and - . _ ~ + / ="
            )
        if len(words[1]) < SHORTEST_TOKEN:
            raise InvalidSetting(
                f"{where}: the token is shorter than {SHORTEST_TOKEN} characters: "
                "make one with openssl rand -hex 32"
            )
        found.append((ROLES[words[0]], words[1].encode()))
    if not found:
        raise InvalidSetting(f"{setting}: {path} holds no token")
    return found


def peerOf(transport: Any) -> Asker:
    """
    Return the process at the other end of a Unix socket, as the kernel knows it: the
    same user and root may do all, others nothing.
    """
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:  # not Linux: only this user can connect, by the file's mode
        return Asker(Role.ADMIN, f"uid {os.geteuid()}")
    found = transport.socket.getsockopt(
        socket.SOL_SOCKET, option, struct.calcsize("3i")
    )
    pid, uid, _ = struct.unpack("3i", found)
    role = Role.ADMIN if uid in (0, os.geteuid()) else Role.NONE
    return Asker(role, f"uid {uid} (pid {pid})")


def isLoopback(host: str) -> bool:
    """
    Return whether a host is a name or address of this machine for itself.
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower().rstrip(".") in ("localhost", "localhost.localdomain")


def splitHost(text: str) -> str | None:
    """
    Return the host of a C{Host} header without its port, or L{None} if the header is
    wrong.
    """
    match = re.fullmatch(
        r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::\d{1,5})?", text
    )
    return (match[1] or match[2]) if match is not None else None


class Access:
    """
    The rules of one address that the admin server listens on.
    """

    def __init__(self, host: str | None, tokens: Tokens | None) -> None:
        """
        @param host: The host that is listened on, or L{None} for a Unix socket.
        """
        self._host = host
        self._tokens = tokens
        self._loopback = host is not None and isLoopback(host)
        self.needsToken = host is not None and not self._loopback

    def identify(self, transport: Any, authorization: str | None, peer: str) -> Asker:
        """
        Find out who asks.

        @param authorization: The header of that name.
        @param peer: The client's address, for the audit line.
        @raise Problem: The token is wrong.
        """
        # The peer of a Unix socket is known without a token.
        known = self._host is None and self._tokens is None
        if authorization is not None and not known:
            scheme, _, token = authorization.partition(" ")
            role = None
            if scheme.lower() == "bearer" and self._tokens is not None:
                role = self._tokens.roleOf(token.strip())
            if role is None:
                raise unauthorized("the token is not known here")
            return Asker(role, f"token {role.word} ({peer})", hasToken=True)
        if self._host is None:
            return peerOf(transport)
        return Asker(Role.READ if self._loopback else Role.NONE, peer)

    def check(self, asker: Asker, needed: Role) -> None:
        """
        Refuse a client that may not do what it asks.

        @raise Problem: It may not.
        """
        if asker.role >= needed:
            return
        if self._host is not None and not asker.hasToken:
            raise unauthorized(f"this needs a token of the role {needed.word}")
        raise Problem(403, f"{asker.name} may not do this: it needs {needed.word}")

    def checkHost(self, header: str | None, asker: Asker) -> None:
        """
        Refuse requests that a browser sends here because a name of another site was
        made to point here (DNS rebinding).

        @raise Problem: The header C{Host} names another host.
        """
        if header is None:
            return
        host = splitHost(header)
        if host is None:
            raise Problem(400, "the header Host is not host:port")
        if asker.hasToken or isLoopback(host):
            return
        # An address is no name, so no name that was made to point here.
        isName = re.fullmatch(r"[0-9.]+|.*:.*", host) is None
        if self._host is None:
            # A browser gets here through a tunnel of ssh's; clients of a Unix socket
            # write any word.
            if not isName or "." not in host:
                return
        elif host.lower() == self._host.lower() or not (isName or self._loopback):
            return
        raise Problem(421, f"this is not {host}: ask for localhost, or by address")


def checkOrigin(
    method: str, header: Callable[[str], str | None], host: str | None
) -> None:
    """
    Refuse requests that the page of another site makes in a browser. To follow a link
    from there is no such request.

    @param header: Returns a header.
    @param host: The header C{Host}.
    @raise Problem: The page is another site's.
    """
    origin, site = header("Origin"), header("Sec-Fetch-Site")
    if origin is not None:
        # A proxy may speak TLS with the browser.
        foreign = origin.lower() not in (
            f"http://{host}".lower(),
            f"https://{host}".lower(),
        )
    else:
        link = method == "GET" and header("Sec-Fetch-Mode") == "navigate"
        foreign = site not in (None, "same-origin", "none") and not link
    if foreign:
        raise Problem(403, "pages of other sites may not ask here")


def unauthorized(why: str) -> Problem:
    """
    Return the answer to a client that has to give a token.
    """
    return Problem(401, why, {"WWW-Authenticate": 'Bearer realm="iawlb"'})
