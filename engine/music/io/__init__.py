"""Readers and writers. Each score format is read to a list of written bars, which is then unfolded."""
