"""Heterogeneity by Gaussian models: per-particle gradients, eigen-motions, and conformations along linear or curved trajectories.

After Chen, *A machine learning method for resolving heterogeneity in CryoEM single particle reconstruction* (slides, 2018).

Entry point: the command ``gaussian-heterogeneity``, ``heterogeneity_command.run(config)``. ``model`` holds projections of Gaussian models and their
derivatives, ``linear`` gradients, eigen-motions and probabilistic principal components, ``trajectory`` curved trajectories by expectation-maximisation,
``autoencoder`` the network, ``poses`` the alternation with orientations, ``subunits`` symmetric particles, ``report`` figures and result files.
"""
