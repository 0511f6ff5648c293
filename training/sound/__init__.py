"""Training of the product's codec and renderer."""
