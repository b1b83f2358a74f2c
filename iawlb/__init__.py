"""
A TCP load balancer that pulls: connections wait in a queue, and each destination's
worker takes the next one.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from iawlb.balancer import Balancer
    from iawlb.clock import useMonotonicTime
    from iawlb.collector import easeCollector
    from iawlb.core.destination import Destination
    from iawlb.core.events import IObserver, Observer
    from iawlb.core.policies import IPolicy, Policy
    from iawlb.core.session import Session
    from iawlb.errors import (
        CannotListen,
        IawlbError,
        InvalidSetting,
        UnknownDestination,
        UnknownPool,
    )
    from iawlb.frontend.choosing import Choice
    from iawlb.observe.accesslog import AccessLog
    from iawlb.pool import Pool
    from iawlb.service import LoadBalancer

_WHERE = {
    "AccessLog": "iawlb.observe.accesslog",
    "Balancer": "iawlb.balancer",
    "CannotListen": "iawlb.errors",
    "Choice": "iawlb.frontend.choosing",
    "Destination": "iawlb.core.destination",
    "IObserver": "iawlb.core.events",
    "IPolicy": "iawlb.core.policies",
    "IawlbError": "iawlb.errors",
    "InvalidSetting": "iawlb.errors",
    "LoadBalancer": "iawlb.service",
    "Observer": "iawlb.core.events",
    "Policy": "iawlb.core.policies",
    "Pool": "iawlb.pool",
    "Session": "iawlb.core.session",
    "UnknownDestination": "iawlb.errors",
    "UnknownPool": "iawlb.errors",
    "easeCollector": "iawlb.collector",
    "useMonotonicTime": "iawlb.clock",
}
"""
The module of each public name. Modules are imported when a name is asked for: the
command C{iawlb} asks a running balancer, for which it needs none of Twisted.
"""

__all__ = [
    "AccessLog",
    "Balancer",
    "CannotListen",
    "Choice",
    "Destination",
    "IObserver",
    "IPolicy",
    "IawlbError",
    "InvalidSetting",
    "LoadBalancer",
    "Observer",
    "Policy",
    "Pool",
    "Session",
    "UnknownDestination",
    "UnknownPool",
    "easeCollector",
    "useMonotonicTime",
]


def __getattr__(name: str) -> Any:
    """
    Import a public name.
    """
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """
    List the public names.
    """
    return sorted({*globals(), *__all__})
