"""The Render panel."""
