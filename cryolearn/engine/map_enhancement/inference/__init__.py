"""A network over a map of any size: solvent level and scale, tiles, data consistency."""
