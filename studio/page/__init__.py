"""Answers to page events, and the values sent to the browser."""
