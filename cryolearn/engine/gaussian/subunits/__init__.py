"""Symmetric particles: a conformation for each subunit, and how the subunits of a particle go together."""
