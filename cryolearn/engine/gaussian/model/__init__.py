"""Projections of Gaussian models at the Fourier coefficients of particle images, their scores and exact derivatives."""
