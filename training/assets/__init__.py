"""Making of the sampled pianos and the reference recordings that ship with the engine."""
