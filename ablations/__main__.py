"""`python -m ablations [COMMAND] ...`: results from records, without training."""

import argparse
import sys
from contextlib import nullcontext

from ablations.cli.commands import COMMANDS, TABLES, each_variation, two_columns
from ablations.errors import UserError
from experiments.command_line import exit_code_of
from experiments.overrides import check_arguments
from experiments.project import current, use


def main() -> int:
    """Parse `sys.argv` and run the command.

    Returns:
        0; 1 if a verdict differs from the recorded one; 2 for a user error; 130 if interrupted.
    """
    arguments = sys.argv[1:]
    name = arguments.pop(0) if arguments and arguments[0] in COMMANDS else None
    every = two_columns({f"  {name}": command.help for name, command in COMMANDS.items()})
    command = COMMANDS[name or TABLES]
    epilog = f"\ncommands, each with its own --help:\n{every}\n" if name is None else ""
    parser = command.parser(name or TABLES, epilog)

    def run() -> None:
        parsed = parser.parse_intermixed_args(arguments)
        if name is None and (late := [word for word in parsed.words if word in COMMANDS]):
            raise UserError(f"{late[0]}: a command comes first: python -m ablations {late[0]} ...")
        check_arguments([*(word.partition("=")[0] for word in arguments if word[:1] == "-"), *parsed.words])
        with use(current()) if command.in_project else nullcontext():
            for words in each_variation(parsed) if command.of_studies else [parsed.words]:
                command.run(argparse.Namespace(**(vars(parsed) | {"words": words})))

    return exit_code_of(run)


if __name__ == "__main__":
    sys.exit(main())
