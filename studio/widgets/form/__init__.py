"""The form strip above the roll."""
