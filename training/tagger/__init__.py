"""Training of the phrase and cadence tagger."""
