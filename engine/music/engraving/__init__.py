"""Layout of notation: bars, voices, clefs, hands, note values, note names."""
