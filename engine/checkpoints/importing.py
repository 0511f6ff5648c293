"""Convert published weights to checkpoint folders: every name and shape is checked; the output is safetensors.

Only this module opens pickles, with `weights_only=True`. It accepts two kinds:

- `piano-encodec`: audiocraft's export of a compression model ("best_state" and "xp.cfg", as in Piano-Encodec and in
  MusicGen's `compression_state_dict.bin`), a bare state dict of one, or Hugging Face's conversion of it.
- `midi-valle`: a checkpoint of the authors' trainer (`best-valid-loss.pt`), or its bare state dict.
"""

from __future__ import annotations

import json
import pathlib
import pickle
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from engine.checkpoints.bundle import FORMAT_VERSION, fits, read_folder, weights_digest
from engine.checkpoints.index import CHECKPOINTS, IMPORTED_KINDS
from engine.models.codec.encodec import CODEBOOK_SIZE, NUM_CODEBOOKS, PianoEncodec
from engine.models.codec.seanet import SEANetConfig
from engine.models.midi_valle.decoders import Valle, ValleConfig
from engine.music.types import BadInput

ROWS = "word_embeddings.weight"
IMPORTED = CHECKPOINTS / "imported"
CARD = """# {name}

Weights of others, converted from `{source}` (SHA-256 {digest}).
Their licence is their authors' (MIDI-VALLE, Piano-Encodec and MusicGen's codec forbid commercial use): this folder is
not part of Étude and is left out of its repository.
"""


def read_weights(path: Path) -> dict:
    """Contents of a .safetensors file, or of a pickle of tensors and plain values. Raises BadInput."""
    if not path.is_file():
        raise BadInput(f"There is no file {path}; give the weights file itself, such as best-valid-loss.pt.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals(_plain_values()):
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
    except pickle.UnpicklingError as error:
        refused = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"the class {refused[1]}" if refused else "more than tensors and plain values"
        raise BadInput(
            f"{path.name} holds {what}, which is not opened, as it could run code; download the file again."
        ) from error
    except (RuntimeError, SafetensorError, EOFError, ValueError, KeyError, OSError) as error:
        raise BadInput(
            f"{path.name} is not a readable weights file (.pt, .bin, .th or .safetensors); download it again."
        ) from error
    if not isinstance(loaded, dict):
        raise BadInput(f"{path.name} holds a {type(loaded).__name__}; a checkpoint or a state dict is accepted.")
    return loaded


def _plain_values() -> list:
    """Types allowed in a trainer's checkpoint besides tensors and builtins: paths, numpy scalars."""
    scalar = np.float64(0).__reduce__()[0]
    numbers = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    kinds = [type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64)]
    return [(pathlib.PurePosixPath, "pathlib.PosixPath"), *numbers, np.dtype, *kinds]


def _is_zip(path: Path) -> bool:
    with open(path, "rb") as f:
        return f.read(2) == b"PK"


def fit(model: nn.Module, tensors: Mapping[str, Tensor], name: str) -> None:
    """Load `tensors` if names and shapes are exactly the model's; else raise BadInput with the differences."""
    wanted = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    missing = [k for k in wanted if k not in tensors]
    unused = [k for k in tensors if k not in wanted]
    other = [k for k in wanted if k in tensors and tuple(tensors[k].shape) != wanted[k]]
    for count, keys, what in (
        (len(missing), missing, "lacks"),
        (len(unused), unused, "has, beyond what this model uses,"),
        (len(other), other, "has in another shape"),
    ):
        if count:
            more = f" and {count - 1} more" if count > 1 else ""
            raise BadInput(f"{name} {what} {keys[0]}{more}; only weights of the published layout can be imported.")
    broken = [k for k, v in tensors.items() if v.is_floating_point() and not torch.isfinite(v).all()]
    if broken:
        raise BadInput(f"{name} has values in {broken[0]} that are not finite; download the file again.")
    model.load_state_dict(dict(tensors))


