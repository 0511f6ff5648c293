"""One visitor's state."""
