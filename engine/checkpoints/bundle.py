"""Open and check one checkpoint folder: config.json, model.safetensors, MODEL_CARD.md, presets.json."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file

from engine.checkpoints.weights import weights_file
from engine.models.codec.piano_codec import CodecConfig, PianoCodec
from engine.models.composer.composer import CONDITION_SIZES, STEP_COLUMNS, STEP_SIZES, Composer, ComposerConfig
from engine.models.composer.conditions import COMPOSERS
from engine.models.composer.numpy_network import Weights
from engine.models.composer.piece_prior import PRIOR_COLUMNS, Prior
from engine.models.composer.plan_prior import PlanPrior, PlanPriorConfig
from engine.models.ddsp_piano.network import DdspPiano, DdspPianoConfig
from engine.models.expected.base import Base
from engine.models.expected.nets import LinearTempo, LinearTouch, TempoNet, TempoShape, TouchNet, TouchShape
from engine.models.expected.performance import Amplitude, ExpectedPerformance, Scale, known_features, tensors_of
from engine.models.pianist.pianist import Pianist, PianistConfig
from engine.models.pianist.sampling import FlowSampling
from engine.models.pianist.style import AXES
from engine.models.renderer.guide_decoder import GuideDecoder
from engine.models.renderer.masked_renderer import MaskedRenderer, RendererConfig
from engine.models.tagger.decode import Decoding
from engine.models.tagger.network import Tagger, TaggerConfig
from engine.models.tagger.tag import Tags, tag
from engine.models.transcriber.network import Transcriber, TranscriberConfig
from engine.music.types import BundleError
from engine.tokens.composer_tokens import FIELD_SIZES, METERS, NOTE_TICKS, Written

M = TypeVar("M", bound=torch.nn.Module)
FORMAT_VERSION = 1
PLAN_WEIGHTS = "plan_prior."  # name prefix of the weights of a Composer's prior over plans


@dataclass(frozen=True)
class PianistBundle:
    """A loaded Pianist.

    model     in evaluation mode, float32
    sampling  sampling settings of the product
    presets   name -> z_p
    sliders   (9, 9): row a is the change of the first nine dimensions of z_p per deviation of slider a
    base      expected channel values, for a model of the residual; else None
    digest    first 12 hex digits of the weights' SHA-256
    config    the whole config.json
    """

    model: Pianist
    sampling: FlowSampling
    presets: dict[str, tuple[float, ...]]
    sliders: NDArray[np.float64]
    base: Base | None
    digest: str
    config: dict


def weights_digest(path: Path) -> str:
    """SHA-256 of a weights file, hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def open_pianist(folder: Path) -> PianistBundle:
    """Load a Pianist folder. Raises BundleError if a file is missing, altered, of another format or not finite."""
    config, tensors = read_folder(folder, "pianist")
    if config.get("axes") != [a.name for a in AXES]:
        raise BundleError(
            f"Checkpoint {folder.name} has different style axes from this program; use the version of its release."
        )
    with fits(folder):
        presets = json.loads((folder / "presets.json").read_text())
        model = Pianist(PianistConfig(**config["model"]))
        model.load_state_dict(tensors)
        sampling = FlowSampling(**{k: tuple(v) if isinstance(v, list) else v for k, v in config["sampling"].items()})
        sliders = np.array(config["sliders"], float).reshape(len(AXES), len(AXES))
        named = {name: tuple(float(v) for v in z) for name, z in presets.items()}
        base = None
        if model.config.expected:
            base = Base(**{name: np.array(values, float) for name, values in config["base"].items()})
    if not np.isfinite(sliders).all():
        raise BundleError(f"The weights of checkpoint {folder.name} are not finite; fetch the folder again.")
    return PianistBundle(model.eval(), sampling, named, sliders, base, config["weights_sha256"][:12], config)


@dataclass(frozen=True)
class ExpectedBundle:
    """The loaded networks of the expected performance; digest and config as in PianistBundle."""

    model: ExpectedPerformance
    digest: str
    config: dict


def open_expected(folder: Path) -> ExpectedBundle:
    """Load the expected performance's folder. Raises BundleError as open_pianist does."""
    config, tensors = read_folder(folder, "expected performance")
    if config.get("features") != known_features():
        raise BundleError(
            f"Checkpoint {folder.name} uses different features from this program; use the version of its release."
        )
    with fits(folder):
        nets: dict[str, list] = {"tempo": [], "touch": []}
        for kind, make in (
            ("tempo", lambda: TempoNet(TempoShape(**config["tempo"]))),
            ("touch", lambda: TouchNet(TouchShape(**config["touch"]))),
        ):
            for state in tensors_of(kind, tensors):
                net = make()
                net.load_state_dict(state)
                nets[kind].append(net)
        inputs, beat_inputs = config["touch"]["inputs"], config["tempo"]["inputs"]
        linear = {"tempo": LinearTempo(beat_inputs), "touch": LinearTouch(inputs, beat_inputs)}
        for kind, net in linear.items():
            head = f"linear_{kind}."
            net.load_state_dict({k.removeprefix(head): v for k, v in tensors.items() if k.startswith(head)})
            nets[kind].append(net)
        part = {k: v.numpy() for k, v in tensors.items() if k.startswith(("beat_scale", "note_scale", "amplitude"))}
        beat_scale, note_scale = (
            Scale(part[f"{k}.mean"], part[f"{k}.deviation"]) for k in ("beat_scale", "note_scale")
        )
        amplitude = Amplitude(*(part[f"amplitude.{k}"].astype(float) for k in ("weight", "low", "high")))
        if amplitude.weight.shape != (5, beat_inputs + 1):
            raise ValueError(f"the amplitude is (5, {beat_inputs + 1}), got {amplitude.weight.shape}")
        model = ExpectedPerformance(nets["tempo"], nets["touch"], beat_scale, note_scale, amplitude)
    return ExpectedBundle(model, config["weights_sha256"][:12], config)


