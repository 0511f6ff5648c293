"""Work in separate processes: the engine's workers and the reader of notation files."""
