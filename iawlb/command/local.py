"""
Commands that need no running balancer: run, check and schema.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

import click

from iawlb.command.failures import DONE, ERROR
from iawlb.command.output import complain, say
from iawlb.core.text import printable

ENDING = ".toml"


class RunCommand(click.Command):
    """
    The command that starts a balancer. Its options are those of C{twistd iawlb}, which
    also reads them.
    """

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """
        Write the help of C{twistd iawlb} in its own words.
        """
        from iawlb.tap import Options

        usage = Options().getUsage().replace("twistd -n iawlb", "iawlb run")
        formatter.write(
            "Usage: iawlb run [options] [FILE | PORT [[HOST:]PORT]...]\n\n"
            "Start a balancer in the foreground, with its log on the standard output\n"
            "and its admin socket at the usual place. FILE is a configuration file.\n"
            "SIGTERM and Ctrl-C stop it when its connections have finished, a second\n"
            "one at once; SIGHUP reads the file again.\n"
            f"{usage}"
        )

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        """
        Complete options, and the names of files.
        """
        from click.shell_completion import CompletionItem

        from iawlb.tap import Options

        if not incomplete.startswith("-"):
            return [CompletionItem(incomplete, type="file")]
        options = [f"--{each.rstrip('=')}" for each in Options().longOpt]
        return [CompletionItem(each) for each in options if each.startswith(incomplete)]


@click.command("run", cls=RunCommand, context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def runCommand(arguments: Sequence[str]) -> None:
    """
    Start a balancer in the foreground.
    """
    from iawlb.command.serving import serve

    serve(withFile(arguments))


def withFile(arguments: Sequence[str]) -> list[str]:
    """
    Write C{--config} before a configuration file that was given without it.
    """
    found = list(arguments)
    for place, each in enumerate(found):
        if each == "--":
            break
        before = found[place - 1] if place else ""
        # The value of an option is not looked at.
        if before.startswith("--") and "=" not in before:
            continue
        if not each.startswith("-") and (each.endswith(ENDING) or os.path.isfile(each)):
            return [*found[:place], f"--config={each}", *found[place + 1 :]]
    return found


@click.command("check")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
def checkCommand(files: Sequence[str]) -> int:
    """
    Check configuration files, and open nothing. Every mistake is a line, and the exit
    status is 1 if there is one.
    """
    from iawlb.process.options import checkFile

    status = DONE
    for file in files:
        mistakes = checkFile(file)
        for each in mistakes:
            complain(each, "")
        if mistakes:
            status = ERROR
        else:
            say(f"{printable(file)}: valid")
    return status


@click.command("schema")
def schemaCommand() -> None:
    """
    Print the JSON Schema of the configuration file. Editors complete and check a file
    with it.
    """
    from iawlb.config.schema import schema

    say(json.dumps(schema(), indent=2))
