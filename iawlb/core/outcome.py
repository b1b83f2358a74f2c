"""
How a session ended.
"""

from __future__ import annotations

from enum import Enum


class Outcome(Enum):
    """
    How a session ended.

    Each outcome has the two letters that HAProxy's tcplog uses for it (who ended the
    session, and in which phase), so that people and tools can read both logs alike.
    """

    DONE = "--", "closed by both sides"
    CLIENT_LEFT_HANDSHAKE = "CR", "client left during the TLS handshake"
    HANDSHAKE_TIMEOUT = "cR", "TLS handshake took too long"
    HANDSHAKE_FAILED = "PR", "TLS handshake failed"
    WRONG_HEADER = "PR", "wrong PROXY header"
    CLIENT_LEFT_HEADER = "CR", "client left during its PROXY header"
    HEADER_TIMEOUT = "cR", "PROXY header took too long"
    WRONG_HELLO = "PR", "no valid ClientHello of TLS"
    NO_ROUTE = "PR", "no pool takes what the client asks for"
    CLIENT_LEFT_SILENT = "CR", "client left before its first byte"
    FIRST_BYTE_TIMEOUT = "cR", "client sent nothing"
    REFUSED = "PR", "refused by a rule"
    LIMITED = "PR", "refused over a limit"
    CLIENT_LEFT_DELAYED = "CQ", "client left while a limit delayed it"
    DELAY_TIMEOUT = "sQ", "a limit delayed it for too long"
    CHOICE_FAILED = "PR", "the choice of a destination failed"
    CHOICE_TIMEOUT = "sR", "the choice of a destination took too long"
    CLIENT_LEFT_CHOICE = "CR", "client left before a destination was chosen"
    QUEUE_FULL = "sQ", "the queue was full"
    CLIENT_LEFT_QUEUE = "CQ", "client left the queue"
    QUEUE_TIMEOUT = "sQ", "waited too long in the queue"
    WAKE_FAILED = "sC", "no destination could be started"
    CLIENT_LEFT_CONNECT = "CC", "client left during the connect"
    CLIENT_RESET = "CD", "reset by the client"
    DESTINATION_RESET = "SD", "reset by the destination"
    UNANSWERED = "SH", "destination ended without an answer"
    IDLE_TIMEOUT = "cD", "idle for too long"
    CLIENT_HALF_CLOSED_TIMEOUT = "cD", "client did not close its half"
    DESTINATION_HALF_CLOSED_TIMEOUT = "sD", "destination did not close its half"
    ANSWER_TIMEOUT = "sD", "destination did not answer"
    CLIENT_TIMEOUT = "cD", "client was silent for too long"
    TOO_OLD = "KD", "reached its longest age"
    KILLED_QUEUE = "KQ", "closed by the balancer while it waited"
    KILLED = "KD", "closed by the balancer"
    DESTINATION_DOWN = "DD", "its destination went down"
    FAILED = "ID", "closed after an internal error"

    def __init__(self, code: str, text: str) -> None:
        self.code = code
        self.text = text
