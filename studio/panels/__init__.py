"""The panels of the page: each has a layout and its events."""
