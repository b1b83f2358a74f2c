"""
The metrics of the whole balancer and its process.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version

from iawlb.admin.family import BalancerView, Family


@cache
def _versions() -> Mapping[str, str]:
    # Looking for a version takes half a millisecond.
    return {
        "version": version("iawlb"),
        "python": platform.python_version(),
        "twisted": version("twisted"),
    }


BALANCER: tuple[Family[BalancerView], ...] = (
    Family(
        "iawlb_build",
        "info",
        "The versions of iawlb, Python and Twisted.",
        lambda view: _versions(),
    ),
    Family(
        "iawlb_current_sessions",
        "gauge",
        "Client connections that are open, waiting and served.",
        lambda view: len(view.sources.balancer.table),
    ),
    Family(
        "iawlb_sessions_limit",
        "gauge",
        "The number of client connections that may be open at a time.",
        lambda view: view.sources.balancer.table.limit,
    ),
    Family(
        "iawlb_stopping",
        "gauge",
        "1 while the balancer drains its sessions before it ends, else 0.",
        lambda view: int(view.sources.balancer.stopping),
    ),
    Family(
        "iawlb_config_last_reload_successful",
        "gauge",
        "1 if the last reload of the configuration was successful, else 0.",
        lambda view: int(view.sources.reload().successful),
    ),
    Family(
        "iawlb_config_last_reload_success_timestamp_seconds",
        "gauge",
        "When the configuration was last read successfully, in seconds since 1970.",
        lambda view: view.sources.reload().succeededAt,
    ),
    Family(
        "iawlb_log_dropped_lines",
        "counter",
        "Lines of the access log that were dropped, as the disk was full or the "
        "reader too slow.",
        lambda view: view.sources.logDropped(),
    ),
    Family(
        "iawlb_event_loop_lag_seconds",
        "histogram",
        "By how much the event loop was late, measured once a second.",
        lambda view: view.sources.lag.histogram,
    ),
    Family(
        "iawlb_event_loop_lag_max_seconds",
        "gauge",
        "The largest lag of the event loop in the last minute.",
        lambda view: view.sources.lag.largest,
    ),
    Family(
        "iawlb_throttled_connections",
        "gauge",
        "Connections that are not read for the moment, as they have used up their "
        "bandwidth.",
        lambda view: len(view.sources.balancer.throttle),
    ),
    Family(
        "iawlb_uncounted_sessions",
        "counter",
        "Sessions of destinations beyond the most that have metrics of their own.",
        lambda view: view.sources.statistics.uncounted,
    ),
    Family(
        "iawlb_scrapes",
        "counter",
        "Requests for metrics that were answered.",
        lambda view: view.sources.scrapes,
    ),
    Family(
        "iawlb_scrapes_refused",
        "counter",
        "Requests for metrics that were refused, as too many were being answered.",
        lambda view: view.sources.scrapesRefused,
    ),
    Family(
        "process_cpu_seconds",
        "counter",
        "Processor time used by the process, user and system, in seconds.",
        lambda view: view.process.cpuSeconds,
    ),
    Family(
        "process_resident_memory_bytes",
        "gauge",
        "Memory that the process uses.",
        lambda view: view.process.residentBytes,
    ),
    Family(
        "process_virtual_memory_bytes",
        "gauge",
        "The size of the address space of the process.",
        lambda view: view.process.virtualBytes,
    ),
    Family(
        "process_open_fds",
        "gauge",
        "Open files and connections of the process.",
        lambda view: view.process.openFiles,
    ),
    Family(
        "process_max_fds",
        "gauge",
        "The number of open files and connections that the process may have.",
        lambda view: view.process.mostFiles,
    ),
    Family(
        "process_start_time_seconds",
        "gauge",
        "When the process was started, in seconds since 1970.",
        lambda view: view.process.started,
    ),
)
"""
The metrics of the whole balancer.
"""
