"""XMVAE, a published model of scores and performances, and its baselines."""