@dataclass(frozen=True)
class ComposerBundle:
    """A loaded Composer.

    model   weights laid out for sampling, float32
    prior   properties of real pieces, to draw open conditions from
    digest  first 12 hex digits of the weights' SHA-256
    config  the whole config.json
    """

    model: Weights
    prior: Prior
    digest: str
    config: dict


def open_composer(folder: Path) -> ComposerBundle:
    """Load a Composer folder. Raises BundleError as open_pianist does."""
    config, tensors = read_folder(folder, "composer")
    if config.get("grammar") != grammar_digest():
        raise BundleError(
            f"Checkpoint {folder.name} has a different note grammar from this program; use the version of its release."
        )
    with fits(folder):
        pieces = tensors.pop("pieces").numpy()
        if pieces.ndim != 2 or pieces.shape[1] != len(PRIOR_COLUMNS) or not len(pieces):
            raise ValueError(f"pieces are (n, {len(PRIOR_COLUMNS)}), got {pieces.shape}")
        prior = Prior(pieces, _plan_prior(config, tensors))
        model = Composer(ComposerConfig(**config["model"]))
        model.load_state_dict(tensors)
    return ComposerBundle(Weights(model.eval()), prior, config["weights_sha256"][:12], config)


def _plan_prior(config: dict, tensors: dict[str, torch.Tensor]) -> PlanPrior | None:
    """The prior over plans; removes its weights from `tensors`. None for a Composer without a plan."""
    if "plan_prior" not in config:
        return None
    prior = PlanPrior(PlanPriorConfig(**config["plan_prior"]))
    prior.load_state_dict(take_part(tensors, PLAN_WEIGHTS))
    return prior.eval()


@dataclass(frozen=True)
class TaggerBundle:
    """A loaded phrase tagger: model in evaluation mode, float32, and the thresholds of its marks."""

    model: Tagger
    decoding: Decoding
    digest: str
    config: dict

    def tag(self, written: Written) -> Tags:
        """Phrase ends and cadences of a score."""
        return tag(self.model, self.decoding, written)


def open_tagger(folder: Path) -> TaggerBundle:
    """Load a phrase tagger's folder. Raises BundleError as open_pianist does."""
    config, tensors = read_folder(folder, "phrase tagger")
    with fits(folder):
        shape = dict(config["model"])
        model = Tagger(TaggerConfig(**{**shape, "dilations": tuple(shape["dilations"])}))
        model.load_state_dict(tensors)
        least = config["decoding"]
        decoding = Decoding(float(least["phrase"]), tuple(float(v) for v in least["cadence"]))  # type: ignore[arg-type]
    return TaggerBundle(model.eval(), decoding, config["weights_sha256"][:12], config)


@dataclass(frozen=True)
class CodecBundle:
    """A loaded piano codec: model in evaluation mode, float32; digest and config as in PianistBundle."""

    model: PianoCodec
    digest: str
    config: dict


def open_codec(folder: Path) -> CodecBundle:
    """Load a piano codec's folder. Raises BundleError as open_pianist does."""
    config, tensors = read_folder(folder, "piano codec")
    with fits(folder):
        model = PianoCodec(CodecConfig(**config["model"]))
        codebooks = tensors.pop("books")
        for codebook, vectors in zip(model.quantiser.listed(), codebooks, strict=True):
            codebook.codebook.copy_(vectors)
        load_weights(model, tensors, lambda name: name.startswith("quantiser."))
    return CodecBundle(model.eval(), config["weights_sha256"][:12], config)


def codebooks_digest(codebooks: torch.Tensor) -> str:
    """Hash of the codebooks (K, size, latent), hex: it identifies a renderer's codec."""
    return hashlib.sha256(codebooks.half().numpy().tobytes()).hexdigest()[:16]


@dataclass(frozen=True)
class RendererBundle:
    """A loaded renderer: model in evaluation mode, float32; digest and config as in PianistBundle.

    decoder  its own decoder from codes to spectra; None to use the codec's
    """

    model: MaskedRenderer
    decoder: GuideDecoder | None
    digest: str
    config: dict


