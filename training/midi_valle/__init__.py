"""Training of MIDI-VALLE and its codec."""
