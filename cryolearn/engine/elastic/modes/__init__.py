"""The deformable reference: Gaussians at the atoms, displaced along normal modes."""
