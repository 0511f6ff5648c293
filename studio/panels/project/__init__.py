"""Opening, saving and autosaving projects."""
