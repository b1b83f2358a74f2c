"""
L{Options}, the command line: what it says, and the balancer that it describes.
"""

from __future__ import annotations

import getopt
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from importlib.metadata import version
from typing import Any

from twisted.python import usage

from iawlb.backend.tlsextra import checkSpoken
from iawlb.balancer import Balancer
from iawlb.config.environment import readGiven
from iawlb.config.keys import processPath
from iawlb.config.model import DEFAULT, Configuration, Given, Origin
from iawlb.config.read import readConfiguration
from iawlb.control.build import buildBalancer, describe
from iawlb.errors import InvalidConfiguration, InvalidSetting
from iawlb.frontend.limits import raiseFileLimit
from iawlb.process.demo import demoNames
from iawlb.process.logs import Logs
from iawlb.process.optionhints import explain, explainWord, refuseOtherNames
from iawlb.process.optiontable import FLAGS, OPTION_NAMES, helpText
from iawlb.process.running import Running
from iawlb.processsettings import ProcessSettings
from iawlb.service import LoadBalancer
from iawlb.setting import byOption
from iawlb.settings import Settings
from iawlb.validators import count


class Options(usage.Options):
    """
    The options of the command line.

    @ivar balancer: The balancer that the options describe, once they are parsed.
    @ivar configuration: The same as a configuration: that of the file, or one that was
        made of the options.
    @ivar readAgain: Reads the file again, with the same options; L{None} if there is no
        file.
    @ivar processSettings: The settings of the process around the balancer.
    @ivar usualAdmin: The address of the admin server if none is given, or L{None}.
    @ivar environment: The variables that count; those of a command line without a file
        are none.
    @ivar logs: Writes all log lines, once the options are parsed.
    """

    synopsis = "[options] [PORT [[HOST:]PORT]...]"
    optFlags = (("check", None, ""), *((option, None, "") for option in FLAGS))
    optParameters = (
        ("config", None, None, ""),
        ("demo", None, None, ""),
        *(
            (option, None, None, "")
            for option in OPTION_NAMES.values()
            if option not in FLAGS
        ),
    )

    def __init__(
        self,
        reactor: Any = None,
        usualAdmin: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self._reactor = reactor
        self.usualAdmin = usualAdmin
        self.environment = environment
        self.balancer: Balancer
        self.configuration: Configuration
        self.readAgain: Callable[[], Configuration] | None = None
        self.processSettings = ProcessSettings()
        self.logs: Logs
        self.running: Running
        self.demo = 0
        self["listen"] = []
        self["dest"] = []
        self._positional: tuple[str, ...] = ()

    def getUsage(self, width: int | None = None) -> str:
        """
        Return the help: 80 columns, grouped, each option with its default.
        """
        return helpText()

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """
        Parse the command line. Options may stand before and behind addresses.

        @raise SystemExit: An argument is wrong: one line on standard error says which,
            and the status is 1. (Twisted would print the whole help.)
        """
        given = list(sys.argv[1:] if options is None else options)
        try:
            # usage.Options stops at the first address.
            refuseOtherNames(given, self.longOpt)
            found, addresses = getopt.gnu_getopt(given, self.shortOpt, self.longOpt)
            takesValue = {each.rstrip("=") for each in self.longOpt if each[-1] == "="}
            first = [
                f"{option}={value}"
                if option.removeprefix("--") in takesValue
                else option
                for option, value in found
            ]
            super().parseOptions([*first, "--", *addresses])
        except getopt.error as error:
            raise SystemExit(f"iawlb: {explain(error, self)}") from None
        except InvalidConfiguration as error:
            prefix = "iawlb: " if self["config"] is None else ""
            lines = [f"{prefix}{each}" for each in error.mistakes]
            raise SystemExit("\n".join(lines)) from None
        except (usage.UsageError, InvalidSetting) as error:
            raise SystemExit(f"iawlb: {error}") from None

    def opt_listen(self, address: str) -> None:
        """
        Add an address to accept connections on.
        """
        self["listen"].append(address)

    def opt_dest(self, address: str) -> None:
        """
        Add an address to forward connections to.
        """
        self["dest"].append(address)

    def opt_version(self) -> None:
        """
        Print the version.
        """
        print(f"iawlb {version('iawlb')}")
        raise SystemExit(0)

    def parseArgs(self, *addresses: str) -> None:
        """
        Read the form C{PORT [[HOST:]PORT]...}: the first is the address to listen on.
        """
        for each in addresses:
            why = explainWord(each, self)
            if why is not None:
                raise usage.UsageError(why)
        self._positional = addresses

    def postOptions(self) -> None:
        """
        Build the balancer, which checks everything and opens nothing.
        """
        reactor = self._reactor
        if reactor is None:
            # Imported only here: twistd has read its own --reactor by now.
            from twisted.internet import reactor
        raiseFileLimit()
        given: dict[str, Any] = {
            name: bool(self[option]) if option in FLAGS else self[option]
            for name, option in OPTION_NAMES.items()
            # A flag that was not given is 0.
            if self[option] is not None and (self[option] or option not in FLAGS)
        }
        if self["config"] is None:
            self._fromOptions(reactor, given)
        else:
            self._fromFile(reactor, given)
        if self.demo and self.processSettings.state:
            raise usage.UsageError(
                "--state does not go with --demo, whose destinations are others at "
                "each start"
            )
        access = self.logs.access
        access.errorsOnly = self.balancer.settings.log == "errors"
        access.follow(self.balancer)
        try:
            self.running = Running(
                reactor,
                self.balancer,
                self.processSettings,
                self.configuration,
                self.logs,
                usual=self.processSettings.admin == self.usualAdmin,
                read=self.readAgain,
            )
        except InvalidSetting as error:
            # The message begins with the option's name, such as admin-tokens.
            name, _, why = str(error).partition(": ")
            path = processPath(name)
            mistake = self.configuration.mistake(path, why)
            raise InvalidConfiguration([mistake]) from error
        if self["check"]:
            print("iawlb: configuration is valid")
            raise SystemExit(0)

    def _takeProcess(
        self, reactor: Any, process: ProcessSettings, admin: Origin
    ) -> None:
        """
        Take the settings of the process.

        @param admin: Where the address of the admin server comes from.
        """
        if self.usualAdmin and admin is DEFAULT:
            process = replace(process, admin=self.usualAdmin)
        self.processSettings = process
        self.logs = Logs(reactor, process)

    def _fromFile(self, reactor: Any, given: Mapping[str, Any]) -> None:
        """
        Build the balancer of a configuration file.

        @param given: The settings that are options; they win over those of the file.
        """
        for option, addresses in (
            ("--listen", self["listen"]),
            ("--dest", self["dest"]),
            ("--demo", self["demo"]),
            ("an address", self._positional),
        ):
            if addresses:
                raise usage.UsageError(
                    f"{option} cannot stand beside --config: the file says where to "
                    "listen and where to forward to"
                )
        environment = os.environ if self.environment is None else self.environment
        # A daemon changes its folder.
        path = os.path.abspath(self["config"])
        self.readAgain = partial(
            readConfiguration, path, environment, given, reactor, self["config"]
        )
        self.configuration = self.readAgain()
        admin = self.configuration.origins["admin.listen"]
        self._takeProcess(reactor, self.configuration.process, admin)
        self.balancer = buildBalancer(self.configuration, reactor, [self.logs.access])

    def _fromOptions(self, reactor: Any, given: Mapping[str, Any]) -> None:
        """
        Build a balancer with one pool.

        @param given: The settings that are options.
        """
        if self["demo"] is not None:
            self.demo = _read("--demo", count(1, 100), self["demo"])
        listeners = [("--listen", each) for each in self["listen"]]
        destinations = [("--dest", each) for each in self["dest"]]
        if self._positional and listeners:
            first = self._positional[0]
            raise usage.UsageError(
                f"{first!r} without an option would be where to listen, as --listen "
                f"is: write --dest {first} if it is a destination"
            )
        listeners += [("PORT", each) for each in self._positional[:1]]
        destinations += [("destination", each) for each in self._positional[1:]]
        if not listeners:
            raise usage.UsageError(
                "nowhere to listen: give --listen tcp:8080, or a PORT"
            )
        if not destinations and not self.demo:
            raise usage.UsageError(
                "no destination: give --dest tcp:localhost:9001, or --demo 3 to try"
            )
        found = readGiven(self.environment or {}, given)
        if "through" in found:
            raise usage.UsageError(
                "--through: a command line has one pool; write several in a file"
            )
        process = ProcessSettings(**_valuesIn(found, ProcessSettings))
        admin = found.get("admin")
        self._takeProcess(reactor, process, DEFAULT if admin is None else admin.origin)
        try:
            balancer = LoadBalancer(
                reactor, observers=[self.logs.access], **_valuesIn(found, Settings)
            )
        except InvalidSetting as error:
            # The message begins with the name in Python, such as connectTimeout.
            name, _, why = str(error).partition(": ")
            raise InvalidSetting(f"--{OPTION_NAMES[name]}: {why}") from None
        for option, address in listeners:
            _read(option, balancer.listen, address)
        for option, address in destinations:
            _read(option, balancer.add, address)
        spoken = any(each.settings.tls for each in balancer.destinations)
        try:
            checkSpoken(found, spoken)
        except InvalidSetting as error:
            raise InvalidSetting(f"--{byOption(error)}") from None
        taken = {each.name for each in balancer.destinations}
        for name in taken.intersection(demoNames(self.demo)):
            raise usage.UsageError(
                f"--demo: there is a destination {name!r} already; give it another name"
            )
        self.balancer = balancer
        origins = {name: each.origin for name, each in found.items()}
        self.configuration = describe(balancer, self.processSettings, origins)


def _valuesIn(found: Mapping[str, Given], kind: type[Any]) -> dict[str, Any]:
    """
    Return the values of one table of settings, by their names.
    """
    names = {each.name for each in fields(kind)}
    return {name: each.value for name, each in found.items() if name in names}


def _read(option: str, read: Callable[[Any], Any], value: Any) -> Any:
    """
    Read an option's value.

    @raise InvalidSetting: The value is wrong; the message names the option.
    """
    try:
        return read(value)
    except InvalidSetting as error:
        raise InvalidSetting(f"{option}: {byOption(error)}") from None


def checkFile(path: str) -> list[str]:
    """
    Return all for which a start with a configuration file would be refused, and with
    the environment, one line each. Nothing is opened but the files it names.
    """
    options = Options(environment=os.environ)
    try:
        options.parseOptions([f"--config={path}"])
    except SystemExit as error:
        return str(error).splitlines()
    return []
