"""Make the sound pack, the data of the sound models: performances rendered on many pianos and rooms, and recordings.

A *session* is one instrument in one room through one microphone chain: several clips of different pieces, so that a
prompt and a target can be taken from one session. Renders come from note banks (`training.assets.note_banks`), with
random tuning, tone, room, noise and level; the notes of the real recordings are transcriptions.

    python -m training.sound.make_pack --out data/sound-v1 --hours 14 --banks data/banks/timgm ... \\
        --maestro maestro-compact.npz --real DIR --real-midi DIR

OUT/audio.i16  (num_samples,) int16, mono, 32 kHz, all clips one after the other
OUT/index.npz  clip_ptr (c + 1,) samples; session (c,) number; piano (c,) name; split (c,); for each clip its notes
               note_ptr (c + 1,), onset_sec, duration_sec (key held), pitch, velocity, and pedal_ptr, pedal_sec,
               pedal_value (seconds from the clip's start; notes that sound on from before have negative onsets)
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from engine.music.types import Performance
from engine.sound.sampler import SAMPLE_RATE, Bank, play
from training.sound.tone import tone

HELD_OUT = ("satie_gymnopedie1", "bach_wtc1_prelude05", "bach_wtc1_fugue10", "bach_wtc1_prelude01")
LEAD_IN = 4.0  # seconds rendered before a clip starts, for notes that sound on into it
BLOCK_SEC = 16.0  # clip length for a real recording


class Maestro:
    """The performances of maestro-compact.npz of one split."""

    def __init__(self, path: Path, split: str):
        z = np.load(path)
        self.rows = np.flatnonzero(z["split"] == split)
        self.z = {k: z[k] for k in z.files if k not in ("id", "split")}
        self.id = z["id"]

    def excerpt(self, row: int, start: float, seconds: float) -> Performance:
        """The notes that start in the window or sound on into it; times count from `start`."""
        z, notes = self.z, slice(*self.z["note_ptr"][row : row + 2])
        tick = 1 / z["ticks_per_second"][row]
        onset = np.cumsum(z["onset_diff"][notes].astype(np.int64)) * tick - start
        duration = z["duration"][notes] * tick
        p = slice(*z["pedal_ptr"][row : row + 2])
        sec = np.cumsum(z["pedal_time_diff"][p].astype(np.int64)) * tick - start
        sustain = z["pedal_number"][p] == 64
        sec, value = sec[sustain], z["pedal_value"][p][sustain]
        near = (onset > -LEAD_IN) & (onset < seconds)
        foot = (sec > -LEAD_IN) & (sec < seconds)
        before = np.flatnonzero(sec <= -LEAD_IN)[-1:]
        sec, value = np.r_[np.full(len(before), -LEAD_IN), sec[foot]], np.r_[value[before], value[foot]]
        order = np.argsort(sec, kind="stable")
        return Performance(
            onset[near], duration[near], z["pitch"][notes][near], z["velocity"][notes][near], sec[order], value[order]
        )

    def length(self, row: int) -> float:
        notes = slice(*self.z["note_ptr"][row : row + 2])
        return float(self.z["onset_diff"][notes].astype(np.int64).sum() / self.z["ticks_per_second"][row])


def room(g: np.random.Generator) -> NDArray[np.float32]:
    """Impulse response of a random room with the direct sound first: exponentially dying noise, the treble faster."""
    decay = np.exp(g.uniform(np.log(0.25), np.log(2.2)))
    count = int(min(decay * 1.1, 2.0) * SAMPLE_RATE)
    time = np.arange(count) / SAMPLE_RATE
    noise = np.fft.rfft(g.standard_normal(count))
    hz = np.fft.rfftfreq(count, 1 / SAMPLE_RATE)
    edges = (0, 250, 1000, 4000, 16000)
    damping = g.uniform(0.8, 1.1), 1.0, g.uniform(0.6, 1.0), g.uniform(0.35, 0.8), g.uniform(0.2, 0.5)
    late = np.zeros(count)
    for band, share in enumerate(damping):
        weight = np.interp(hz, edges, np.eye(5)[band])
        late += np.fft.irfft(noise * weight, count) * 10 ** (-3 * time / (decay * share))
    late *= np.clip(time / g.uniform(0.003, 0.03), 0, 1)
    late *= 10 ** (g.uniform(-22, -3) / 20) / np.sqrt((late**2).sum())
    for _ in range(g.integers(2, 9)):  # single early reflections
        late[int(g.uniform(0.002, 0.04) * SAMPLE_RATE)] += g.uniform(-0.3, 0.3) * 10 ** (-6 / 20)
    late[0] = 1.0
    return late.astype(np.float32)


def session(args: tuple) -> list[tuple[NDArray[np.int16], Performance]]:
    """One session of clips, from (seed, bank folder, maestro path, split, clips, shortest, longest second)."""
    seed, folder, maestro, split, clips, shortest, longest = args
    g = np.random.default_rng(seed)
    corpus = _cached(Maestro, maestro, split)
    bank = _cached(Bank.load, folder)
    bank.velocity_db = g.uniform(30, 48)
    wet = g.random() < 0.7
    response = room(g) if wet else np.ones(1, np.float32)
    count = len(response) + 4096
    size = 1 << (count - 1).bit_length()
    response = np.fft.irfft(np.fft.rfft(response, size) * tone(g, size, SAMPLE_RATE), size)
    response = np.roll(response, 2048)[: min(count, size)].astype(np.float32)  # a zero-phase filter also rings before
    hiss = 10 ** (g.uniform(-85, -50) / 20) if g.random() < 0.5 else 10 ** (-90 / 20)
    peak, gain_v, transposes = 10 ** (g.uniform(-18, -1) / 20), g.uniform(0.8, 1.2), g.random() < 0.35
    made, loudest = [], 1e-6
    for row in g.choice(corpus.rows, clips, replace=False).tolist():
        seconds = float(g.uniform(shortest, longest))
        start = float(g.uniform(0, max(corpus.length(row) - seconds, 0.1)))
        heard = corpus.excerpt(row, start, seconds)
        pitch = heard.pitch + (int(g.integers(-5, 6)) if transposes else 0)
        fits = (pitch >= 21) & (pitch <= 108)
        velocity = np.clip(np.round(heard.velocity * gain_v), 1, 127)
        heard = Performance(
            heard.onset_sec[fits],
            heard.duration_sec[fits],
            pitch[fits],
            velocity[fits],
            heard.pedal_sec,
            heard.pedal_value,
        )
        early = Performance(
            heard.onset_sec + LEAD_IN,
            heard.duration_sec,
            heard.pitch,
            heard.velocity,
            np.maximum(heard.pedal_sec + LEAD_IN, 0),
            heard.pedal_value,
        )
        dry = play(bank, early, seconds + LEAD_IN)
        sound = _convolve(dry, response)[2048 : 2048 + len(dry)][int(LEAD_IN * SAMPLE_RATE) :]
        made.append((sound, heard))
        loudest = max(loudest, float(np.abs(sound).max()))
    out = []
    for sound, heard in made:
        sound = sound * (peak / loudest) + hiss * _pink(g, len(sound))
        out.append((np.round(np.clip(sound, -1, 1) * 32767).astype(np.int16), heard))
    return out


_CACHE: dict = {}


def _cached(make, *args):
    if args not in _CACHE:
        _CACHE[args] = make(*args)
    return _CACHE[args]


def _convolve(sound: NDArray, response: NDArray) -> NDArray[np.float32]:
    size = 1 << (len(sound) + len(response) - 1).bit_length()
    return np.fft.irfft(np.fft.rfft(sound, size) * np.fft.rfft(response, size), size).astype(np.float32)


def _pink(g: np.random.Generator, count: int) -> NDArray[np.float32]:
    noise = np.fft.rfft(g.standard_normal(count).astype(np.float32))
    noise /= np.maximum(np.sqrt(np.arange(len(noise)) / 200), 0.3)
    sound = np.fft.irfft(noise, count)
    return (sound / np.sqrt((sound**2).mean())).astype(np.float32)


def real_clips(folder: Path, midi: Path) -> list[tuple[NDArray[np.int16], Performance, str, str]]:
    """(sound, notes, recording, split) for every block of the recordings; the held-out ones are "validation"."""
    import pretty_midi

    out = []
    for path in sorted(folder.glob("*.ogg")):
        sound, rate = soundfile.read(path, dtype="float32", always_2d=True)
        sound = soxr.resample(sound.mean(1), rate, SAMPLE_RATE)
        heard = pretty_midi.PrettyMIDI(str(midi / f"{path.stem}.mid"))
        notes = np.array([(n.start, n.end, n.pitch, n.velocity) for i in heard.instruments for n in i.notes])
        foot = sorted((c.time, c.value) for i in heard.instruments for c in i.control_changes if c.number == 64)
        pedal = np.array(foot).reshape(-1, 2)
        split = "validation" if path.stem.startswith(HELD_OUT) else "train"
        for start in np.arange(0, len(sound) / SAMPLE_RATE - 4, BLOCK_SEC):
            piece = sound[int(start * SAMPLE_RATE) : int((start + BLOCK_SEC) * SAMPLE_RATE)]
            near = (notes[:, 0] > start - LEAD_IN) & (notes[:, 0] < start + BLOCK_SEC)
            down = (pedal[:, 0] > start - LEAD_IN) & (pedal[:, 0] < start + BLOCK_SEC)
            n = notes[near]
            played = Performance(
                n[:, 0] - start, n[:, 1] - n[:, 0], n[:, 2], n[:, 3], pedal[down, 0] - start, pedal[down, 1]
            )
            out.append((np.round(np.clip(piece, -1, 1) * 32767).astype(np.int16), played, path.stem, split))
    return out


def player_of(recording: str) -> str:
    """Recordings of one player on one piano make one session."""
    return "goldberg" if "goldberg" in recording else recording.rsplit("_", 1)[-1]


class PackWriter:
    """Writes audio.i16 as clips come, and index.npz at the end."""

    def __init__(self, out: Path):
        out.mkdir(parents=True, exist_ok=True)
        self.out, self.end = out, [0]
        self.file = open(out / "audio.i16", "wb")  # noqa: SIM115 (closed by close)
        self.rows: dict[str, list] = {k: [] for k in ("session", "piano", "split", "notes", "pedal")}

    def add(self, sound: NDArray[np.int16], notes: Performance, session_id: int, piano: str, split: str) -> None:
        self.file.write(sound.tobytes())
        self.end.append(self.end[-1] + len(sound))
        table = np.stack([notes.onset_sec, notes.duration_sec, notes.pitch, notes.velocity], 1)
        for key, value in zip(
            self.rows, (session_id, piano, split, table, np.stack([notes.pedal_sec, notes.pedal_value], 1))
        ):
            self.rows[key].append(value)

    def close(self) -> None:
        self.file.close()
        note, pedal = np.concatenate(self.rows["notes"]), np.concatenate(self.rows["pedal"])
        count = lambda key: np.cumsum([0, *(len(x) for x in self.rows[key])])  # noqa: E731
        np.savez_compressed(
            self.out / "index.npz", clip_ptr=np.array(self.end), session=np.array(self.rows["session"]),
            piano=np.array(self.rows["piano"]), split=np.array(self.rows["split"]), note_ptr=count("notes"),
            onset_sec=note[:, 0].astype(np.float32), duration_sec=note[:, 1].astype(np.float32),
            pitch=note[:, 2].astype(np.uint8), velocity=note[:, 3].astype(np.uint8), pedal_ptr=count("pedal"),
            pedal_sec=pedal[:, 0].astype(np.float32), pedal_value=pedal[:, 1].astype(np.uint8),
        )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--hours", type=float, default=14.0)
    parser.add_argument(
        "--banks", type=Path, nargs="+", required=True, help="a bank named twice is used twice as often"
    )
    parser.add_argument("--maestro", type=Path, required=True)
    parser.add_argument("--split", default="train", help="of the performances")
    parser.add_argument("--real", type=Path)
    parser.add_argument("--real-midi", type=Path)
    parser.add_argument("--clips", type=int, default=6, help="in a session")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    writer = PackWriter(args.out)
    if args.real:
        clips = real_clips(args.real, args.real_midi)
        players = sorted({(player_of(name), split) for _, _, name, split in clips})
        for sound, notes, name, split in clips:
            writer.add(sound, notes, players.index((player_of(name), split)), f"real-{player_of(name)}", split)
    count = max(1, round(args.hours * 3600 / (args.clips * 16)))
    jobs = [
        (args.seed * 100003 + i, args.banks[i % len(args.banks)], args.maestro, args.split, args.clips, 12.0, 20.0)
        for i in range(count)
    ]
    jobs.sort(key=lambda job: str(job[1]))  # workers cache the notes of a bank
    with ProcessPoolExecutor(args.workers) as pool:
        for i, clips in enumerate(pool.map(session, jobs, chunksize=8)):
            for sound, notes in clips:
                writer.add(sound, notes, 100 + i, jobs[i][1].name, args.split)
            if i % 50 == 0:
                print(f"{i} of {count} sessions, {writer.end[-1] / SAMPLE_RATE / 3600:.2f} h", flush=True)
    writer.close()


if __name__ == "__main__":
    main()
