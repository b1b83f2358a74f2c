"""
CRC32C, the checksum of version 2 of the PROXY protocol.
"""

from __future__ import annotations

_POLYNOMIAL = 0x82F63B78
"""
Castagnoli's polynomial, with its bits reversed (RFC 9260, appendix A).
"""


def _entry(value: int) -> int:
    """
    Return what eight steps of the division leave of a byte.
    """
    for _ in range(8):
        value = (value >> 1) ^ (_POLYNOMIAL if value & 1 else 0)
    return value


_TABLE = [_entry(value) for value in range(256)]


def crc32c(data: bytes | bytearray) -> int:
    """
    Return the CRC32C of some bytes.
    """
    table = _TABLE
    rest = 0xFFFFFFFF
    for byte in data:
        rest = table[(rest ^ byte) & 0xFF] ^ (rest >> 8)
    return rest ^ 0xFFFFFFFF
