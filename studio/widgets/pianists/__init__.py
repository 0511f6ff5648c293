"""Cards of pianists, with their measured character and two bars to hear."""
