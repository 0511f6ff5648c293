"""The renderer: from a performance and a reference recording to codes of sound."""
