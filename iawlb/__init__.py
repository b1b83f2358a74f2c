"""
A TCP load balancer that pulls: connections wait in a queue, and each destination's
worker takes the next one.
"""

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
)
from iawlb.service import LoadBalancer

__all__ = [
    "CannotListen",
    "Destination",
    "IObserver",
    "IPolicy",
    "IawlbError",
    "InvalidSetting",
    "LoadBalancer",
    "Observer",
    "Policy",
    "Session",
    "UnknownDestination",
    "easeCollector",
    "useMonotonicTime",
]
