"""ECP's grammar as masks for batched sampling of score tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from engine.tokens.tables import COLUMN_SIZES, DURATION, EOS, FAMILY, IGN, METRIC, NOTE, PITCH, POSITION

MAX_CHORD = 12  # notes at one position
GRACE = 1  # token of duration class 0


class ScoreGrammar:
    """Grammar state of `size` segments after BOS. Per step: `allowed` for each field, then `take`."""

    def __init__(self, size: int, max_notes: int):
        self.max_notes = max_notes
        zeros = torch.zeros(size, dtype=torch.int64)
        self.notes, self.position, self.chord = zeros, zeros.clone(), zeros.clone()  # position: token, 0 before a beat
        self.pitch, self.plain = zeros.clone(), torch.zeros(size, dtype=torch.bool)  # last note of this position
        self.ended = torch.zeros(size, dtype=torch.bool)

    def allowed(self, row: Tensor, room: Tensor) -> Tensor:
        """Allowed tokens of the next field, (B, tokens) bool, given the previous fields of this step.

        row   (B, j) the step's fields so far
        room  (B,) steps left, this one and EOS included
        """
        field = row.shape[1]
        if field == FAMILY:
            return self._families(room)
        token = torch.arange(COLUMN_SIZES[field])
        family = row[:, FAMILY]
        if field == POSITION:
            # the next beat, unless an inner position lacks its note; later positions while there is room for a note
            later = (token > self.position[:, None]) & (self.position > 0)[:, None] & (room > 2)[:, None]
            mask, live = torch.where(token == 1, torch.ones_like(later), later & (token > 1)), family == METRIC
        elif field == PITCH:
            mask = torch.where(self.plain[:, None], token > self.pitch[:, None], token > 0)
            live = family == NOTE
        else:
            # grace notes stand first, ascending; a lower pitch than the last grace note begins the plain notes
            grace = ~self.plain & (row[:, PITCH] >= self.pitch)
            mask = (token > GRACE) | ((token == GRACE) & grace[:, None])
            live = family == NOTE
        return torch.where(live[:, None], mask, token == IGN)

    def _families(self, room: Tensor) -> Tensor:
        waits = (self.chord == 0) & (self.position > 1)  # a Metric inside a beat is followed by a note
        begun = self.position > 0
        last = (room <= 1) | (self.notes >= self.max_notes)
        full = (self.chord >= MAX_CHORD) | (self.plain & (self.pitch >= COLUMN_SIZES[PITCH] - 1))
        needed = (self.notes == 0) & (room <= 2) & begun  # no segment without a note
        out = torch.zeros(len(room), COLUMN_SIZES[FAMILY], dtype=torch.bool)
        out[:, NOTE] = begun & ~full & ~last
        out[:, METRIC] = ~waits & ~last & ~needed
        out[:, EOS] = last & ~waits
        out[:, NOTE] |= ~out.any(1)
        out[self.ended] = False
        out[self.ended, EOS] = True
        return out

    def take(self, row: Tensor) -> None:
        """Update the state with the steps (B, 4)."""
        metric, note = row[:, FAMILY] == METRIC, (row[:, FAMILY] == NOTE) & ~self.ended
        self.position = torch.where(metric, row[:, POSITION], self.position)
        self.notes = self.notes + note
        self.chord = torch.where(metric, 0, self.chord + note)
        self.pitch = torch.where(metric, 0, torch.where(note, row[:, PITCH], self.pitch))
        self.plain = ~metric & torch.where(note, row[:, DURATION] > GRACE, self.plain)
        self.ended = self.ended | (row[:, FAMILY] == EOS)
