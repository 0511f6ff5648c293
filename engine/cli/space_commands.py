"""`etude space push`: send the app of this clone to a Hugging Face Space, in one commit."""

from __future__ import annotations

import argparse
import re
import subprocess
import tarfile
import tempfile
from io import BytesIO
from pathlib import Path
from typing import Any

from engine.cli.progress import CommandProgress
from engine.music.types import BadInput

# Files of the app, without tests, training and history. The Hub refuses binary files in plain git.
SENT = (
    "README.md", "CHANGELOG.md", "LICENSE", "app.py", "requirements.txt", "packages.txt", "engine", "studio",
    "checkpoints", "docs", "examples",
)  # fmt: skip
LARGE = ("safetensors", "sf2", "sf3", "flac", "wav", "ogg", "mp3", "png", "npz", "mxl", "mid")
ATTRIBUTES = "".join(f"*.{ending} filter=lfs diff=lfs merge=lfs -text\n" for ending in LARGE)


def add_commands(add: Any) -> None:
    """Add the command to the parser; `add` is that of `parser.build_parser`."""
    p = add("space", space, "Send this clone's app to the Hugging Face Hub, as a Space.")
    p.add_argument("action", choices=("push",), metavar="push", help="create the Space if needed, and send the app")
    p.add_argument("name", metavar="OWNER/NAME", help="of the Space")
    p.add_argument("--private", action="store_true", help="create a private Space")
    p.add_argument("--message", default="Update Étude", metavar="TEXT", help="of the commit")


def space(arguments: argparse.Namespace, progress: CommandProgress) -> dict[str, Any]:
    """`etude space push`. The token is that of `hf auth login`, or HF_TOKEN."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", arguments.name):
        raise BadInput(f'"{arguments.name}" is not the name of a Space; give OWNER/NAME.')
    root = Path(__file__).resolve().parents[2]
    with tempfile.TemporaryDirectory(prefix="etude-space-") as folder:
        progress.stage("Packing")
        files = pack(root, Path(folder))
        progress.stage("Sending")
        url = _send(Path(folder), arguments.name, arguments.private, arguments.message)
    return {"output": url, "files": files, "table": f"{url}: {files} files in one commit"}


def pack(root: Path, folder: Path) -> int:
    """Write the Space to an empty folder: committed files of SENT, and the Hub's .gitattributes; return their number.
    Raises BadInput outside a clone, and if files of the app have uncommitted changes.
    """
    if not (root / ".git").exists():
        raise BadInput("A Space is made from a clone of the repository; this Étude is installed without one.")
    changed = _git(root, "status", "--porcelain", "--", *SENT).decode().strip()
    if changed:
        raise BadInput(f"{len(changed.splitlines())} files of the app are not committed; commit them first.")
    with tarfile.open(fileobj=BytesIO(_git(root, "archive", "HEAD", *SENT))) as archive:
        archive.extractall(folder, filter="data")
    (folder / ".gitattributes").write_text(ATTRIBUTES)
    return sum(path.is_file() for path in folder.rglob("*"))


def _git(root: Path, *arguments: str) -> bytes:
    try:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", b"") or b""
        reason = said.decode(errors="replace").strip()[:200] or error
        raise BadInput(f"git could not read this clone ({reason}).") from error


def _send(folder: Path, name: str, private: bool, message: str) -> str:
    """Create the Space and upload the folder as its whole content; huggingface_hub sends large files by Xet or LFS."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

    api = HfApi()
    try:
        made = api.create_repo(name, repo_type="space", space_sdk="gradio", exist_ok=True, private=private)
        api.upload_folder(
            repo_id=name, repo_type="space", folder_path=folder, commit_message=message, delete_patterns="*"
        )
    except LocalTokenNotFoundError as error:
        raise BadInput("The Hub requires a token; log in with `hf auth login`, or set HF_TOKEN.") from error
    except OfflineModeIsEnabled as error:
        raise BadInput("HF_HUB_OFFLINE is set; unset it to send files to the Hub.") from error
    except (HfHubHTTPError, OSError) as error:
        raise BadInput(f"The Hub refused the upload: {' '.join(str(error).split())[:300]}") from error
    return str(made)
