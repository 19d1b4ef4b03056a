"""Image formation: poses, CTF, projection, Gaussians, noise, Fourier tools, FSC, reconstruction, missing wedge, symmetry."""
