"""Elastic shapes: normal modes, elastic alignment of single particles, and networks that predict mode amplitudes.

After Hamitouche & Jonic, *Deep learning of elastic 3D shapes for cryo electron microscopy analysis of continuous conformational changes of biomolecules*
(EUSIPCO 2021) and Jin et al., *Structure* 22 (2014) 496 (HEMNMA).

Entry points: the commands ``normal-modes``, ``import-modes``, ``elastic-align``, ``elastic-train``, ``elastic-predict`` and ``elastic-errors``, each the
function ``run(config)`` of a module ``*_command``. ``modes`` holds the deformable reference, ``alignment`` the search and its Levenberg-Marquardt
refinement, ``network`` the architectures and their training, ``report`` the result files.
"""
