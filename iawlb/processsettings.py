"""
The settings of the process around a balancer: the admin server, the metrics server,
the state file and the access log.

They stand in a table of their own, since a balancer that is embedded in another program
has none of them. In the configuration file each has a place of its own: C{admin} is
C{listen} in the section C{[admin]}.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from iawlb.adminplace import servedAt
from iawlb.logformat import logFormat, logTarget
from iawlb.setting import Validated, setting
from iawlb.validators import Validator, duration, filePath, flag, oneOf

ADMIN = "Status and control"
LOG = "Access log"


def processSetting(
    section: str,
    key: str,
    default: Any,
    read: Validator,
    unit: str,
    group: str,
    text: str,
    live: bool = False,
) -> Any:
    """
    Declare a setting of the process.

    @param section: The section of the configuration file that holds the setting.
    @param key: The setting's name in that section.
    @param live: Whether a reload applies a changed value; if not, a restart does.

    The other parameters are those of L{setting}.
    """
    made = setting(default, read, unit, group, text, scope="process", live=live)
    placed = {"section": section, "key": key}
    return field(default=made.default, metadata={**made.metadata, **placed})


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSettings(Validated):
    """
    The settings of the process around a balancer.

    @raise InvalidSetting: A value is out of its limits.
    """

    admin: str = processSetting(
        "admin",
        "listen",
        "",
        servedAt("/run/iawlb/admin.sock, or 127.0.0.1:8405"),
        "ADDRESS",
        ADMIN,
        "where the admin server listens: a path of a Unix socket, or host:port; empty "
        "is nowhere",
    )
    adminTokens: str = processSetting(
        "admin",
        "tokens",
        "",
        filePath,
        "FILE",
        ADMIN,
        "file whose lines are ROLE TOKEN, a role being read, operate or admin: what "
        "clients of a host:port may do; empty is none, and reading alone from this "
        "machine",
    )
    state: str = processSetting(
        "admin",
        "state",
        "",
        filePath,
        "FILE",
        ADMIN,
        "file that keeps what was changed while the balancer ran, for the next start; "
        "empty is none",
    )
    metrics: str = processSetting(
        "metrics",
        "listen",
        "",
        servedAt("127.0.0.1:9100, a port, or /run/iawlb/metrics.sock"),
        "ADDRESS",
        ADMIN,
        "where metrics are served for Prometheus: host:port, or a path of a Unix "
        "socket; empty is nowhere",
    )
    logFormat: str = processSetting(
        "log",
        "format",
        "text",
        logFormat,
        "FORMAT",
        LOG,
        "how a connection is written when it has ended: text, tcplog, halog, json, or "
        "a template such as '{client} {destination} {total:.3f}'",
    )
    logTo: str = processSetting(
        "log",
        "to",
        "-",
        logTarget,
        "PLACE",
        LOG,
        "where to: a path, stdout, syslog, syslog:/dev/log, udp:host:514, or - for "
        "where the other log lines go",
    )
    logNull: bool = processSetting(
        "log",
        "null",
        "yes",
        flag,
        "WORD",
        LOG,
        "no: leave out clients that have left without an error, after no byte in "
        "either direction, as port scans and simple health checks do",
    )
    logConnect: bool = processSetting(
        "log",
        "connect",
        "no",
        flag,
        "",
        LOG,
        "write a line also when a connection has reached its destination",
    )
    logInterval: float = processSetting(
        "log",
        "interval",
        0,
        duration,
        "TIME",
        LOG,
        "write a line each time that a connection has lasted so much longer, with the "
        "counts so far; 0 is never",
    )
    logLevel: str = processSetting(
        "log",
        "level",
        "info",
        oneOf("debug", "info", "warn", "error", "critical"),
        "WORD",
        LOG,
        "the least important messages that are logged, beside the lines of connections",
        live=True,
    )
