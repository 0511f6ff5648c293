"""Training of the Composer."""
