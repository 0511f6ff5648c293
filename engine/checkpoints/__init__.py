"""Checkpoint folders: found, checked, loaded, and imported from published weights."""
