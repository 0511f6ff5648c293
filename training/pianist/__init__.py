"""Training and evaluation of the Pianist."""
