"""The `etude` command: one file for each family of subcommands."""
