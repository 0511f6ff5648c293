"""Piano-Encodec: against plain torch layers, chunked and streamed, and how its codebooks learn."""

import re
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.checkpoints.bundle import BundleError
from engine.checkpoints.importing import encodec_from, import_weights, open_encodec, read_weights, write_encodec
from engine.models.codec.encodec import (
    COMPACT,
    PUBLISHED,
    DecodeStream,
    EncodecCodebook,
    EncodecQuantiser,
    PianoEncodec,
)
from engine.models.codec.seanet import SEANetConfig
from engine.music.types import BadInput

TINY = SEANetConfig(filters=2, dimension=8, lstm_layers=2)


def tiny(lstm: int = 2, padding: str = "constant", seed: int = 0) -> PianoEncodec:
    torch.manual_seed(seed)
    codec = PianoEncodec(SEANetConfig(2, dimension=8, lstm_layers=lstm, padding=padding), 4, 16)
    for codebook in codec.quantizer.codebooks:
        codebook.embed.normal_(std=0.05)
    return codec.eval()


def music(seconds: float, seed: int = 1) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    t = torch.arange(int(32000 * seconds)) / 32000
    tones = [torch.sin(2 * torch.pi * f * t) * torch.exp(-t) for f in (110.0, 277.2, 554.4)]
    return (0.1 * torch.stack(tones).sum(0) + 0.01 * torch.randn(len(t), generator=g))[None]


# A slow, plain reading of audiocraft's modules: torch's own layers, built from the names in the state dict.


def ref_weight(state: dict[str, Tensor], name: str) -> Tensor:
    v, g = state[f"{name}.weight_v"], state[f"{name}.weight_g"]
    return torch._weight_norm(v, g, 0)


