"""Requests that may reach Gradio: allowed routes, host names and origins.

Gradio has more routes than the page uses: /process_recording stores files outside every quota, /deep_link writes the
page to disk, /monitoring and /dev/reload are for developers. Any other route is refused.

A web page of another site can send requests to a studio on localhost, and can make its own host name resolve to
127.0.0.1 (DNS rebinding). So the Host header must be a known name or an IP address, and the Origin header of a request
that changes state must be the studio's own.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from collections.abc import Mapping
from urllib.parse import urlsplit

_READ = (
    r"/", r"/config", r"/(assets|static|svelte)/.*", r"/(favicon\.ico|theme\.css|robots\.txt|manifest\.json)",
    r"/pwa_icon(/\d+)?", r"/gradio_api/(info|openapi\.json|startup-events|theme\.css|app_id|user|login_check)",
    r"/gradio_api/(heartbeat/[^/]+|queue/data|upload_progress|queue/status)", r"/gradio_api/call/(v2/)?[^/]+/[^/]+",
    r"/gradio_api/file[=/].*", r"/gradio_api/custom_component/.*", r"/gradio_api/mcp(/.*)?",
)  # fmt: skip
_WRITE = (
    r"/gradio_api/(run|api)/[^/]+", r"/gradio_api/call/(v2/)?[^/]+", r"/gradio_api/(queue/join|cancel|reset|upload)",
    r"/gradio_api/mcp(/.*)?",
)  # fmt: skip
READ = re.compile("|".join(f"(?:{path})" for path in _READ))
WRITE = re.compile("|".join(f"(?:{path})" for path in _WRITE))
HOSTS = "ETUDE_HOSTS"  # additional host names of the studio, separated by commas


def known_route(method: str, path: str) -> bool:
    """Whether the page, the named endpoints or the MCP server use this route."""
    path = path.rstrip("/") or "/"
    if method in ("GET", "HEAD"):
        return READ.fullmatch(path) is not None
    if method in ("POST", "DELETE", "OPTIONS"):
        return WRITE.fullmatch(path) is not None or (method == "OPTIONS" and READ.fullmatch(path) is not None)
    return False


def known_names(environment: Mapping[str, str] = os.environ) -> frozenset[str]:
    """Accepted host names: this computer's, a Space's, and those of ETUDE_HOSTS."""
    own = socket.gethostname().lower()
    told = ",".join(environment.get(name, "") for name in ("SPACE_HOST", HOSTS))
    more = {name.strip().lower() for name in told.split(",") if name.strip()}
    return frozenset({"localhost", own, f"{own}.local", *more})


def host_name(host: str) -> str:
    """The name in a Host header, without its port."""
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0].lower().rstrip(".")


def known_host(host: str, names: frozenset[str]) -> bool:
    """Whether a Host header names this server. IP addresses are accepted: DNS rebinding needs a name."""
    name = host_name(host)
    if name in names or name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def own_origin(origin: str, host: str, names: frozenset[str]) -> bool:
    """Whether an origin is the studio's own: the requested host, or one of the public names."""
    found = urlsplit(origin)
    if found.scheme not in ("http", "https") or not found.netloc:
        return False
    local = ("localhost", *([] if host_name(host) in names else [host_name(host)]))
    same = found.netloc.lower() == host.lower()
    return same or (host_name(found.netloc) in names and host_name(found.netloc) not in local)
