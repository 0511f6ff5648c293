"""The renderer: performances and a reference recording in, codes of sound out."""
