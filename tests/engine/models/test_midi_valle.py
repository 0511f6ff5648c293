"""MIDI-VALLE's decoders: equal to a slow reference implementation, with and without KV cache; import of weights."""

import math
import re
from dataclasses import replace
from pathlib import Path, PosixPath

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.checkpoints.importing import import_weights, open_valle, valle_from
from engine.cli.etude import main
from engine.models.midi_valle.decode import AR, FIXED, decode_coarse, decode_fine, sample_top_k
from engine.models.midi_valle.decoders import PUBLISHED as PUBLISHED_SIZE
from engine.models.midi_valle.decoders import Valle, ValleConfig
from engine.models.nn.int8 import Int8Linear, quantise, sums_overflow
from engine.music.types import BadInput
from engine.tokens.octuple import SIZES

TINY = ValleConfig(width=32, heads=4, layers=2, codebook_size=24)


def tiny(config: ValleConfig = TINY, seed: int = 0) -> Valle:
    torch.manual_seed(seed)
    model = Valle(config)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
        model.ar_text_position.alpha.fill_(0.7)
        model.nar_text_position.alpha.fill_(1.0)
        model.nar_audio_position.alpha.fill_(1.0)
    return model.eval()


def notes(count: int, seed: int = 1) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    rows = torch.stack([torch.randint(4, size, (count,), generator=g) for size in SIZES], 1)
    return torch.cat([torch.ones(1, 6, dtype=torch.long), rows, torch.full((1, 6), 2)])


def frames(count: int, config: ValleConfig = TINY, seed: int = 2) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randint(0, config.codebook_size, (count, config.num_codebooks), generator=g)


# --- the plain reading: one item, one position, one head at a time ---


