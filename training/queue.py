"""`python -m training.queue QUEUE.toml --processes 2`: see `training.core.queue`."""

from training.core.queue import main

if __name__ == "__main__":
    raise SystemExit(main())
