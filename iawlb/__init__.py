"""
A TCP load balancer that pulls: connections wait, workers take the next.
"""

from iawlb.clock import useMonotonicTime
from iawlb.collector import easeCollector
from iawlb.core.events import IObserver
from iawlb.core.policies import IPolicy
from iawlb.errors import (
    CannotListen,
    IawlbError,
    InvalidSetting,
    UnknownDestination,
)
from iawlb.service import LoadBalancer

__all__ = [
    "CannotListen",
    "IObserver",
    "IPolicy",
    "IawlbError",
    "InvalidSetting",
    "LoadBalancer",
    "UnknownDestination",
    "easeCollector",
    "useMonotonicTime",
]
