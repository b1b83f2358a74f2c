"""
All routes of the admin server.
"""

from __future__ import annotations

from iawlb.admin.access import Role
from iawlb.admin.changing import Changing
from iawlb.admin.eventstream import QUERY, EventStream
from iawlb.admin.openapi import openApi
from iawlb.admin.parts import Parts
from iawlb.admin.reading import Reading
from iawlb.admin.routes import Answer, Call, Route
from iawlb.admin.views import Views


def apiRoutes(
    parts: Parts, events: EventStream, more: list[Route], *, needsToken: bool
) -> list[Route]:
    """
    Return all routes, with that of the document about them.

    @param more: Routes of files.
    @param needsToken: Whether reading needs a token.
    """
    views = Views(parts.balancer, parts.statistics, parts.configuration, parts.now)
    routes = [
        *Reading(parts, views).routes(),
        Route(
            *("GET", "/events", Role.READ, "events as they happen", events.get),
            query=QUERY,
            produces="text/event-stream",
        ),
        *Changing(parts, views).routes(),
        *more,
    ]

    async def describe(call: Call) -> Answer:
        return Answer(document)

    text = "this document"
    routes.append(Route("GET", "/openapi.json", Role.NONE, text, describe))
    document = openApi(routes, parts.process.version, needsToken=needsToken)
    return routes
