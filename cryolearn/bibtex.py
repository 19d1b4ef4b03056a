"""
@inproceedings{Hamitouche2021,
  title     = {Deep learning of elastic {3D} shapes for cryo electron microscopy analysis of continuous conformational changes of biomolecules},
  author    = {Hamitouche, Ilyes and Jonic, Slavica},
  booktitle = {29th European Signal Processing Conference (EUSIPCO)},
  pages     = {1251--1255},
  year      = {2021},
  doi       = {https://doi.org/10.23919/EUSIPCO54536.2021.9616013}
}

@article{Banjac2021,
  title   = {Learning to recover orientations from projections in single-particle cryo-{EM}},
  author  = {Banjac, Jelena and Donati, Laurene and Defferrard, Michael},
  journal = {arXiv},
  volume  = {2104.06237},
  year    = {2021},
  doi     = {https://doi.org/10.48550/arXiv.2104.06237}
}

@misc{Chen2018,
  title        = {A machine learning method for resolving heterogeneity in CryoEM single particle reconstruction},
  author       = {Chen, Muyuan},
  journal      = {Slides},
  howpublished = {Slides},
  year         = {2018}
}

@article{Xu2017,
  title   = {Deep learning-based subdivision approach for large scale macromolecules structure recovery from electron cryo tomograms},
  author  = {Xu, Min and Chai, Xiaoqi and Muthakana, Hariank and Liang, Xiaodan and Yang, Ge and Zeev-Ben-Mordehai, Tzviya and Xing, Eric P.},
  journal = {Bioinformatics},
  volume  = {33},
  number  = {14},
  pages   = {i13--i22},
  year    = {2017},
  doi     = {https://doi.org/10.1093/bioinformatics/btx230}
}

@article{Mullick2022,
  title   = {Learning Super-Resolution Electron Density Map of Proteins using {3D} U-Net},
  author  = {Mullick, Baishali and Wang, Yuyang and Yadav, Prakarsh and Barati Farimani, Amir},
  journal = {NeurIPS Workshop on Machine Learning in Structural Biology},
  year    = {2022}
}

@article{Barad2015,
  title   = {{EMRinger}: side chain-directed model and map validation for {3D} cryo-electron microscopy},
  author  = {Barad, Benjamin A. and Echols, Nathaniel and Wang, Ray Yu-Ruei and Cheng, Yifan and DiMaio, Frank and Adams, Paul D. and Fraser, James S.},
  journal = {Nature Methods},
  volume  = {12},
  pages   = {943--946},
  year    = {2015},
  doi     = {https://doi.org/10.1038/nmeth.3541}
}

@article{Pintilie2020,
  title   = {Measurement of atom resolvability in cryo-{EM} maps with {Q}-scores},
  author  = {Pintilie, Grigore and Zhang, Kaiming and Su, Zhaoming and Li, Shanshan and Schmid, Michael F. and Chiu, Wah},
  journal = {Nature Methods},
  volume  = {17},
  pages   = {328--334},
  year    = {2020},
  doi     = {https://doi.org/10.1038/s41592-020-0731-1}
}

@article{Afonine2018,
  title   = {New tools for the analysis and validation of cryo-{EM} maps and atomic models},
  author  = {Afonine, Pavel V. and Klaholz, Bruno P. and Moriarty, Nigel W. and Poon, Billy K. and Sobolev, Oleg V. and Terwilliger, Thomas C. and Adams, Paul D. and Urzhumtsev, Alexandre},
  journal = {Acta Crystallographica Section D},
  volume  = {74},
  pages   = {814--840},
  year    = {2018},
  doi     = {https://doi.org/10.1107/S2059798318009324}
}
"""
