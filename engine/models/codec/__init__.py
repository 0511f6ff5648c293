"""Neural audio codecs for piano sound."""
