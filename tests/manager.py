"""
A stand-in for systemd's side of sd_notify: a socket that keeps what it is told.
"""

from __future__ import annotations

import os
import socket
from array import array
from contextlib import suppress
from typing import Any


class Manager:
    """
    The socket of a service manager.

    @ivar messages: The messages that came, each as the values by their names.
    @ivar store: The descriptors that are kept, by their names.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.messages: list[dict[str, str]] = []
        self.store: dict[str, int] = {}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0", 1))
        self._socket.setblocking(False)

    def read(self) -> list[dict[str, str]]:
        """
        Read what has come.

        @return: All messages.
        """
        with suppress(BlockingIOError):
            while True:
                text, ancillary, _, _ = self._socket.recvmsg(65536, 4096)
                found = array("i")
                for _, _, data in ancillary:
                    found.frombytes(data)
                message = dict(
                    each.partition("=")[::2] for each in text.decode().splitlines()
                )
                self.messages.append(message)
                self._keep(message, list(found))
        return self.messages

    def _keep(self, message: dict[str, str], descriptors: list[int]) -> None:
        name = message.get("FDNAME", "")
        if "FDSTORE" in message:
            (self.store[name],) = descriptors
        elif "FDSTOREREMOVE" in message:
            number = self.store.pop(name, None)
            if number is not None:
                os.close(number)
        else:
            assert not descriptors

    def all(self, name: str) -> list[str]:
        """
        Return the values of a name in all messages.
        """
        return [each[name] for each in self.read() if name in each]

    def close(self, *_: Any) -> None:
        """
        Close the socket and what is kept.
        """
        self.read()
        self._socket.close()
        for each in self.store.values():
            os.close(each)
        self.store.clear()

    __exit__ = close

    def __enter__(self) -> Manager:
        return self
