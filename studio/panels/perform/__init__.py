"""The roll and the Perform panel."""
