"""Étude's studio: `python app.py`, then open the address it prints."""

from __future__ import annotations

import argparse
import os

# Set before gradio, numpy and torch are imported: no telemetry, no network, one thread a job. Two threads are ten times
# slower on a small machine that runs anything else. With CPU_CORES set, a job uses half of the cores.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
_cores = os.environ.get("CPU_CORES", "")
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, str(max(1, int(_cores) // 2)) if _cores.isdecimal() else "1")


def main() -> None:
    """Read the command line, build the page, serve it."""
    from studio.gradio_compat.clients import trusted_proxies
    from studio.gradio_compat.zerogpu import announce

    announce()
    from engine.process.remote_engine import open_engine

    parser = argparse.ArgumentParser(description=__doc__)
    host, port = os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1"), int(os.environ.get("GRADIO_SERVER_PORT", "7860"))
    parser.add_argument("--host", default=host, help="address to listen on")
    parser.add_argument("--port", type=int, default=port, help="port to listen on")
    arguments = parser.parse_args()
    try:
        trusted_proxies()
    except ValueError as error:
        parser.error(str(error))
    engine = open_engine()  # first: its processes load the models while gradio is imported
    from studio.service.shared_engine import SharedEngine
    from studio.shell.page import launch_studio

    launch_studio(SharedEngine(engine), host=arguments.host, port=arguments.port)


if __name__ == "__main__":
    main()
