"""Composing by a plan."""