# --- Piano-Encodec ---


@dataclass(frozen=True)
class EncodecBundle:
    """A loaded codec: the model in evaluation mode, the first 12 hex digits of its weights' SHA-256, config.json."""

    model: PianoEncodec
    digest: str
    config: dict


def encodec_from(weights: dict, name: str) -> PianoEncodec:
    """The codec in a file's contents; every tensor must be used. Raises BadInput."""
    if "pretrained" in weights and "best_state" not in weights:
        raise BadInput(f"{name} only names the codec {weights['pretrained']!r}; give that codec's own weights file.")
    recipe = str(weights.get("xp.cfg", ""))
    state = weights.get("best_state", weights)
    state = state.get("model", state) if isinstance(state, dict) else {}
    tensors = {_audiocraft_name(k): v for k, v in state.items() if isinstance(v, Tensor)}
    first, last = "encoder.model.0.conv.conv.weight_v", "decoder.model.0.conv.conv.weight_v"
    if first not in tensors or last not in tensors:
        raise BadInput(f"{name} has no encoder.model.0.conv.conv.weight_v; an EnCodec of audiocraft is accepted.")
    _check_recipe(recipe, name)
    kernels = [(int(k.split(".")[2]), v.shape[2]) for k, v in tensors.items() if k.endswith("convtr.convtr.weight_v")]
    codebooks = [v.shape for k, v in tensors.items() if k.endswith("_codebook.embed")]
    config = SEANetConfig(
        filters=tensors[first].shape[0],
        ratios=tuple(kernel // 2 for _, kernel in sorted(kernels)),
        dimension=tensors[last].shape[1],
        lstm_layers=sum(".lstm.weight_ih_l" in k for k in tensors) // 2,
        padding=_setting(recipe, "seanet", "pad_mode") or "constant",
    )
    if config.hop_length != 640 or not codebooks or codebooks[0][0] != CODEBOOK_SIZE or len(codebooks) != NUM_CODEBOOKS:
        size = codebooks[0][0] if codebooks else 0
        found = f"{config.hop_length} samples a frame and {len(codebooks)} codebooks of {size}"
        raise BadInput(f"{name} has {found}; 640 samples and 4 codebooks of 2048, as at 32 kHz, are accepted.")
    codec = PianoEncodec(config)
    fit(codec, tensors, name)
    return codec.eval()


def _check_recipe(recipe: str, name: str) -> None:
    """Check settings that shapes do not determine, if the file states them."""
    for block, key, accepted in (
        ("seanet", "pad_mode", ("constant", "reflect")),
        ("seanet", "activation", ("ELU",)),
        ("seanet", "norm", ("weight_norm",)),
        ("encodec", "causal", ("false",)),
        ("encodec", "renormalize", ("false",)),
    ):
        found = _setting(recipe, block, key)
        if found is not None and found not in accepted:
            raise BadInput(f"{name} was trained with {block}.{key} {found}; {' or '.join(accepted)} is accepted.")


def _setting(recipe: str, block: str, key: str) -> str | None:
    """One plain value of a two-level YAML text.

    >>> _setting("a: 1\\nseanet:\\n  norm: none\\n  pad_mode: reflect\\nb: 2\\n", "seanet", "pad_mode")
    'reflect'
    """
    inside = re.search(rf"^{block}:\n((?:[ \t]+.*\n?)+)", recipe, re.MULTILINE)
    value = re.search(rf"^\s+{key}: ['\"]?(\w+)['\"]?\s*$", inside[1], re.MULTILINE) if inside else None
    return value[1] if value else None


def _audiocraft_name(key: str) -> str:
    """audiocraft's name of the tensor `key` of Hugging Face's EncodecModel; audiocraft's names are unchanged.

    >>> _audiocraft_name("decoder.layers.3.conv.parametrizations.weight.original0")
    'decoder.model.3.convtr.convtr.weight_g'
    >>> _audiocraft_name("quantizer.layers.2.codebook.embed_avg")
    'quantizer.vq.layers.2._codebook.embed_avg'
    """
    key = key.replace("parametrizations.weight.original0", "weight_g")
    key = key.replace("parametrizations.weight.original1", "weight_v")
    key = re.sub(r"^quantizer\.layers\.(\d+)\.codebook\.", r"quantizer.vq.layers.\1._codebook.", key)
    found = re.match(r"^(encoder|decoder)\.layers\.(\d+)\.(.*)$", key)
    if not found:
        return key
    side, number, rest = found[1], int(found[2]), found[3]
    upsamples = side == "decoder" and rest.startswith("conv.") and 0 < number < 15
    inner = "convtr.convtr." if upsamples else "conv.conv."
    return f"{side}.model.{number}." + re.sub(r"(^|(?<=\.))conv\.", inner, rest)


def write_encodec(codec: PianoEncodec, folder: Path, source: str, source_digest: str = "") -> str:
    """Write a codec as a checkpoint folder; returns the SHA-256 of its weights."""
    shape = asdict(codec.config) | {"num_codebooks": codec.num_codebooks, "codebook_size": codec.codebook_size}
    tensors = {k: v.detach().cpu().contiguous() for k, v in codec.state_dict().items()}
    return _write(folder, "piano-encodec", shape, tensors, source, source_digest)


def open_encodec(folder: Path) -> EncodecBundle:
    """Load a codec's folder. Raises engine.checkpoints.bundle.BundleError as the other openers do."""
    config, tensors = read_folder(folder, "piano-encodec")
    with fits(folder):
        shape = dict(config["model"])
        codebooks = shape.pop("num_codebooks"), shape.pop("codebook_size")
        codec = PianoEncodec(SEANetConfig(**shape | {"ratios": tuple(shape["ratios"])}), *codebooks)
        codec.load_state_dict(tensors)
    return EncodecBundle(codec.eval(), config["weights_sha256"][:12], config)


# --- MIDI-VALLE ---

REFUSED = {"norm_first": (True,), "add_prenet": (False,), "prepend_bos": (False,), "scale_factor": (1, 1.0)}
MODEL_NAMES = ("valle", "vall-e")


@dataclass(frozen=True)
class ValleBundle:
    """Loaded decoders: the model in evaluation mode, the first 12 hex digits of its weights' SHA-256, config.json."""

    model: Valle
    digest: str
    config: dict


def valle_from(weights: dict, name: str) -> Valle:
    """The decoders in a checkpoint; every tensor must be used. Raises BadInput."""
    state = weights.get("model", weights)
    told = weights if "model" in weights else {}
    tensors = {k: v for k, v in state.items() if isinstance(v, Tensor)} if isinstance(state, dict) else {}
    if "ar_text_embedding.weight" not in tensors:
        raise BadInput(f"{name} has no ar_text_embedding.weight; a checkpoint of MIDI-VALLE's trainer is accepted.")
    if str(told.get("model_name", "valle")).lower() not in MODEL_NAMES:
        raise BadInput(f"{name} is a model called {told['model_name']!r}; the published one, VALL-E, is accepted.")
    for key, accepted in REFUSED.items():
        if told.get(key, accepted[0]) not in accepted:
            raise BadInput(f"{name} was trained with {key} {told[key]}; only {accepted[0]}, as published, is accepted.")
    width = tensors["ar_text_embedding.weight"].shape[0]
    count = len({k.split(".")[2] for k in tensors if k.startswith("ar_decoder.layers.")})
    codebooks = sum(k.startswith("nar_audio_embeddings.") for k in tensors)
    size = tensors["ar_predict_layer.weight"].shape[0] - 1 if "ar_predict_layer.weight" in tensors else 0
    pairs = [(f"nar_predict_layers.{j}.weight", f"nar_audio_embeddings.{j + 2}.{ROWS}") for j in range(codebooks - 2)]
    tied = all(torch.equal(tensors[a], tensors[b]) for a, b in pairs if a in tensors and b in tensors)
    config = ValleConfig(
        width=width,
        heads=int(told.get("nhead", max(width // 64, 1))),
        layers=count,
        num_codebooks=codebooks,
        codebook_size=size,
        tied=tied,
        prefix_mode=int(told.get("prefix_mode", 1)),
    )
    if codebooks < 2 or width % config.heads or config.prefix_mode not in (0, 1, 2, 4):
        found = f"{codebooks} codebooks, {config.heads} heads and prefix mode {config.prefix_mode}"
        raise BadInput(f"{name} has {found}; the published 4, 16 and 1, or the like of them, are accepted.")
    model = Valle(config)
    fit(model, tensors, name)
    return model.eval()


def write_valle(model: Valle, folder: Path, source: str, source_digest: str = "") -> str:
    """Write decoders as a checkpoint folder, shared tables once; returns the SHA-256 of the weights."""
    shared = {f"nar_predict_layers.{j}.weight" for j in range(model.config.num_codebooks - 2) if model.config.tied}
    tensors = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items() if k not in shared}
    return _write(folder, "midi-valle", asdict(model.config), tensors, source, source_digest)


def open_valle(folder: Path) -> ValleBundle:
    """Load decoders' folder. Raises engine.checkpoints.bundle.BundleError as the other openers do."""
    config, tensors = read_folder(folder, "midi-valle")
    with fits(folder):
        shape = ValleConfig(**config["model"])
        for j in range(shape.num_codebooks - 2 if shape.tied else 0):
            tensors[f"nar_predict_layers.{j}.weight"] = tensors[f"nar_audio_embeddings.{j + 2}.{ROWS}"]
        with torch.device("meta"):
            model = Valle(shape)
        model.load_state_dict(tensors, assign=True)
        model.tie()
    return ValleBundle(model.eval(), config["weights_sha256"][:12], config)


# --- both ---


def _write(folder: Path, kind: str, shape: dict, tensors: dict[str, Tensor], source: str, source_digest: str) -> str:
    """Write model.safetensors, config.json and MODEL_CARD.md; after a failure the old weights remain."""
    folder.mkdir(parents=True, exist_ok=True)
    if folder.parent == IMPORTED:
        (IMPORTED / ".gitignore").write_text("*\n")
    aside = folder / "model.tmp"
    save_file(tensors, aside)
    aside.replace(folder / "model.safetensors")
    digest = weights_digest(folder / "model.safetensors")
    config = {"format_version": FORMAT_VERSION, "kind": kind, "model": shape, "weights_sha256": digest}
    config |= {"source": source, "source_sha256": source_digest}
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    card = CARD if source_digest else "# {name}\n\nWritten by `{source}`.\n"
    (folder / "MODEL_CARD.md").write_text(card.format(name=kind, source=source, digest=source_digest))
    return digest


@dataclass(frozen=True)
class Imported:
    """Result of an import.

    folder      the checkpoint folder
    digest      SHA-256 of its weights
    tensors     number of tensors, all used
    parameters  number of parameters, shared tables counted once
    """

    folder: Path
    digest: str
    tensors: int
    parameters: int


def import_weights(kind: str, path: Path, folder: Path | None = None) -> Imported:
    """Convert a published weights file to a checkpoint folder (default checkpoints/imported/KIND). Raises BadInput."""
    if kind not in IMPORTED_KINDS:
        raise BadInput(f"{kind!r} weights are not known; {' and '.join(IMPORTED_KINDS)} are accepted.")
    folder = folder or IMPORTED / kind
    weights = read_weights(path)
    source_digest = weights_digest(path)
    if kind == "piano-encodec":
        codec = encodec_from(weights, path.name)
        digest, model = write_encodec(codec, folder, path.name, source_digest), codec
    else:
        model = valle_from(weights, path.name)
        digest = write_valle(model, folder, path.name, source_digest)
    return Imported(folder, digest, len(model.state_dict()), sum(p.numel() for p in model.parameters()))
