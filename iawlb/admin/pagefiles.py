"""
The files of the status page.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from hashlib import sha256
from importlib.resources import files

from iawlb.admin.access import Role
from iawlb.admin.routes import Answer, Call, Route

FOLDER = "page"
INDEX = "index.html"

TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "png": "image/png",
    "svg": "image/svg+xml",
}

HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; "
    "style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def pageRoutes() -> list[Route]:
    """
    Read the files, and return a route for each. No token is asked for, as they hold no
    data.
    """
    routes = []
    folder = files("iawlb.admin").joinpath(FOLDER)
    for each in sorted(folder.iterdir(), key=lambda each: each.name):
        kind = TYPES.get(each.name.rpartition(".")[2])
        if kind is not None:
            handler = _fileHandler(each.read_bytes(), kind)
            paths = [f"/{each.name}"] + (["/"] if each.name == INDEX else [])
            routes += [
                Route(
                    *("GET", path, Role.NONE, "a file of the status page", handler),
                    produces=kind,
                    documented=False,
                )
                for path in paths
            ]
    return routes


def _fileHandler(body: bytes, kind: str) -> Callable[[Call], Awaitable[Answer]]:
    """
    Return the handler of a file.
    """
    tag = f'"{sha256(body).hexdigest()[:16]}"'
    headers = {**HEADERS, "Content-Type": kind, "ETag": tag}

    async def handle(call: Call) -> Answer:
        known = call.header("If-None-Match") or ""
        if tag in [each.strip().removeprefix("W/") for each in known.split(",")]:
            return Answer(status=304, headers=headers, raw=b"")
        return Answer(headers=headers, raw=body)

    return handle