class Ref:
    """The decoders' equations in NumPy, double precision, from the state dict."""

    def __init__(self, model: Valle) -> None:
        self.s = {k: v.double().numpy() for k, v in model.state_dict().items()}
        self.config = model.config

    def positions(self, count: int) -> np.ndarray:
        d = self.config.width
        pe = np.zeros((count, d))
        for t in range(count):
            for i in range(0, d, 2):
                pe[t, i] = math.sin(t / 10000 ** (i / d))
                pe[t, i + 1] = math.cos(t / 10000 ** (i / d))
        return pe

    def note_inputs(self, tokens: Tensor, side: str) -> np.ndarray:
        tables = [self.s[f"feat_emb.{i}.word_embeddings.weight"] for i in range(6)]
        rows = np.stack([np.concatenate([t[int(f)] for t, f in zip(tables, row)]) for row in tokens])
        x = rows @ self.s[f"{side}_text_embedding.weight"].T + self.s[f"{side}_text_embedding.bias"]
        return x + self.s[f"{side}_text_position.alpha"] * self.positions(len(x))

    def norm(self, x: np.ndarray, name: str, codebook: np.ndarray | None) -> np.ndarray:
        inner = name if codebook is None else f"{name}.norm"
        centred = x - x.mean(-1, keepdims=True)
        y = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        y = y * self.s[f"{inner}.weight"] + self.s[f"{inner}.bias"]
        if codebook is None:
            return y
        both = self.s[f"{name}.project_layer.weight"] @ codebook + self.s[f"{name}.project_layer.bias"]
        return both[: len(codebook)] * y + both[len(codebook) :]

    def attend(self, x: np.ndarray, name: str, sees) -> np.ndarray:
        d, heads = self.config.width, self.config.heads
        w, b = self.s[f"{name}.in_proj_weight"], self.s[f"{name}.in_proj_bias"]
        q, k, v = (x @ w[i * d : (i + 1) * d].T + b[i * d : (i + 1) * d] for i in range(3))
        out, each = np.zeros_like(x), d // heads
        for h in range(heads):
            part = slice(h * each, (h + 1) * each)
            for t in range(len(x)):
                keys = [u for u in range(len(x)) if sees(t, u)]
                score = np.array([q[t, part] @ k[u, part] / math.sqrt(each) for u in keys])
                weight = np.exp(score - score.max())
                out[t, part] = (weight / weight.sum()) @ v[keys][:, part]
        return out @ self.s[f"{name}.out_proj.weight"].T + self.s[f"{name}.out_proj.bias"]

    def stack(self, x: np.ndarray, name: str, sees, codebook: np.ndarray | None) -> np.ndarray:
        for i in range(self.config.layers):
            layer = f"{name}.layers.{i}"
            x = x + self.attend(self.norm(x, f"{layer}.norm1", codebook), f"{layer}.self_attn", sees)
            h = self.norm(x, f"{layer}.norm2", codebook) @ self.s[f"{layer}.linear1.weight"].T
            h = np.maximum(h + self.s[f"{layer}.linear1.bias"], 0)
            x = x + h @ self.s[f"{layer}.linear2.weight"].T + self.s[f"{layer}.linear2.bias"]
        return self.norm(x, f"{name}.norm", codebook)

    def ar(self, tokens: Tensor, codes: Tensor) -> np.ndarray:
        x, n = self.note_inputs(tokens, "ar"), len(tokens)
        y = self.s["ar_audio_embedding.word_embeddings.weight"][codes.numpy()]
        y = y + self.s["ar_audio_position.alpha"] * self.positions(len(y))

        def sees(t: int, u: int) -> bool:
            return u < n or (t >= n and u <= t)

        h = self.stack(np.concatenate([x, y]), "ar_decoder", sees, None)
        return h[n:] @ self.s["ar_predict_layer.weight"].T

    def nar(self, tokens: Tensor, codes: Tensor, codebook: int, first: int) -> np.ndarray:
        tables = [self.s[f"nar_audio_embeddings.{j}.word_embeddings.weight"] for j in range(self.config.num_codebooks)]
        codebooks = [len(tables) if t < first else codebook for t in range(len(codes))]
        y = np.stack([sum(tables[j][int(row[j])] for j in range(n)) for row, n in zip(codes, codebooks)])
        y = y + self.positions(len(y))
        x = self.note_inputs(tokens, "nar")
        stage = self.s[f"nar_stage_embeddings.{codebook - 1}.word_embeddings.weight"][0]
        h = self.stack(np.concatenate([x, y]), "nar_decoder", lambda t, u: True, stage)
        return h[len(tokens) + first :] @ self.s[f"nar_predict_layers.{codebook - 1}.weight"].T


@torch.inference_mode()
def test_ar_logits_follow_the_plain_reading() -> None:
    model, tokens, codes = tiny(), notes(5), frames(9)
    got = model.ar_logits(tokens[None], codes[None, :, 0])[0].double().numpy()
    assert np.abs(got - Ref(model).ar(tokens, codes[:, 0])).max() < 1e-4


@pytest.mark.parametrize("codebook", [1, 2, 3])
@torch.inference_mode()
def test_nar_logits_follow_the_plain_reading(codebook: int) -> None:
    model, tokens, codes, first = tiny(), notes(4), frames(8), 3
    y = model.nar_frames(codes[None], codebook)
    y[:, :first] = model.nar_frames(codes[None, :first], 4)
    got = model.nar_logits(tokens[None], y, codebook, first)[0].double().numpy()
    assert np.abs(got - Ref(model).nar(tokens, codes, codebook, first)).max() < 1e-4


@torch.inference_mode()
def test_padding_changes_nothing() -> None:
    model, long, short = tiny(), notes(7), notes(3, seed=5)
    codes = torch.stack([frames(9)[:, 0], frames(9, seed=6)[:, 0]])
    tokens = torch.zeros(2, 9, 6, dtype=torch.long)
    tokens[0], tokens[1, :5] = long, short
    both = model.ar_logits(tokens, codes, torch.tensor([9, 5]), torch.tensor([9, 6]))
    assert torch.allclose(both[0], model.ar_logits(long[None], codes[:1])[0], atol=1e-5)
    assert torch.allclose(both[1, :6], model.ar_logits(short[None], codes[1:, :6])[0], atol=1e-5)


