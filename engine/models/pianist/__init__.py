"""The Pianist: a model that turns a score and a style into expression."""
