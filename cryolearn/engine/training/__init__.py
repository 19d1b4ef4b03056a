"""Training on Lightning: data of particles, plan, trainer, checkpoints, processes, learning curve."""
