"""Elastic shapes: normal modes, elastic alignment of single particles, and networks that predict mode amplitudes.

After Hamitouche & Jonic, *Frontiers in Molecular Biosciences* 8 (2021) 663121 (DeepHEMNMA) and Jin et al., *Structure* 22 (2014) 496 (HEMNMA).

Entry points: the commands ``normal-modes``, ``import-modes``, ``elastic-align``, ``elastic-train``, ``elastic-predict`` and ``elastic-errors``, each the
function ``run(config)`` of a module ``*_command``. ``modes`` holds the deformable reference, ``alignment`` the search and its Levenberg-Marquardt
refinement, ``network`` the architectures and their training, ``report`` the result files.
"""
