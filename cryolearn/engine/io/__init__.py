"""Files: STAR, image stacks, maps, structures, modes, motions, tables and trained models."""
