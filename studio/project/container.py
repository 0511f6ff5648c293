"""Container of a project: a zip whose first entry states the format and the hashes of the others.

    project.json   {"format": "etude-project", "format_version": 1, ..., "members": {name: {"bytes", "sha256"}}}
    *.json, *.flac the members, see studio.project

The same members give the same bytes: the file contains no time stamp. Bytes are untrusted when read: limits first, then
hashes, then a check of every value (studio.project.values). No entry is written to disk.
"""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

from engine.limits import PROJECT_BYTES
from engine.music.types import BadInput
from studio.project.values import Damaged, keyed, parse, text, whole, written

FORMAT, FORMAT_VERSION = "etude-project", 1
SUFFIX = ".etude"
HEAD = "project.json"
MAX_ENTRIES = 600
MAX_JSON = 8_000_000  # bytes of one entry
MAX_ALL_JSON = 40_000_000
MAX_RATIO = 500  # compression ratio of an entry that is not small
SMALL = 2_000  # bytes, packed
_NAME = re.compile(r"(?:[a-z]{1,20}/)?[a-z0-9]{1,20}\.(?:json|flac)")
_CHUNK = 65_536
_MOMENT = (1980, 1, 1, 0, 0, 0)  # time stamp of every entry: zip requires one


def looks_like_project(data: bytes, filename: str) -> bool:
    """Whether a file claims to be a project, by its first entry or its name; it may still be damaged."""
    return (data[:4] == b"PK\x03\x04" and data[30 : 30 + len(HEAD)] == HEAD.encode()) or filename.endswith(SUFFIX)


def pack(members: Mapping[str, bytes], about: Mapping[str, Any]) -> bytes:
    """Pack members into one file, with `about` in its header. Raises BadInput if it is too large to be opened again."""
    sums = {name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in members.items()}
    head = written({"format": FORMAT, "format_version": FORMAT_VERSION, **about, "members": sums})
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, data in {HEAD: head, **members}.items():
            entry = zipfile.ZipInfo(name, _MOMENT)
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            entry.compress_type = zipfile.ZIP_STORED if name.endswith(".flac") else zipfile.ZIP_DEFLATED
            archive.writestr(entry, data, compresslevel=6)
    json_bytes = sum(len(data) for name, data in members.items() if name.endswith(".json"))
    fits = len(members) < MAX_ENTRIES and json_bytes + len(head) <= MAX_ALL_JSON
    large = any(len(data) > MAX_JSON for name, data in members.items() if name.endswith("n"))
    if not fits or large or made.tell() > PROJECT_BYTES:
        raise BadInput(
            f"This project would have {made.tell() / 1e6:.0f} MB, more than the {PROJECT_BYTES / 1e6:.0f} MB that can "
            "be opened again; discard takes, or save pieces one by one."
        )
    return made.getvalue()


def unpack(data: bytes) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Header and members of a project file, after checking the hashes. Raises BadInput."""
    if len(data) > PROJECT_BYTES:
        raise BadInput(f"This project has {len(data) / 1e6:.0f} MB; up to {PROJECT_BYTES / 1e6:.0f} MB are opened.")
    if data[:4] != b"PK\x03\x04":
        raise BadInput(f"This is not an Étude project; open a file written by Save project ({SUFFIX}).")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = _listed(archive)
            head = _head(_read(archive, entries, HEAD))
            return head, _members(archive, entries, head)
    except Damaged as damage:
        raise BadInput(f"This project file is damaged ({damage}); use another copy of it.") from damage
    except BadInput:
        raise
    except (
        zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError, LookupError, OverflowError
    ) as error:  # fmt: skip
        raise BadInput("This project file is damaged or cut off; use another copy of it.") from error


def _listed(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    found = archive.infolist()
    if len(found) > MAX_ENTRIES:
        raise BadInput(f"This project file has {len(found)} entries; a project has up to {MAX_ENTRIES}.")
    entries = {entry.filename: entry for entry in found}
    if HEAD not in entries:
        raise BadInput(f"This is not an Étude project; open a file written by Save project ({SUFFIX}).")
    if len(entries) != len(found) or not all(_NAME.fullmatch(name) for name in entries):
        raise Damaged("it has unknown entries")
    claimed = sum(entry.file_size for entry in found)
    if claimed > MAX_ALL_JSON + PROJECT_BYTES:
        raise BadInput(f"This project claims {claimed / 1e6:,.0f} MB when unpacked; that is too large to be one.")
    return entries


def _read(archive: zipfile.ZipFile, entries: Mapping[str, zipfile.ZipInfo], name: str) -> bytes:
    """One entry, read in chunks up to the limits; its header is not trusted."""
    entry = entries[name]
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or entry.flag_bits & 0x1:
        raise Damaged(f"{name} uses an unsupported compression")
    limit = min(MAX_JSON if name.endswith(".json") else PROJECT_BYTES, MAX_RATIO * max(entry.compress_size, SMALL))
    parts, size = [], 0
    with archive.open(entry) as stream:
        while chunk := stream.read(_CHUNK):
            size += len(chunk)
            if size > limit:
                raise Damaged(f"{name} unpacks to more than {limit / 1e6:.1f} MB")
            parts.append(chunk)
    return b"".join(parts)


def _head(data: bytes) -> dict[str, Any]:
    head = parse(data)
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise BadInput(f"This is not an Étude project; open a file written by Save project ({SUFFIX}).")
    version = whole(head.get("format_version"), "format version", 1, 10**6)
    if version > FORMAT_VERSION:
        raise BadInput(
            f"This project was made by a newer Étude (format {version}; this one reads {FORMAT_VERSION}); "
            "update Étude to open it."
        )
    return keyed(head, "members")


def _members(
    archive: zipfile.ZipFile, entries: Mapping[str, zipfile.ZipInfo], head: Mapping[str, Any]
) -> dict[str, bytes]:
    sums = head["members"]
    if not isinstance(sums, dict) or set(sums) != set(entries) - {HEAD}:
        raise Damaged("its list of entries does not match its contents")
    members, json_bytes = {}, 0
    for name, told in sums.items():
        data = _read(archive, entries, name)
        told = keyed(told, "bytes", "sha256")
        same = told["bytes"] == len(data) and text(told["sha256"], "checksum") == hashlib.sha256(data).hexdigest()
        if not same:
            raise Damaged(f"{name} does not match its checksum")
        json_bytes += len(data) if name.endswith(".json") else 0
        if json_bytes > MAX_ALL_JSON:
            raise Damaged("it unpacks to more than the limit of a project")
        members[name] = data
    return members
