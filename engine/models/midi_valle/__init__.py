"""MIDI-VALLE: a published codec language model that renders performances."""
