"""The `etude` command: one file for each family of subcommands."""

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command, see `engine.cli.etude.main`; the entry point of the installed `etude`."""
    from engine.cli.etude import main as run

    return run(argv)
