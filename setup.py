"""Package metadata. Tool settings stand in pyproject.toml, exact versions in the lock files."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent


def version():
    """The literal in cryolearn/__init__.py, read without importing the package."""
    text = (HERE / "cryolearn" / "__init__.py").read_text(encoding="utf-8")
    return re.search(r'^__version__ = "([^"]+)"', text, re.M).group(1)


ENGINE = [
    "torch>=2.5",
    "lightning>=2.5",
    "numpy>=1.26",
    "scipy>=1.10",
    "matplotlib>=3.8",
    "pandas>=2.2",
    "mrcfile>=1.4",
    "gemmi>=0.7",
    "biopython>=1.81",
    "prody>=2.6",
    "scikit-learn>=1.5",
    "scikit-image>=0.24",
    "threadpoolctl>=3.5",
    "safetensors>=0.5",
    "jsonargparse>=4.40",
    "roma>=1.5,<1.6.1",  # later ones import the compiler of PyTorch, three seconds in every command
]
# What the tests judge the engine by, beside what it needs; RELION, SLURM and cctbx are found where they are installed.
TESTS = ["hypothesis", "pytest", "pytest-timeout", "pytest-xdist", "starfile>=0.5.10", "torch-ctf>=0.6"]

setup(
    name="scipion-em-cryolearn",
    version=version(),
    description="Deep-learning methods for cryo-EM heterogeneity, orientations, subtomograms and maps, in Scipion.",
    long_description=(HERE / "README.rst").read_text(encoding="utf-8"),
    long_description_content_type="text/x-rst",
    license="GPL-3.0-or-later",
    keywords="scipion cryoem deep-learning flexibility single-particle tomography",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Bio-Informatics",
    ],
    packages=find_packages(include=["cryolearn", "cryolearn.*"]),
    include_package_data=False,
    package_data={
        "": ["*.png", "*.template", "*.conf"],
        "cryolearn": ["py.typed", "protocols.conf", "*.png", "engine-requirements.txt", "templates/*.template", "templates/*.conf",
                      "engine/map_enhancement/weights/*"],
    },
    python_requires=">=3.8",
    install_requires=["scipion-em>=3.11", "scipion-em-tomo>=3.12", "numpy", "mrcfile"],
    extras_require={"engine": ENGINE, "tests": TESTS},
    entry_points={"pyworkflow.plugin": "cryolearn = cryolearn"},
    zip_safe=False,
)
