"""Data, training and evaluation of the Pianist."""
