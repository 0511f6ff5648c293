"""MIDI files read by mido: note-on and note-off events in ticks, tempo events."""

from __future__ import annotations

from collections import defaultdict, deque
from pathlib import Path

from training.bench.reading.facts import Facts

_DRUMS = 9  # the channel of General MIDI


def mido_facts(path: Path) -> Facts:
    """Read a MIDI file with mido; a note-off ends the earliest note of its key. Drums are counted separately."""
    import mido

    file = mido.MidiFile(str(path))
    facts = Facts()
    for track in file.tracks:
        tick = 0
        open_: dict[tuple[int, int], deque[int]] = defaultdict(deque)
        for message in track:
            tick += message.time
            if message.type not in ("note_on", "note_off"):
                continue
            key = message.channel, message.note
            if message.type == "note_on" and message.velocity:
                facts.unpitched += message.channel == _DRUMS
                open_[key].append(tick)
            elif open_[key]:
                start = open_[key].popleft()
                if message.channel != _DRUMS:
                    per = file.ticks_per_beat
                    facts.notes.append((start / per, (tick - start) / per, message.note, False))
    facts.notes.sort()
    return facts
