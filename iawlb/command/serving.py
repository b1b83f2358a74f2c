"""
The process of C{iawlb run}, which is that of C{twistd -n iawlb}.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from twisted.application.service import ServiceMaker
from twisted.scripts import twistd

from iawlb.adminplace import usualPlace
from iawlb.command.output import complain
from iawlb.tap import Options


def serve(arguments: Sequence[str]) -> None:
    """
    Run a balancer until it is stopped.

    @param arguments: The options and addresses, as behind C{twistd -n iawlb}.
    @raise SystemExit: The balancer cannot start.
    """
    place = usualPlace(os.environ, os.geteuid())
    options = Options(usualAdmin=place, environment=os.environ)
    options.parseOptions(arguments)
    if place is None and not options.processSettings.admin:
        complain(
            "without XDG_RUNTIME_DIR and a home there is no usual place for the admin "
            "socket: give --admin ADDRESS to control this balancer"
        )
    # Twisted takes the class from the module of this system, and says so to nobody.
    launcher: Any = twistd.ServerOptions()  # type: ignore[attr-defined]
    launcher.parseOptions(["--nodaemon", "--no_save", "--pidfile="])
    # What twistd itself sets when it finds the plugin. Asked for here, the plugins of
    # all packages would be imported, and a cache of them written.
    launcher.subCommand = "iawlb"
    launcher.subOptions = options
    launcher.loadedPlugins = {"iawlb": ServiceMaker("iawlb", "iawlb.tap", "", "iawlb")}
    options.parent = launcher
    twistd.runApp(launcher)
