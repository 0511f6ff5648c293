"""`python -m engine.cli`: the `etude` command."""

from engine.cli.etude import main

if __name__ == "__main__":
    raise SystemExit(main())
