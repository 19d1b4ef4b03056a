"""Subtomograms: 3D networks for classification and subdivision, and reference-free averaging under the missing wedge.

After Xu, Chai et al., *Deep learning-based subdivision approach for large scale macromolecules structure recovery from electron cryo tomograms*,
Bioinformatics 33 (2017) i13.

Entry points: the commands ``subtomogram-train``, ``subtomogram-classify``, ``subtomogram-subdivide`` and ``subtomogram-average``, each the function
``run(config)`` of a module ``*_command``. ``networks`` holds architectures, training samples and trained models, ``partition`` clustering of features,
``averaging`` alignment, classes and averages, ``report`` tables and figures.
"""
