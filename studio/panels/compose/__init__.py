"""The Compose panel."""
