"""XMVAE and its baselines in the Compose tab."""