# --- decoding ---


@torch.inference_mode()
def test_cached_decoding_equals_uncached_decoding() -> None:
    model, tokens, prompt = tiny(), notes(6), frames(5)
    ar = AR(model, tokens, 30)
    logits, codes = ar.begin(prompt[:, 0]), prompt[:, 0]
    for _ in range(25):
        whole = model.ar_logits(tokens[None], codes[None])[0, -1]
        assert torch.allclose(logits, whole, atol=1e-5)
        code = logits[:-1].argmax()
        codes, logits = torch.cat([codes, code[None]]), ar.step(code)


def greedy_published(model: Valle, tokens: Tensor, prompt: Tensor) -> list[int]:
    """The released loop without cache, until EOS or 16 frames a row."""
    y = prompt[:, 0]
    while True:
        logits = model.ar_logits(tokens[None], y[None])[0, -1]
        if int(logits.argmax()) == model.config.eos or len(y) - len(prompt) > 16 * len(tokens):
            return y[len(prompt) :].tolist()
        y = torch.cat([y, logits.argmax()[None]])


@pytest.mark.parametrize("seed", range(4))
@torch.inference_mode()
def test_published_stopping(seed: int) -> None:
    model, tokens, prompt = tiny(seed=seed), notes(1), frames(4)
    with torch.no_grad():
        model.ar_predict_layer.weight[-1] *= 1.5 * (seed % 2)  # in some runs EOS comes, in some the limit
    made = [int(c) for c in decode_coarse(model, tokens, prompt, None, 0.0, None)]
    assert made == greedy_published(model, tokens, prompt)


def test_a_known_length_is_kept_and_a_seed_repeats() -> None:
    model, tokens, prompt = tiny(), notes(6), frames(5)

    def once(seed: int) -> Tensor:
        g = torch.Generator().manual_seed(seed)
        coarse = torch.stack(list(decode_coarse(model, tokens, prompt, 17, generator=g)))
        return decode_fine(model, tokens, prompt, coarse, FIXED.fine_temperature, g)

    assert once(1).shape == (17, 4)
    assert once(1).max() < TINY.codebook_size
    assert torch.equal(once(1), once(1))
    assert not torch.equal(once(1), once(2))


@torch.inference_mode()
def test_fine_codebooks_are_the_likeliest_given_those_before() -> None:
    model, tokens, prompt, coarse = tiny(), notes(4), frames(3), frames(6, seed=9)[:, 0]
    made = decode_fine(model, tokens, prompt, coarse)
    codes = torch.cat([prompt, made])
    ref = Ref(model)
    for codebook in (1, 2, 3):
        assert torch.equal(made[:, codebook], torch.from_numpy(ref.nar(tokens, codes, codebook, 3).argmax(1)))


@torch.inference_mode()
def test_prefix_modes_at_inference() -> None:
    tokens, prompt, coarse = notes(6), frames(3), frames(5, seed=9)[:, 0]
    made, first_logits = {}, {}
    for mode in (0, 1, 2, 4):
        model = tiny(replace(TINY, prefix_mode=mode))
        seen = list[Tensor]()
        model.nar_predict_layers[0].register_forward_hook(lambda _m, _i, out, seen=seen: seen.append(out[0]))
        made[mode] = decode_fine(model, tokens, prompt, coarse, prompt_rows=3)
        first_logits[mode] = seen[0].double().numpy()
    ref, codes = Ref(tiny()), torch.cat([prompt, frames(5, seed=9)])
    assert np.abs(first_logits[1] - ref.nar(tokens, codes, 1, 3)).max() < 1e-4
    assert (
        np.abs(first_logits[0] - ref.nar(tokens, codes, 1, 0)[3:]).max() < 1e-4
    )  # only codebook 0 of the prompt is an input
    assert np.abs(first_logits[0] - first_logits[1]).max() > 1e-3
    assert torch.equal(made[2], made[4])  # both leave out the prompt's notes
    alone = torch.cat([tokens[:1], tokens[3:]])
    assert torch.equal(made[4], decode_fine(tiny(), alone, prompt, coarse))


