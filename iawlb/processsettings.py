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

from iawlb.settings import Validated, setting
from iawlb.validators import Validator, plainText

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
        plainText,
        "ADDRESS",
        ADMIN,
        "where the admin server listens: a path of a Unix socket, or host:port; empty "
        "is nowhere",
    )
    state: str = processSetting(
        "admin",
        "state",
        "",
        plainText,
        "FILE",
        ADMIN,
        "file that keeps what was changed while the balancer ran, for the next start; "
        "empty is none",
    )
    metrics: str = processSetting(
        "metrics",
        "listen",
        "",
        plainText,
        "ADDRESS",
        ADMIN,
        "where metrics are served for Prometheus: host:port, or a path of a Unix "
        "socket; empty is nowhere",
    )
    logFormat: str = processSetting(
        "log",
        "format",
        "text",
        plainText,
        "FORMAT",
        LOG,
        "how a finished connection is written: text, tcplog, json, or a template",
    )
    logTo: str = processSetting(
        "log",
        "to",
        "-",
        plainText,
        "FILE",
        LOG,
        "where finished connections are written: a file, or - for where the other log "
        "lines go",
    )
