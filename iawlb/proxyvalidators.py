"""
Validators of settings about the PROXY protocol.
"""

from __future__ import annotations

from functools import cached_property

from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import IAddress

from iawlb.errors import InvalidSetting
from iawlb.listvalidators import textsOf
from iawlb.networks import Networks, packedAddress
from iawlb.networkvalidators import networks
from iawlb.validators import shaped

TLV_WORDS = ("unique-id", "authority", "alpn", "ssl", "crc32c")
"""
What a header of version 2 can say besides the addresses.
"""

ALL, UNIX = "all", "unix"
"""
Words that stand for networks: of all clients, and of those of Unix sockets.
"""


class Trusted(tuple[str, ...]):
    """
    The clients that begin with a header, and whose header is believed: networks,
    C{unix} and C{all}.
    """

    @cached_property
    def _networks(self) -> Networks:
        return Networks(each for each in self if each not in (ALL, UNIX))

    def trusts(self, address: IAddress | None) -> bool:
        """
        Return whether a client with an address is one of these.
        """
        if ALL in self:
            return True
        found = packedAddress(address)
        if found is not None:
            return self._networks.covers(found)
        return isinstance(address, UNIXAddress) and UNIX in self


@shaped({"type": "string"}, {"type": "array", "items": {"type": "string"}})
def trusted(value: object) -> Trusted:
    """
    Read which clients begin with a header, as a list or as text with commas.

    @raise InvalidSetting: One of them is neither a network nor one of the words.
    """
    found = textsOf(value, "networks")
    words = [each for each in found if each in (ALL, UNIX)]
    try:
        return Trusted(
            (*networks([each for each in found if each not in words]), *words)
        )
    except InvalidSetting as error:
        raise InvalidSetting(f"{error}; or the word {ALL} or {UNIX}") from None


@shaped(
    {"type": "string"},
    {
        "type": "array",
        "items": {"enum": list(TLV_WORDS)},
        "maxItems": len(TLV_WORDS),
    },
)
def tlvWords(value: object) -> tuple[str, ...]:
    """
    Read what a header is to say, as a list or as text with commas.

    @return: The words, in the order in which a header has them.
    @raise InvalidSetting: A word is none of those that there are.
    """
    words = textsOf(value, "words")
    for word in words:
        if word not in TLV_WORDS:
            raise InvalidSetting(f"{word[:60]!r} is not one of {', '.join(TLV_WORDS)}")
    return tuple(word for word in TLV_WORDS if word in words)
