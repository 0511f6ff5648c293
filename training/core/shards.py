"""A model's weights as 16-bit files of at most 16 MiB, and the importer that joins and validates them.

`python -m training.core.shards join FOLDER --out BUNDLES` writes one bundle folder (model.safetensors, config.json) a
system from the files NAME-03-of-12.shard in FOLDER. Writing needs torch and numpy only.

A file is: 8 bytes MAGIC, 8 bytes length of the header (little endian), the header (JSON), the data. The data of all
files of a system, one after the other, are its tensors in the header's order. Floating point is stored in half
precision, except a tensor that would overflow; whole numbers and truth values keep their type.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import struct
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

MAGIC = b"ETSHARD1"
MAX_BYTES = 16 * 2**20
HEADER_ROOM = 256 * 1024
_HALF_MAX = 65504.0


class ShardError(ValueError):
    """Shards that cannot be joined; the message is one sentence."""


def _stored(tensor: Tensor) -> np.ndarray:
    tensor = tensor.detach().cpu().contiguous()
    if not tensor.is_floating_point():
        return tensor.numpy()
    if not torch.isfinite(tensor).all():
        raise ShardError(
            "A tensor has values that are not finite: the training diverged; resume from an earlier state."
        )
    half = tensor.numel() == 0 or float(tensor.abs().max()) <= _HALF_MAX
    return (tensor.half() if half else tensor.float()).numpy()


def write_shards(
    folder: Path, name: str, weights: dict[str, Tensor], config: dict[str, Any], max_bytes: int = MAX_BYTES
) -> list[Path]:
    """Write a system's weights as files of at most `max_bytes`; returns their paths in order."""
    arrays = {key: _stored(value) for key, value in weights.items()}
    data = b"".join(array.tobytes() for array in arrays.values())
    table = [[key, str(array.dtype), list(array.shape)] for key, array in arrays.items()]
    room = max_bytes - HEADER_ROOM
    if len(json.dumps([table, config])) > HEADER_ROOM - 1024 or room <= 0:
        raise ShardError(f"The header of {name} exceeds {HEADER_ROOM} bytes; give larger files.")
    pieces = [data[at : at + room] for at in range(0, max(len(data), 1), room)]
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(f"{name}-*-of-*.shard"):
        old.unlink()
    paths = []
    for i, piece in enumerate(pieces, 1):
        header = {
            "name": name, "index": i, "of": len(pieces), "bytes": len(piece), "sha256": _digest(piece),
            "whole_sha256": _digest(data), "tensors": table, "config": config,
        }  # fmt: skip
        text = json.dumps(header).encode()
        path = folder / f"{name}-{i:02d}-of-{len(pieces):02d}.shard"
        path.write_bytes(MAGIC + struct.pack("<Q", len(text)) + text + piece)
        paths.append(path)
    return paths


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def read_shard(path: Path) -> tuple[dict[str, Any], bytes]:
    """(header, data) of one file, checked."""
    raw = path.read_bytes()
    if raw[:8] != MAGIC or len(raw) < 16:
        raise ShardError(f'"{path}" is not a shard of weights; give the files that the GPU job wrote.')
    length = struct.unpack("<Q", raw[8:16])[0]
    try:
        header = json.loads(raw[16 : 16 + length])
    except ValueError:
        raise ShardError(f'"{path}" is cut short; copy it again.') from None
    data = raw[16 + length :]
    if len(data) != header["bytes"] or _digest(data) != header["sha256"]:
        raise ShardError(f'"{path}" is damaged (its checksum differs); copy it again.')
    return header, data


def join_shards(paths: list[Path]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(weights, config) of one system from all of its files, in any order."""
    found = {}
    for path in paths:
        header, data = read_shard(path)
        found[header["index"]] = (header, data)
    first = next(iter(found.values()))[0]
    missing = sorted(set(range(1, first["of"] + 1)) - set(found))
    if missing:
        raise ShardError(f"{first['name']}: file {missing[0]} of {first['of']} is missing; copy it here, too.")
    if len({header["whole_sha256"] for header, _ in found.values()}) > 1:
        raise ShardError(f"{first['name']}: the files come from different runs; keep those of one.")
    data = b"".join(found[i][1] for i in sorted(found))
    if _digest(data) != first["whole_sha256"]:
        raise ShardError(f"{first['name']}: the joined data are damaged; copy the files again.")
    weights, at = {}, 0
    for key, dtype, shape in first["tensors"]:
        count = int(np.prod(shape)) * np.dtype(dtype).itemsize
        weights[key] = torch.from_numpy(np.frombuffer(data[at : at + count], dtype).reshape(shape).copy())
        at += count
    return weights, first["config"]


def join_folder(folder: Path, out: Path) -> dict[str, int]:
    """Join every system in a folder into OUT/NAME; returns the number of its parameters by name."""
    from safetensors.torch import save_file  # imported here: the GPU job has torch and numpy only

    groups = defaultdict(list)
    for path in sorted(folder.glob("*.shard")):
        groups[path.name.rsplit("-", 3)[0]].append(path)
    if not groups:
        raise ShardError(f'"{folder}" has no files that end in .shard.')
    joined = {name: join_shards(paths) for name, paths in groups.items()}
    for name, (weights, config) in joined.items():
        (out / name).mkdir(parents=True, exist_ok=True)
        save_file(weights, out / name / "model.safetensors")
        (out / name / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    return {name: sum(w.numel() for w in weights.values()) for name, (weights, _) in joined.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("join", choices=["join"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    try:
        for name, count in join_folder(args.folder, args.out).items():
            print(f"{args.out / name}: {count / 1e6:.1f} M parameters")
    except ShardError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
