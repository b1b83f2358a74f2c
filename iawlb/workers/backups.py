"""
Backups: destinations that take sessions only while no other does.
"""

from __future__ import annotations

from collections.abc import Collection

from iawlb.core.events import DESTINATION_NEEDED, DESTINATION_STANDBY, Events
from iawlb.workers.worker import Worker


def arrangeBackups(workers: Collection[Worker], events: Events) -> None:
    """
    Put the backups among a pool's destinations on standby while another destination
    takes sessions, or would if it were started; else have them take sessions.
    """
    found = [
        worker
        for worker in workers
        if worker.destination.settings.backup or worker.destination.standby
    ]
    if not found:
        return
    needed = not any(
        each.serves and not each.paused and not each.heldOff
        for each in (worker.destination for worker in workers)
        if not each.settings.backup
    )
    changed = []
    for worker in found:
        destination = worker.destination
        standby = destination.settings.backup and not needed
        if destination.standby != standby:
            destination.standby = standby
            changed.append(worker)
            event = DESTINATION_STANDBY if standby else DESTINATION_NEEDED
            events.destination(destination, event)
    for worker in changed:
        worker.check()
