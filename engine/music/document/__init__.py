"""The MusicXML file that a score was read from, kept with it and patched for edits."""
