"""Étude's studio: `python app.py`, then open the address it prints."""

from __future__ import annotations

import argparse
import os

# Before gradio, numpy and torch are imported: no telemetry, no network, two threads.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, os.environ.get("CPU_CORES", "2"))


def main() -> None:
    """Read the command line, build the page, serve it."""
    from studio.page import build_studio, launch_studio

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default=os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1"), help="address to listen on")
    parser.add_argument("--port", type=int, default=int(os.environ.get("GRADIO_SERVER_PORT", "7860")), help="port")
    arguments = parser.parse_args()
    launch_studio(build_studio(), host=arguments.host, port=arguments.port)


if __name__ == "__main__":
    main()