def test_draw() -> None:
    logits = torch.tensor([0.0, 3.0, 1.0, 2.9])
    assert int(sample_top_k(logits, 0.0, None, None)) == 1
    g = torch.Generator().manual_seed(0)
    assert {int(sample_top_k(logits, 1.0, 2, g)) for _ in range(100)} == {1, 3}
    assert sample_top_k(logits.repeat(5, 1), 1.0, None, g).shape == (5,)


@torch.inference_mode()
def test_int8_is_near() -> None:
    model, tokens, codes = tiny(), notes(6), frames(20)
    before = model.ar_logits(tokens[None], codes[None, :, 0])
    after = quantise(tiny()).ar_logits(tokens[None], codes[None, :, 0])  # type: ignore[operator]
    assert torch.corrcoef(torch.stack([before.flatten(), after.flatten()]))[0, 1] > 0.995


def test_int8_uses_seven_bits_where_products_would_overflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without VNNI, 255 * 127 * 2 does not fit 16 bits; activations of 7 bits fit, and the result stays near."""
    g = torch.Generator().manual_seed(1)
    weight, x = torch.randn(256, 512, generator=g), torch.randn(40, 512, generator=g)
    error = {}
    for vnni in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda vnni=vnni: vnni, raising=False)
        layer = Int8Linear(weight, None)
        error[vnni] = float((layer(x) - x @ weight.T).norm() / (x @ weight.T).norm())
    assert error[True] < 0.02
    assert error[True] < error[False] < 0.04  # a bit less is used
    monkeypatch.delattr(torch.cpu, "_is_vnni_supported")
    assert sums_overflow()  # an older torch does not say: better safe


# --- weights ---


def published_keys() -> dict[str, tuple[int, ...]]:
    """Every name and shape that the published configuration implies, written out: 12 layers of 1024, four codebooks."""
    d, out = 1024, dict[str, tuple[int, ...]]()
    for i, (rows, width) in enumerate(((92, 32), (68, 32), (1156, 256), (772, 128), (388, 64), (20, 32))):
        out[f"feat_emb.{i}.word_embeddings.weight"] = (rows, width)
    for side in ("ar", "nar"):
        out |= {f"{side}_text_embedding.weight": (d, 544), f"{side}_text_embedding.bias": (d,)}
        out |= {f"{side}_text_position.alpha": (1,), f"{side}_audio_position.alpha": (1,)}
        norms = [f"{side}_decoder.norm"]
        for n in range(12):
            layer = f"{side}_decoder.layers.{n}"
            out |= {f"{layer}.self_attn.in_proj_weight": (3 * d, d), f"{layer}.self_attn.in_proj_bias": (3 * d,)}
            out |= {f"{layer}.self_attn.out_proj.weight": (d, d), f"{layer}.self_attn.out_proj.bias": (d,)}
            out |= {f"{layer}.linear1.weight": (4 * d, d), f"{layer}.linear1.bias": (4 * d,)}
            out |= {f"{layer}.linear2.weight": (d, 4 * d), f"{layer}.linear2.bias": (d,)}
            norms += [f"{layer}.norm1", f"{layer}.norm2"]
        for norm in norms:
            inner = norm if side == "ar" else f"{norm}.norm"
            out |= {f"{inner}.weight": (d,), f"{inner}.bias": (d,)}
            if side == "nar":
                out |= {f"{norm}.project_layer.weight": (2 * d, d), f"{norm}.project_layer.bias": (2 * d,)}
    out |= {"ar_audio_embedding.word_embeddings.weight": (2049, d), "ar_predict_layer.weight": (2049, d)}
    for j in range(4):
        out[f"nar_audio_embeddings.{j}.word_embeddings.weight"] = (2049 if j == 0 else 2048, d)
    for j in range(3):
        out |= {f"nar_predict_layers.{j}.weight": (2048, d), f"nar_stage_embeddings.{j}.word_embeddings.weight": (1, d)}
    return out


def test_published_key_list_and_size() -> None:
    with torch.device("meta"):
        model = Valle(PUBLISHED_SIZE)
    assert {k: tuple(v.shape) for k, v in model.state_dict().items()} == published_keys()
    count = {
        side: sum(p.numel() for n, p in model.named_parameters() if n.startswith(side)) for side in ("ar_", "nar_")
    }
    assert (round(count["ar_"] / 1e6, 1), round(count["nar_"] / 1e6, 1)) == (155.9, 214.7)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 1) == 371.0


def checkpoint(model: Valle) -> dict:
    """What the authors' trainer saves beside the model."""
    args = {"model_name": "valle", "nhead": 4, "decoder_dim": 32, "prefix_mode": 1, "norm_first": True}
    args |= {"add_prenet": False, "scale_factor": 1.0, "prepend_bos": False, "exp_dir": PosixPath("exp/midi-valle")}
    rest = {
        "optimizer": {"state": {}, "param_groups": []},
        "grad_scaler": None,
        "best_valid_loss": 3.2,
        "sampler": None,
    }
    return {"model": model.state_dict(), **rest, **args, "env_info": {"hostname": "x"}, "midi_tokens": ""}


