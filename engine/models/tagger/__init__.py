"""Where phrases end and which cadences they end with."""
