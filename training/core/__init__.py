"""Parts that every training shares."""
