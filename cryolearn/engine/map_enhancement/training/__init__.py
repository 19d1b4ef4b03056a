"""Training samples: sources, split by sequence, degradation, patches; the task and its losses."""
