"""Layers and sampling that several models share."""