def test_a_checkpoint_of_the_trainer_is_imported_whole(tmp_path: Path) -> None:
    model = tiny()
    torch.save(checkpoint(model), tmp_path / "best-valid-loss.pt")
    done = import_weights("midi-valle", tmp_path / "best-valid-loss.pt", tmp_path / "out")
    bundle = open_valle(tmp_path / "out")
    assert done.tensors == len(model.state_dict())
    assert done.parameters == sum(p.numel() for p in model.parameters())
    assert bundle.model.config == TINY
    for key, value in model.state_dict().items():
        assert torch.equal(bundle.model.state_dict()[key], value), key
    assert bundle.model.nar_predict_layers[0].weight is bundle.model.nar_audio_embeddings[2].weight
    assert (tmp_path / "out" / "model.safetensors").stat().st_size < 4.2 * done.parameters + 60_000
    tokens, codes = notes(4)[None], frames(6)[None, :, 0]
    assert torch.equal(bundle.model.ar_logits(tokens, codes), model.ar_logits(tokens, codes))


def test_untied_tables_stay_apart(tmp_path: Path) -> None:
    model = tiny(replace(TINY, tied=False))
    assert valle_from(checkpoint(model), "x.pt").config.tied is False


def test_other_models_are_refused() -> None:
    good = checkpoint(tiny())
    state = good["model"]
    for change, sentence in (
        ({"model_name": "vall-f"}, "a model called 'vall-f'"),
        ({"add_prenet": True}, "trained with add_prenet True; only False"),
        ({"nhead": 5}, "5 heads"),
        ({"model": {k: v for k, v in state.items() if "alpha" not in k}}, "lacks ar_text_position.alpha and 3 more"),
        ({"model": state | {"bert.weight": torch.zeros(2)}}, "beyond what this model uses, bert.weight;"),
        ({"model": state | {"ar_predict_layer.weight": torch.zeros(25, 31)}}, "another shape ar_predict_layer.weight;"),
        ({"model": {}}, "no ar_text_embedding.weight"),
    ):
        with pytest.raises(BadInput, match=re.escape(sentence)):
            valle_from(good | change, "x.pt")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(checkpoint(tiny()), tmp_path / "w.pt")
    assert main(["import-weights", "midi-valle", str(tmp_path / "w.pt"), "-o", str(tmp_path / "out"), "--quiet"]) == 0
    assert "every one used" in capsys.readouterr().out
    assert main(["import-weights", "midi-valle", str(tmp_path / "no.pt"), "--quiet"]) == 2
    assert "There is no file" in capsys.readouterr().err
