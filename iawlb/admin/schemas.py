"""
The shapes of the answers, for C{/openapi.json}.
"""

from __future__ import annotations

from typing import Any

from iawlb.admin.family import STATES


def _object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
    }


def _of(kind: str, null: bool = False) -> dict[str, Any]:
    return {"type": [kind, "null"] if null else kind}


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def ref(name: str) -> dict[str, str]:
    """
    Refer to a schema by its name.
    """
    return {"$ref": f"#/components/schemas/{name}"}


_text, _number, _whole, _truth = (
    _of(each) for each in ("string", "number", "integer", "boolean")
)
_textOrNull, _numberOrNull = _of("string", null=True), _of("number", null=True)
_ends = {"type": "object", "additionalProperties": _whole}
_any: dict[str, Any] = {}

SCHEMAS: dict[str, Any] = {
    "object": {"type": "object"},
    "Live": _object(live=_truth),
    "Ready": _object(ready=_truth, why=_text),
    "Destination": _object(
        pool=_text,
        name=_text,
        address=_text,
        tls=_truth,
        sendProxy={"enum": ["off", "v1", "v2"]},
        state={"enum": list(STATES)},
        since=_text,
        why=_textOrNull,
        active=_whole,
        slots=_whole,
        limit=_whole,
        weight=_whole,
        weightPercent=_whole,
        served=_whole,
        failures=_whole,
        check={
            "oneOf": [
                {"type": "null"},
                _object(passed=_truth, why=_text, at=_text, took=_number),
            ]
        },
        answerTime=_numberOrNull,
        attempts=_whole,
        errors=_whole,
        putBacks=_whole,
        bytesIn=_whole,
        bytesOut=_whole,
        ends=_ends,
        origin=_text,
        changed=_list(_text),
    ),
    "Pool": _object(
        name=_text,
        state={"enum": ["up", "down", "paused", "stopped", "closing"]},
        paused={
            "oneOf": [
                {"type": "null"},
                _object(
                    by=_text, since=_text, until=_textOrNull, maxPause=_numberOrNull
                ),
            ]
        },
        policy=_text,
        through=_textOrNull,
        serverNames=_list(_text),
        protocols=_list(_text),
        slots=_whole,
        active=_whole,
        waiting=_whole,
        oldestWait=_numberOrNull,
        queueSize=_whole,
        sessions=_whole,
        accepted=_whole,
        delayed=_whole,
        refused=_ends,
        proxyHeaders=_ends,
        slotsMissing=_whole,
        bytesIn=_whole,
        bytesOut=_whole,
        ends=_ends,
        listeners=_list(
            _object(
                name=_text,
                address=_text,
                state={"enum": ["listening", "refusing", "closed"]},
                acceptProxy=_list(_text),
                tls={
                    "oneOf": [
                        {"type": "null"},
                        _object(
                            certificates=_whole,
                            expires=_text,
                            expiring=_text,
                            problem=_textOrNull,
                            handshakes=_whole,
                            failed=_whole,
                        ),
                    ]
                },
            )
        ),
        destinations=_list(ref("Destination")),
        changed=_list(_text),
    ),
    "Status": _object(
        version=_text,
        pid=_whole,
        started=_text,
        uptime=_number,
        state={"enum": ["running", "stopping"]},
        ready=_truth,
        why=_text,
        role={"enum": ["read", "operate", "admin"]},
        pools=_list(ref("Pool")),
        sessions=_whole,
        waiting=_whole,
        oldestWait=_numberOrNull,
        maxConnections=_whole,
        accepting=_truth,
        reload=_object(
            successful=_of("boolean", null=True),
            at=_textOrNull,
            messages=_list(_text),
            file=_textOrNull,
        ),
        log=_object(dropped=_whole, level=_text),
        loopLag=_number,
        destinationsUp=_whole,
        destinations=_whole,
    ),
    "Pools": _list(ref("Pool")),
    "Destinations": _list(ref("Destination")),
    "Session": _object(
        id=_whole,
        pool=_text,
        listener=_text,
        client=_text,
        serverName=_textOrNull,
        proxy=_textOrNull,
        destination=_textOrNull,
        state={"enum": ["handshake", "delayed", "waiting", "connecting", "relaying"]},
        age=_number,
        waited=_number,
        idle=_numberOrNull,
        bytesIn=_whole,
        bytesOut=_whole,
        tries=_whole,
    ),
    "Sessions": _object(sessions=_list(ref("Session")), total=_whole, truncated=_truth),
    "Config": _object(
        file=_textOrNull,
        settings=_list(
            _object(path=_text, value=_any, default=_any, origin=_text, live=_truth)
        ),
        differences=_list(_object(path=_text, file=_any, runtime=_any)),
    ),
    "Result": _object(
        result={"enum": ["done", "left", "undone"]},
        left=_whole,
        messages=_list(_text),
    ),
    "Reload": _object(
        result={"enum": ["done", "failed"]},
        changes=_list(
            _object(
                path=_text,
                before=_any,
                after=_any,
                action={"enum": ["add", "change", "remove"]},
            )
        ),
        messages=_list(_text),
    ),
    "Problem": _object(type=_text, title=_text, status=_whole, detail=_text),
}
"""
All shapes by their names.
"""
