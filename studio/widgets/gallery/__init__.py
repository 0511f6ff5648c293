"""Tiles of reference recordings, and the window that cuts an excerpt from one's own."""