def open_renderer(folder: Path, codec: CodecBundle) -> RendererBundle:
    """Load a renderer's folder; its codes belong to one codec only. Raises BundleError as open_pianist does."""
    config, tensors = read_folder(folder, "renderer")
    codebooks = torch.stack([b.codebook for b in codec.model.quantiser.listed()])
    if config.get("codec") != codebooks_digest(codebooks):
        raise BundleError(
            f"Checkpoint {folder.name} was trained with a different codec; use the renderer and codec of one release."
        )
    with fits(folder):
        model, decoder = MaskedRenderer(RendererConfig(**config["model"]), codebooks), None
        if of_decoder := take_part(tensors, "decoder."):
            decoder = GuideDecoder(codec.model, model.config.width).eval()
            decoder.load_state_dict(of_decoder)
        load_weights(model, tensors, lambda name: name in ("codebooks", "scale"))
    return RendererBundle(model.eval(), decoder, config["weights_sha256"][:12], config)


@dataclass(frozen=True)
class ModelBundle(Generic[M]):
    """A loaded network, in evaluation mode, float32; digest and config as in PianistBundle."""

    model: M
    digest: str
    config: dict


def _open_model(folder: Path, kind: str, make: Callable[[dict], M]) -> ModelBundle[M]:
    """Load a folder whose weights are all one network's. make: the network of its configuration."""
    config, tensors = read_folder(folder, kind)
    with fits(folder):
        model = make(config["model"])
        model.load_state_dict(tensors)
    return ModelBundle(model.eval(), config["weights_sha256"][:12], config)


def open_transcriber(folder: Path) -> ModelBundle[Transcriber]:
    """Load a transcriber's folder. Raises BundleError as open_pianist does."""
    return _open_model(folder, "transcriber", lambda shape: Transcriber(TranscriberConfig(**shape)))


def open_ddsp_piano(folder: Path) -> ModelBundle[DdspPiano]:
    """Load a DDSP-Piano's folder. Raises BundleError as open_pianist does."""
    return _open_model(folder, "ddsp-piano", lambda shape: DdspPiano(DdspPianoConfig(**shape)))


def grammar_digest() -> str:
    """Hash of the token grammar of a Composer: columns, class lists and edges, hex."""
    parts = (FIELD_SIZES, NOTE_TICKS.tolist(), METERS, STEP_COLUMNS, STEP_SIZES, CONDITION_SIZES, COMPOSERS)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def read_folder(folder: Path, kind: str) -> tuple[dict, dict[str, torch.Tensor]]:
    """config.json and the weights (as float32) of a folder of this kind."""
    try:
        config = json.loads((folder / "config.json").read_text())
        weights = weights_file(folder, str(config.get("weights_sha256", "")))
        digest = weights_digest(weights)
    except FileNotFoundError as error:
        raise BundleError(
            f"Checkpoint {folder.name} lacks {Path(error.filename).name}; fetch the folder again."
        ) from error
    except (OSError, ValueError) as error:
        raise BundleError(f"Checkpoint {folder.name} cannot be read ({error}); fetch the folder again.") from error
    if config.get("format_version") != FORMAT_VERSION or config.get("kind") != kind:
        found = f"{config.get('kind')} format {config.get('format_version')}"
        raise BundleError(f"Checkpoint {folder.name} is a {found}; this program reads {kind} format {FORMAT_VERSION}.")
    if config.get("weights_sha256") != digest:
        raise BundleError(
            f"The weights of checkpoint {folder.name} are not the ones its config names; fetch the folder again."
        )
    with fits(folder):
        tensors = {k: v.float() for k, v in load_file(weights).items()}
    if not all(torch.isfinite(v).all() for v in tensors.values()):
        raise BundleError(f"The weights of checkpoint {folder.name} are not finite; fetch the folder again.")
    return config, tensors


def take_part(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """Remove the weights whose names begin with `prefix`; return them without it."""
    return {name.removeprefix(prefix): tensors.pop(name) for name in list(tensors) if name.startswith(prefix)}


def load_weights(model: torch.nn.Module, tensors: dict[str, torch.Tensor], optional: Callable[[str], bool]) -> None:
    """Load a model's weights; `optional` names may be missing. Raises ValueError for other missing or unknown names."""
    found, unexpected = model.load_state_dict(tensors, strict=False)
    missing = [name for name in found if not optional(name)]
    if missing or unexpected:
        raise ValueError(f"missing {missing[:3]}, unexpected {unexpected[:3]}")


@contextmanager
def fits(folder: Path) -> Iterator[None]:
    """Context manager: an error inside becomes a BundleError of one sentence."""
    try:
        yield
    except FileNotFoundError as error:
        name = Path(error.filename).name
        raise BundleError(f"Checkpoint {folder.name} lacks {name}; fetch the folder again.") from error
    except (SafetensorError, RuntimeError, TypeError, KeyError, ValueError, AttributeError, IndexError) as error:
        problem = str(error)[:200]
        raise BundleError(f"The weights of checkpoint {folder.name} do not fit its config: {problem}") from error
