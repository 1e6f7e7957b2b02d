"""The command `peftlab`: train, inspect runs, use them, and check their claims."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence

from peftlab.commands import GROUPS, Command, command_names, commands
from peftlab.imports import find_here
from peftlab.masking.streams import mask_streams
from peftlab.terminal.arguments import InAnyOrder
from peftlab.terminal.exits import stdout_exits, user_exits


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that `arguments` (by default those of the process) name; return the exit code 0.

    Other exit codes are raised as SystemExit, see `peftlab.terminal.exits`; a failure while running is raised as it is.
    """
    typed = list(sys.argv[1:] if arguments is None else arguments)
    if typed[:1] == ["train"]:  # Hydra reads the rest, --help included
        commands(["train"])["train"].execute(argparse.Namespace(arguments=typed[1:]))
        return 0
    with stdout_exits():
        mask_streams(stdout=False)
        asked = typed[:1] if set(typed[:1]) & set(command_names()) else None  # the others take time to import
        options = make_parser(asked).parse_args(typed)
        find_here(getattr(options, "allow", []))
        with user_exits():
            options.execute(options)
    return 0


def make_parser(names: Iterable[str] | None = None) -> argparse.ArgumentParser:
    """Return the parser of the command line, with the commands of these names; None: all."""
    available = commands(names)
    parser = _Overview(available)
    parsers = parser.add_subparsers(prog=parser.prog, metavar="COMMAND", required=True, parser_class=InAnyOrder)
    for name, command in available.items():
        examples = "".join(f"  {line}\n" for line in command.EXAMPLES)
        one = parsers.add_parser(
            name,
            help=command.SUMMARY,
            description=". ".join(filter(None, (_sentence(command.SUMMARY), command.DESCRIPTION))),
            epilog=f"examples:\n{examples}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(one)
        one.set_defaults(execute=command.execute)
    return parser


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


class _Overview(argparse.ArgumentParser):
    """Shows the commands in groups, which argparse itself cannot."""

    def __init__(self, available: Mapping[str, Command]) -> None:
        super().__init__(prog="peftlab", usage="peftlab [-h] COMMAND ...")
        self._available = available

    def format_help(self) -> str:
        """Return the help of the whole command."""
        width = max(map(len, self._available))
        lines = [f"usage: {self.usage}", "", "Fine-tune pretrained transformers, look at runs, and use what came out."]
        for group in GROUPS:
            lines += ["", f"{group}:"]
            chosen = {name: command for name, command in self._available.items() if group == command.GROUP}
            lines += [f"  {name:<{width}}  {command.SUMMARY}" for name, command in chosen.items()]
        lines += ["", "peftlab COMMAND --help shows what a command takes, and examples of it.", ""]
        return "\n".join(lines)
