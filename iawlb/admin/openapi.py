"""
The document at C{/openapi.json}, made from the table of routes that also finds the
handlers and checks the requests.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from iawlb.admin.access import Role
from iawlb.admin.members import objectSchema
from iawlb.admin.problem import PROBLEM_JSON
from iawlb.admin.routes import JSON, Route
from iawlb.admin.schemas import SCHEMAS, ref

VERSION = "3.1.0"

_EVERY = (400, 406, 408, 414, 421, 431, 500, 503)
_BODY = (411, 413, 415)


def openApi(routes: list[Route], version: str, *, needsToken: bool) -> dict[str, Any]:
    """
    Make the document.

    @param version: The version of iawlb.
    @param needsToken: Whether reading needs a token too.
    """
    paths: dict[str, Any] = {}
    for route in routes:
        if route.documented:
            methods = paths.setdefault(route.path, {})
            methods[route.method.lower()] = _operation(route, needsToken)
    return {
        "openapi": VERSION,
        "info": {
            "title": "iawlb",
            "version": version,
            "description": "Status and control of a load balancer. Durations are "
            "seconds. On the Unix socket no token is asked for.",
        },
        "paths": paths,
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: Route, needsToken: bool) -> dict[str, Any]:
    """
    Describe one route.
    """
    parameters: list[dict[str, Any]] = []
    for part in route.path.split("/"):
        if part.startswith("{"):
            schema = {"type": "string", "minLength": 1}
            parameters.append(
                {
                    "name": part[1:-1],
                    "in": "path",
                    "required": True,
                    "schema": schema,
                }
            )
    for each in route.query:
        schema = each.schema()
        parameters.append(
            {
                "name": each.name,
                "in": "query",
                "description": schema.pop("description"),
                # A query has no null: the parameter is left out.
                "schema": {**schema, "type": each.kind},
            }
        )
    statuses = {*route.statuses, *_EVERY}
    if "{" in route.path:
        statuses.add(404)
    if route.changes:
        statuses.update((401, 403, 409, 412, 422, *_BODY))
        parameters.append(
            {
                "name": "If-Match",
                "in": "header",
                "description": "the ETag of the state that was looked at",
                "schema": {"type": "string"},
            }
        )
    elif route.role is not Role.NONE:
        statuses.update((401, 403))
    made: dict[str, Any] = {
        "summary": route.text,
        "operationId": _name(route),
        "parameters": parameters,
        "responses": _responses(route, statuses),
    }
    if route.method == "POST":
        shape = objectSchema(route.members)
        made["requestBody"] = {
            "required": "required" in shape,
            "content": {JSON: {"schema": shape}},
        }
    if route.role is not Role.NONE:
        made["description"] = f"Role: {route.role.word}."
        free = route.role is Role.READ and not needsToken
        made["security"] = [{"token": []}, *([{}] if free else [])]
    return made


def _name(route: Route) -> str:
    """
    Return a name for a route, such as C{getPool}.
    """
    words = [each.strip("{}") for each in route.path.split("/") if each]
    words = [each.partition(".")[0] for each in words]
    return route.method.lower() + "".join(each.capitalize() for each in words)


def _responses(route: Route, statuses: set[int]) -> dict[str, Any]:
    """
    Describe the answers of a route.
    """
    shape = ref(route.schema) if route.produces == JSON else {"type": "string"}
    responses: dict[str, Any] = {
        str(route.status): {
            "description": HTTPStatus(route.status).phrase,
            "content": {route.produces or "text/plain": {"schema": shape}},
        }
    }
    if route.tagged:
        responses[str(route.status)]["headers"] = {
            "ETag": {"schema": {"type": "string"}}
        }
    for status in sorted(statuses - {route.status}):
        responses[str(status)] = {
            "description": HTTPStatus(status).phrase,
            "content": {PROBLEM_JSON: {"schema": ref("Problem")}},
        }
    if route.path == "/ready":
        responses["503"] = {
            "description": "Not ready",
            "content": {JSON: {"schema": ref("Ready")}},
        }
    return responses
