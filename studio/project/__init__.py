"""Project files: format, reading, writing, autosave."""
