"""
What the commands that ask the balancer have in common: options, and how names and
durations are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import update_wrapper
from typing import Any
from urllib.parse import quote

import click

from iawlb.command.client import LIMIT, Answer, Client, Idle, findClient
from iawlb.command.failures import CommandError, Denied
from iawlb.command.output import sayJson
from iawlb.errors import InvalidSetting
from iawlb.validators import duration

COMPLETION_LIMIT = 0.5
"""
Longest wait for the names that the shell offers, in seconds.
"""


class Call:
    """
    One use of the command: the balancer that it asks, and how it answers.

    @ivar json: Whether the balancer's own answer is printed.
    """

    def __init__(self, client: Client, json: bool) -> None:
        self.client = client
        self.json = json

    def get(self, path: str, query: Mapping[str, Any] | None = None) -> Any:
        """
        Get a value to show. With C{--json} it is printed as it came.

        @return: The value; L{None} if it is printed already.
        """
        answer = self.send("GET", path, query=query)
        if self.json:
            sayJson(answer.body)
            return None
        return answer.value

    def send(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        query: Mapping[str, Any] | None = None,
        wait: float = 0,
        idle: Idle | None = None,
    ) -> Answer:
        """
        Send a request.

        @param wait: How long the balancer was asked to wait, in seconds.
        @raise CommandError: It failed. With C{--json} the balancer's explanation is
            printed as it came.
        """
        with self.explained():
            return self.client.ask(
                method, path, body, query=query, limit=wait + LIMIT, idle=idle
            )

    @contextmanager
    def explained(self) -> Iterator[None]:
        """
        With C{--json} print the balancer's explanation of an error as it came.
        """
        try:
            yield
        except Denied as error:
            if self.json:
                sayJson(error.body)
            raise


def asking(name: str) -> Callable[[Callable[..., Any]], click.Command]:
    """
    Make a command of a function that takes a L{Call} and the values of its options.
    """

    def decorate(function: Callable[..., Any]) -> click.Command:
        def callback(
            ctx: click.Context,
            admin: str | None,
            token_file: str | None,
            as_json: bool,
            **given: Any,
        ) -> Any:
            return function(Call(clientOf(ctx, admin, token_file), as_json), **given)

        made: Any = callback
        for option in (
            click.option("--token-file", metavar="FILE", help="The token's file."),
            click.option("--admin", metavar="ADDRESS", help="Where the balancer is."),
            click.option(
                "--json", "as_json", is_flag=True, help="Print the API's JSON."
            ),
        ):
            made = option(made)
        # In the help the command's own options come first; click has the last first.
        common, own = made.__click_params__, getattr(function, "__click_params__", [])
        made = update_wrapper(made, function)
        made.__click_params__ = common + own
        return click.command(name)(click.pass_context(made))

    return decorate


def clientOf(
    context: click.Context, admin: str | None = None, tokenFile: str | None = None
) -> Client:
    """
    Find the balancer by the options of the command, or those before it.
    """
    outer = context.find_root().params
    return findClient(admin or outer.get("admin"), tokenFile or outer.get("token_file"))


# ParamType takes arguments in new versions of click only, so they are left out.
class Duration(click.ParamType):  # type: ignore[type-arg]
    """
    A duration, such as C{30s}.
    """

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """
        Read a duration.
        """
        try:
            return duration(value)
        except InvalidSetting as error:
            self.fail(str(error), param, ctx)


class Name(click.ParamType):  # type: ignore[type-arg]  # as for Duration
    """
    The name of something that the balancer has. The shell completes it.
    """

    name = "name"

    def __init__(self, pools: bool, destinations: bool) -> None:
        self._pools = pools
        self._destinations = destinations

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[Any]:
        """
        List the names that begin with what was typed. A balancer that does not answer
        soon has none.
        """
        from click.shell_completion import CompletionItem

        try:
            client = clientOf(
                ctx, ctx.params.get("admin"), ctx.params.get("token_file")
            )
            pools = client.ask("GET", "/pools", limit=COMPLETION_LIMIT).value
            names = self._names(pools)
        except (CommandError, AttributeError, KeyError, TypeError):
            return []
        return [
            CompletionItem(each)
            for each in names
            if each.startswith(incomplete) and each.isprintable()
        ]

    def _names(self, pools: Any) -> list[str]:
        names = [str(pool["name"]) for pool in pools] if self._pools else []
        if self._destinations:
            names += [
                f"{pool['name']}/{each['name']}"
                for pool in pools
                for each in pool["destinations"]
            ]
        return names


DURATION = Duration()
POOL = Name(pools=True, destinations=False)
DESTINATION = Name(pools=False, destinations=True)
TARGET = Name(pools=True, destinations=True)


def segment(name: str) -> str:
    """
    Write a name as one part of a path.
    """
    # Quoted also where a name is "." or "..", which clients of HTTP resolve.
    return quote(name, safe="").replace(".", "%2E")


def findDestination(call: Call, target: str) -> tuple[str, str]:
    """
    Find the pool and the name of a destination.

    @raise CommandError: There is none, or more than one; the message lists them.
    """
    every = [
        (str(each["pool"]), str(each["name"]))
        for each in items(call.send("GET", "/destinations").value)
    ]
    exact = [each for each in every if "/".join(each) == target]
    found = exact or [each for each in every if each[1] == target]
    if len(found) == 1:
        return found[0]
    from iawlb.command.output import listing

    if found:
        which = listing("/".join(each) for each in found)
        raise CommandError(f"there are several destinations {target!r}: {which}")
    there = listing("/".join(each) for each in every) or "none"
    raise CommandError(f"there is no destination {target!r}; there is {there}")


def items(value: Any) -> list[dict[str, Any]]:
    """
    Return the objects in a list of the API.

    @raise CommandError: The value is no such list.
    """
    if isinstance(value, list) and all(isinstance(each, dict) for each in value):
        return value
    raise CommandError(
        "the answer is not as this version of the command knows it: use the iawlb "
        "command of the balancer's version, or --json"
    )
