"""The phrase tagger: phrase ends and cadences of a score."""
