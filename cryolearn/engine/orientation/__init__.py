"""Ab initio orientations from pairwise angular distances predicted by a network, refined by projection matching with half sets apart.

After Banjac, Donati & Defferrard, *Learning to recover orientations from projections in single-particle cryo-EM* (2021).

Entry points: the commands ``distance-train``, ``orientation-recover`` and ``orientation-compare``, each the function ``run(config)`` of a module
``*_command``. ``distance_network`` holds networks, training and calibration, ``recovery`` orientations from distances, ``refinement`` projection matching
and ab initio starts, ``report`` tables and figures; ``similarity_kernel``, ``frame_alignment`` and ``pose_errors`` compare orientations modulo a point group.
"""
