"""Reading scores: documents of each format become one list of written bars, which is then played out."""
