"""Linear motions: gradients of each particle, eigen-motions, positions along one of them, and probabilistic principal components."""
