"""The curves under the roll, on its time axis."""
