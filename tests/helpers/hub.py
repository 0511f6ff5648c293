"""A stand-in server for the Hugging Face Hub: accepts and refuses uploads of a Space like the Hub."""

from __future__ import annotations

import base64
import fnmatch
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlparse

TOKEN = "hf_of_a_test"
MAX_BYTES = 10_000_000  # limit of a file outside LFS


@dataclass
class Hub:
    """State of the stand-in.

    address  of the server
    repos    name -> the request that created it
    commits  messages, in order
    files    path -> content, of the last commit
    asked    every request: method and path
    """

    address: str = ""
    repos: dict[str, dict] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


@contextmanager
def serving() -> Iterator[Hub]:
    """A hub at an address of this machine."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *of: object) -> None:
            pass

        def reply(self, value: Any, status: int = 200) -> None:
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") == "chunked":
                parts = []
                while size := int(self.rfile.readline(), 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def handle_any(self) -> None:
            path, data = unquote(urlparse(self.path).path), self.body()
            hub.asked.append(f"{self.command} {path}")
            if path.startswith("/put/"):
                return self.put_large(path.removeprefix("/put/"), data)
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                return self.reply({"error": "Invalid credentials"}, 401)
            if path == "/api/repos/create":
                asked = json.loads(data)
                name = f"{asked.get('organization', 'someone')}/{asked['name']}"
                hub.repos[name] = asked
                return self.reply({"url": f"{hub.address}/spaces/{name}", "name": name})
            if path == "/api/validate-yaml":
                return self.reply({"errors": [], "warnings": []})
            if "/preupload/" in path:
                return self.reply({"files": [self.mode(f) for f in json.loads(data)["files"]]})
            if path.endswith("/info/lfs/objects/batch"):
                return self.reply(self.batch(json.loads(data)))
            if "/commit/" in path:
                return self.commit(path.split("/commit/")[0], [json.loads(line) for line in data.splitlines() if line])
            if "/tree/" in path:
                return self.reply([{"type": "file", "path": p, "size": len(d), "oid": "0" * 40}
                                   for p, d in hub.files.items()])  # fmt: skip
            if path.startswith("/api/spaces/"):
                siblings = [{"rfilename": p} for p in hub.files]
                return self.reply({"id": path.split("/", 3)[3], "sha": "0" * 40, "siblings": siblings})
            return self.reply({"error": f"no such address: {path}"}, 404)

        do_GET = do_POST = do_PUT = do_HEAD = handle_any

        def mode(self, asked: dict) -> dict:
            sample = base64.b64decode(asked.get("sample") or "")
            large = b"\0" in sample or asked["size"] > MAX_BYTES
            mode = "lfs" if large else "regular"
            return {"path": asked["path"], "uploadMode": mode, "shouldIgnore": False, "oid": None}

        def batch(self, asked: dict) -> dict:
            made = [{**o, "actions": {"upload": {"href": f"{hub.address}/put/{o['oid']}"}}} for o in asked["objects"]]
            return {"transfer": "basic", "objects": made}

        def put_large(self, digest: str, data: bytes) -> None:
            if hashlib.sha256(data).hexdigest() != digest:
                return self.reply({"error": "wrong hash"}, 400)
            hub.large[digest] = data
            return self.reply({})

        def commit(self, repo: str, lines: list[dict]) -> None:
            new: dict[str, bytes] = {}
            for line in lines:
                value = line["value"]
                if line["key"] == "file":
                    new[value["path"]] = base64.b64decode(value["content"])
                    if b"\0" in new[value["path"]] or len(new[value["path"]]) > MAX_BYTES:
                        return self.reply({"error": f"{value['path']}: binary files go through LFS"}, 400)
                elif line["key"] == "lfsFile":
                    new[value["path"]] = hub.large[value["oid"]]
                elif line["key"] == "deletedFile":
                    hub.files.pop(value["path"], None)
                else:
                    hub.commits.append(value["summary"])
            hub.files |= new
            url = f"{hub.address}/{repo.removeprefix('/api/')}/commit/{'1' * 40}"
            return self.reply({"commitUrl": url, "commitOid": "1" * 40, "hookOutput": ""})

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def is_large(path: str, attributes: str) -> bool:
    """Whether .gitattributes assigns a path to LFS."""
    name = path.rsplit("/", 1)[-1]
    return any(fnmatch.fnmatch(name, line.split()[0]) for line in attributes.splitlines() if "filter=lfs" in line)
