"""The expected performance: how people play a page on average, from small networks over beats and notes."""
