"""Start the app in this interpreter as a Space does, and use it. Called by `.ci/space-start`; it prints a report.

With a CUDA build of torch the host is ZeroGPU: the package `spaces` reports the app to an address of the host, for
which a server of ours stands in. A CPU build ends `import spaces` there, so the host is a plain Space then.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

PATIENCE_SEC, ATTEMPTS = 600, 3


def stand_in(asked: list[str]) -> str:
    """Address of a server that takes every report, as ZeroGPU's does; `asked` collects their paths."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *of: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_address[1]}"


def main() -> None:
    import torch

    work, asked, zero = Path(sys.argv[1]), [], torch.version.cuda is not None
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ, "SPACE_ID": "someone/etude", "SYSTEM": "spaces", "CPU_CORES": "2", "HF_HUB_OFFLINE": "1",
        "GRADIO_SERVER_PORT": str(port), "ETUDE_STATE_DIR": str(work / "state"), "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    if zero:
        environment |= {"SPACES_ZERO_GPU": "true", "SPACES_ZERO_DEVICE_API_URL": stand_in(asked)}
    began, url = time.monotonic(), f"http://127.0.0.1:{port}/"
    with (work / "output.txt").open("w") as output:
        server = subprocess.Popen([sys.executable, "app.py"], env=environment, stdout=output, stderr=output)
    try:
        while True:
            if server.poll() is not None or time.monotonic() - began > PATIENCE_SEC:
                sys.exit(f"no page:\n{(work / 'output.txt').read_text()[-3000:]}")
            try:
                assert b"gradio" in urllib.request.urlopen(url, timeout=5).read()
                break
            except OSError:
                time.sleep(0.2)
        host = f"ZeroGPU, torch {torch.__version__}, asked: {asked}" if zero else f"torch {torch.__version__}"
        print(f"Python {sys.version.split()[0]}, {host}: first page after {time.monotonic() - began:.0f} s", flush=True)
        assert not zero or "/startup-report" in asked, "the app was not reported to the host"
        use(Client(url, verbose=False))
    except Exception:
        print((work / "output.txt").read_text()[-3000:], file=sys.stderr)
        raise
    finally:
        server.terminate()
        server.wait(30)


def use(client: Client) -> None:
    """Perform a score, play it on a sampled piano, transcribe a recording."""
    played, about = client.predict(score=handle_file("examples/chopin-prelude-op-28-7.krn"), api_name="/perform")
    sound, _ = client.predict(performance=handle_file(played), api_name="/preview")
    print(f"performed {about['notes']} notes, sound of {Path(sound).stat().st_size} bytes", flush=True)
    recording = handle_file("engine/sound/prompts_data/gymnopedie.flac")
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _, found = client.predict(recording=recording, api_name="/transcribe")
            break
        except AppError as error:  # a file has 8 s to be read in, which a crowded machine may not keep
            print(f"attempt {attempt}: {error}", flush=True)
            if attempt == ATTEMPTS:
                raise
    print(f"transcribed {found['notes']} notes of a recording", flush=True)
    assert about["notes"] > 100
    assert found["notes"] > 5


if __name__ == "__main__":
    main()
