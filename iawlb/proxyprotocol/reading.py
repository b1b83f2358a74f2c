"""
Reading a header of the PROXY protocol of either version.
"""

from __future__ import annotations

from iawlb.proxyprotocol.binary import SIGNATURE, BinaryReader
from iawlb.proxyprotocol.header import Header
from iawlb.proxyprotocol.textual import TextReader


class HeaderReader:
    """
    Reads one header, which may come in pieces of any size, and no byte behind it.

    @ivar header: The header, once it is complete; L{None} before.
    """

    def __init__(self) -> None:
        self._reader: TextReader | BinaryReader | None = None

    @property
    def header(self) -> Header | None:
        """
        The header, once it is complete.
        """
        return None if self._reader is None else self._reader.header

    def feed(self, data: bytes) -> int:
        """
        Read more bytes. Wrong ones are refused as soon as they cannot become a header.

        @return: How many of the bytes belong to the header: all, unless this completes
            the header.
        @raise WrongHeader: They are wrong; the text says why.
        """
        if not data:
            return 0
        if self._reader is None:
            binary = data[0] == SIGNATURE[0]
            self._reader = BinaryReader() if binary else TextReader()
        return self._reader.feed(data)
