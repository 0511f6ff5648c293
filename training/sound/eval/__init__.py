"""Evaluation of the sound models."""
