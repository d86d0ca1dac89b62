"""From prepared data to weights: one trainer, started by torchrun's agent on a laptop and in a cluster alike."""
