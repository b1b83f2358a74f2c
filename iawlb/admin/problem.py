"""
L{Problem}: an error as an HTTP client receives it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

PROBLEM_JSON = "application/problem+json"


class Problem(Exception):
    """
    An answer that reports an error (RFC 9457).

    @ivar status: The status of the answer.
    @ivar detail: What is wrong, in one line for people.
    @ivar headers: More headers of the answer.
    @ivar members: More members of the document.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})
        self.members = members

    def body(self) -> bytes:
        """
        Return the document.
        """
        document = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            **self.members,
        }
        return json.dumps(document).encode() + b"\n"
