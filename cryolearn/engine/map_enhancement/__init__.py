"""Map enhancement by 3D networks, held to the data.

After Mullick et al., *Learning Super-Resolution Electron Density Map of Proteins using 3D U-Net* (2022).

Entry points: the commands ``map-train`` and ``map-enhance``, each the function ``run(config)`` of a module ``*_command``. ``networks`` holds the
architectures and the weights that come along are in ``weights``; ``training`` degradation, patches and losses; ``inference`` tiles, solvent and data
consistency; ``report`` maps, tables and figures.
"""
