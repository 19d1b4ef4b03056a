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
"""
