"""Figures that describe a score or a performance."""