def ref_conv(x: Tensor, state: dict[str, Tensor], name: str, stride: int, padding: str) -> Tensor:
    weight = ref_weight(state, name)
    total = weight.shape[2] - stride
    windows = -(-(x.shape[-1] - weight.shape[2] + total) // stride) + 1
    extra = (windows - 1) * stride + weight.shape[2] - total - x.shape[-1]
    x = F.pad(x, (total - total // 2, total // 2 + extra), padding)
    return F.conv1d(x, weight, state[f"{name}.bias"], stride)


def ref_stack(x: Tensor, state: dict[str, Tensor], side: str, ratios: list[int], padding: str) -> Tensor:
    """Walk through `side`.model.0, .1, ... in order; an index without tensors is an ELU."""
    last = max(int(k.split(".")[2]) for k in state if k.startswith(side))
    strides = iter(ratios)
    for i in range(last + 1):
        name = f"{side}.model.{i}"
        keys = {k for k in state if k.startswith(name + ".")}
        if not keys:
            x = F.elu(x)
        elif f"{name}.block.1.conv.conv.bias" in keys:
            h = ref_conv(F.elu(x), state, f"{name}.block.1.conv.conv", 1, padding)
            x = x + ref_conv(F.elu(h), state, f"{name}.block.3.conv.conv", 1, padding)
        elif any(".lstm." in k for k in keys):
            lstm = nn.LSTM(x.shape[1], x.shape[1], 2)
            lstm.load_state_dict({k.rsplit(".", 1)[1]: state[k] for k in keys})
            steps = x.permute(2, 0, 1)
            x = (lstm(steps)[0] + steps).permute(1, 2, 0)
        elif f"{name}.convtr.convtr.bias" in keys:
            stride = next(strides)
            y = F.conv_transpose1d(
                x, ref_weight(state, f"{name}.convtr.convtr"), state[f"{name}.convtr.convtr.bias"], stride
            )
            right = stride // 2
            x = y[..., stride - right : y.shape[-1] - right]
        else:
            kernel = state[f"{name}.conv.conv.weight_v"].shape[2]
            x = ref_conv(x, state, f"{name}.conv.conv", 1 if kernel == 7 else next(strides), padding)
    return x


@pytest.mark.parametrize("padding", ["constant", "reflect"])
@torch.inference_mode()
def test_it_computes_what_the_plain_layers_do(padding: str) -> None:
    codec, x = tiny(padding=padding), music(0.37)
    state = codec.state_dict()
    z = ref_stack(x[:, None], state, "encoder", [4, 4, 5, 8], padding)
    assert torch.allclose(codec.encoder(x[:, None]), z, atol=1e-5)
    rest, codes = z[0].T, []
    for k in range(4):
        embed = state[f"quantizer.vq.layers.{k}._codebook.embed"]
        codes.append(torch.cdist(rest, embed).argmin(1))
        rest = rest - embed[codes[-1]]
    assert torch.equal(codec.encode(x)[0], torch.stack(codes))
    quantised = (z[0].T - rest).T[None]
    assert torch.allclose(codec.latent(codec.encode(x)), quantised, atol=1e-5)
    y = ref_stack(quantised, state, "decoder", [8, 5, 4, 4], padding)[:, 0]
    assert torch.allclose(codec.decode(codec.encode(x)), y, atol=1e-5)


@pytest.mark.parametrize("lstm", [0, 2])
@torch.inference_mode()
def test_chunks_and_streams_are_the_whole(lstm: int) -> None:
    codec, x = tiny(lstm), music(0.7)
    codes = codec.encode(x)
    assert codes.shape == (1, 4, 35)
    assert torch.equal(codes, codec.quantizer.encode(codec.encoder(x[:, None])))
    assert torch.equal(codes, codec.encode(x, chunk=3))
    whole = codec.decoder(codec.latent(codes))[0, 0]
    assert whole.shape == (35 * 640,)
    assert torch.allclose(codec.decode(codes, chunk=4)[0], whole, atol=1e-6)
    stream = DecodeStream(codec)
    edges = [0, 1, 2, 9, 10, 25, 35]
    parts = [stream.push(codes[0, :, a:b]) for a, b in pairwise(edges)] + [stream.finish()]
    assert [len(p) // 640 for p in parts] == [0, 0, 5, 1, 15, 10, 4]  # four frames are always held back
    assert torch.allclose(torch.cat(parts), whole, atol=1e-6)


def test_an_odd_length_fills_its_last_frame() -> None:
    codec = tiny(0)
    for samples, frames in ((1, 1), (640, 1), (641, 2), (64001, 101)):
        assert codec.encode(torch.zeros(1, samples)).shape == (1, 4, frames)


def test_sizes() -> None:
    with torch.device("meta"):
        published, compact = PianoEncodec(PUBLISHED), PianoEncodec(COMPACT)
    assert sum(p.numel() for p in published.parameters()) == 56_884_674
    assert sum(p.numel() for p in compact.parameters()) < 6.4e6


def test_published_key_list() -> None:
    """Names and shapes that audiocraft's encodec_large_nq4_s640 has, written out from its configuration."""
    wanted: dict[str, tuple[int, ...]] = {}

    def conv(name: str, out: int, channels: int, kernel: int, first: int | None = None) -> None:
        first = out if first is None else first
        wanted[f"{name}.weight_g"], wanted[f"{name}.bias"] = (first, 1, 1), (out,)
        wanted[f"{name}.weight_v"] = (out, channels, kernel) if first == out else (channels, out, kernel)

    def block(name: str, width: int) -> None:
        conv(f"{name}.block.1.conv.conv", width // 2, width, 3)
        conv(f"{name}.block.3.conv.conv", width, width // 2, 1)

    def lstm(name: str) -> None:
        for layer in (0, 1):
            for kind in ("ih", "hh"):
                wanted[f"{name}.lstm.weight_{kind}_l{layer}"] = (4096, 1024)
                wanted[f"{name}.lstm.bias_{kind}_l{layer}"] = (4096,)

    conv("encoder.model.0.conv.conv", 64, 1, 7)
    for i, (width, stride) in enumerate(((64, 4), (128, 4), (256, 5), (512, 8))):
        block(f"encoder.model.{1 + 3 * i}", width)
        conv(f"encoder.model.{3 + 3 * i}.conv.conv", 2 * width, width, 2 * stride)
    lstm("encoder.model.13")
    conv("encoder.model.15.conv.conv", 128, 1024, 7)
    conv("decoder.model.0.conv.conv", 1024, 128, 7)
    lstm("decoder.model.1")
    for i, (width, stride) in enumerate(((1024, 8), (512, 5), (256, 4), (128, 4))):
        conv(f"decoder.model.{3 + 3 * i}.convtr.convtr", width // 2, width, 2 * stride, first=width)
        block(f"decoder.model.{4 + 3 * i}", width // 2)
    conv("decoder.model.15.conv.conv", 1, 64, 7)
    for k in range(4):
        codebook = f"quantizer.vq.layers.{k}._codebook"
        wanted |= {f"{codebook}.inited": (1,), f"{codebook}.cluster_size": (2048,)}
        wanted |= {f"{codebook}.embed": (2048, 128), f"{codebook}.embed_avg": (2048, 128)}
    with torch.device("meta"):
        have = {k: tuple(v.shape) for k, v in PianoEncodec(PUBLISHED).state_dict().items()}
    assert have == wanted


# --- quantiser ---


def test_codebooks_follow_their_inputs() -> None:
    torch.manual_seed(0)
    centres = torch.tensor([[0.0, 5.0], [5.0, 0.0], [-5.0, 0.0], [0.0, -5.0]])
    codebook = EncodecCodebook(16, 2).train()
    x = centres.repeat(50, 1) + 0.1 * torch.randn(200, 2)
    codebook.begin(x)
    for _ in range(3):
        codebook.learn(x)
    order = torch.cdist(centres, codebook.embed).argmin(1)
    assert len(order.unique()) == 4
    assert torch.cdist(x, codebook.embed).min(1).values.max() < 0.4
    for _ in range(400):
        codebook.learn(x + 1.0)
    assert torch.cdist(x + 1.0, codebook.embed).min(1).values.max() < 0.4


def test_an_unused_code_is_reset() -> None:
    torch.manual_seed(0)
    codebook = EncodecCodebook(8, 2).train()
    codebook.begin(torch.randn(400, 2))
    far = torch.randn(400, 2) + 50.0
    for _ in range(600):
        used = codebook.learn(far)
    assert len(used.unique()) == 8


def test_straight_through_gradient_and_commitment_loss() -> None:
    torch.manual_seed(0)
    quantizer = EncodecQuantiser(2, 8, 4).train()
    z = torch.randn(2, 4, 30, requires_grad=True)
    out, codes, commitment = quantizer(z)
    assert torch.allclose(out, quantizer.decode(codes), atol=0.5)  # the codebooks have moved a little since
    (gradient,) = torch.autograd.grad(out.sum(), z, retain_graph=True)
    assert torch.equal(gradient, torch.ones_like(z))
    (pull,) = torch.autograd.grad(commitment, z)
    assert (pull.abs() > 0).any()


def test_the_first_steps_skip_the_quantiser_then_k_means_sets_the_codebooks() -> None:
    torch.manual_seed(0)
    quantizer = EncodecQuantiser(2, 32, 4).train()
    quantizer.free = True
    for _ in range(5):
        z = torch.randn(2, 4, 30)
        assert torch.equal(quantizer(z)[0], z)
    quantizer.free = False
    _, codes, _ = quantizer(torch.randn(2, 4, 30))
    assert len(codes[:, 0].unique()) > 16


# --- import ---

RECIPE = "encodec:\n  causal: false\n  renormalize: false\nseanet:\n  norm: weight_norm\n  pad_mode: reflect\n"


def real_codebooks(codec: PianoEncodec) -> PianoEncodec:
    """The codec with four codebooks of 2,048, as a file to be imported has."""
    torch.manual_seed(3)
    return PianoEncodec(codec.config).eval()


def hugging_face(state: dict[str, Tensor], parametrised: bool) -> dict[str, Tensor]:
    """The names that Hugging Face's EncodecModel gives the tensors."""
    out = {}
    for key, value in state.items():
        key = re.sub(r"\.model\.", ".layers.", key).replace("quantizer.vq.layers", "quantizer.layers")
        key = key.replace("_codebook", "codebook").replace("conv.conv.", "conv.").replace("convtr.convtr.", "conv.")
        if parametrised:
            key = key.replace("weight_g", "parametrizations.weight.original0")
            key = key.replace("weight_v", "parametrizations.weight.original1")
        out[key] = value
    return out


@pytest.mark.parametrize("layout", ["export", "bare", "hugging face", "hugging face, parametrised"])
def test_every_layout_is_imported_whole(layout: str, tmp_path: Path) -> None:
    codec = real_codebooks(tiny())
    state: dict = codec.state_dict()
    if layout == "export":
        state = {"best_state": state, "xp.cfg": RECIPE, "version": "1.3.0", "exported": True}
    elif layout != "bare":
        state = hugging_face(state, "param" in layout)
    torch.save(state, tmp_path / "codec.bin")
    done = import_weights("piano-encodec", tmp_path / "codec.bin", tmp_path / "out")
    assert done.tensors == len(codec.state_dict())
    bundle = open_encodec(tmp_path / "out")
    assert bundle.model.config.padding == ("reflect" if layout == "export" else "constant")
    assert bundle.digest == done.digest[:12]
    for key, value in codec.state_dict().items():
        assert torch.equal(bundle.model.state_dict()[key], value), key


def test_what_is_missing_left_over_or_misshapen_is_named(tmp_path: Path) -> None:
    state = real_codebooks(tiny()).state_dict()
    key = "decoder.model.6.convtr.convtr.bias"
    for change, sentence in (
        ({k: v for k, v in state.items() if k != key}, f"lacks {key};"),
        (state | {"encoder.model.99.bias": torch.zeros(1)}, "beyond what this model uses, encoder.model.99.bias;"),
        (state | {key: torch.zeros(3)}, f"another shape {key};"),
        (state | {key: torch.full((8,), torch.nan)}, "not finite"),
        ({"pretrained": "facebook/encodec_32khz", "exported": True}, "only names the codec 'facebook/encodec_32khz'"),
        ({"best_state": state, "xp.cfg": RECIPE.replace("causal: false", "causal: true")}, "encodec.causal true;"),
        ({"x": torch.zeros(1)}, "an EnCodec of audiocraft is accepted"),
    ):
        with pytest.raises(BadInput, match=re.escape(sentence)):
            encodec_from(dict(change), "codec.bin")


class Malicious:
    def __reduce__(self) -> tuple:
        return (print, ("this ran",))


def test_pickles_with_code_and_broken_files_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"best_state": Malicious()}, tmp_path / "evil.pt")
    with pytest.raises(BadInput, match="could run code"):
        read_weights(tmp_path / "evil.pt")
    assert "this ran" not in capsys.readouterr().out
    for name in ("broken.pt", "broken.safetensors"):
        (tmp_path / name).write_bytes(b"not weights at all")
        with pytest.raises(BadInput, match=r"download (it|the file) again"):
            read_weights(tmp_path / name)
    with pytest.raises(BadInput, match="no file"):
        read_weights(tmp_path / "absent.pt")


def test_a_folder_that_was_altered_is_refused(tmp_path: Path) -> None:
    write_encodec(tiny(), tmp_path / "c", "a test")
    assert open_encodec(tmp_path / "c").model.codebook_size == 16
    weights = tmp_path / "c" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(BundleError, match="not the ones its config names"):
        open_encodec(tmp_path / "c")
