"""The page itself: its layout, help, welcome, and opening of pieces."""
