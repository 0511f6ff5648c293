"""Immutable state of one visitor."""
