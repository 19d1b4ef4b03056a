"""Matching of images and subtomograms with references, shared by all methods.

A :class:`~.fourier_band.FourierBand` says which Fourier coefficients are compared; :class:`~.fourier_images.FourierImages` are images behind a CTF or
subtomograms behind a missing wedge on it; a :class:`~.reference.Reference` gives the slices of a map. :mod:`~.posterior` compares them over classes and
:mod:`~.grids` of poses and shifts, :mod:`~.local_search` and :mod:`~.gauss_newton` about given poses. :mod:`~.stochastic_em` starts from nothing, and
:mod:`~.half_set_frames` brings two half sets into one frame.
"""
