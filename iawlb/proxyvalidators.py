"""
Validators of settings about the PROXY protocol.
"""

from __future__ import annotations

from iawlb.errors import InvalidSetting
from iawlb.networkvalidators import textsOf
from iawlb.validators import shaped

TLV_WORDS = ("unique-id", "authority", "alpn", "ssl", "crc32c")
"""
What a header of version 2 can say besides the addresses.
"""


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
