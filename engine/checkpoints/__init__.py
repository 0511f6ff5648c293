"""Checkpoint folders: index, integrity checks, loading, and import of published weights."""
