"""Training and evaluation of XMVAE and its baselines."""
