"""Measures of scores, performances and sounds."""
