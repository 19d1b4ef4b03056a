"""Molecules that map networks are tested on, and what they may learn from: nothing related to the former."""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from pathlib import Path

import prody

TEST_MODELS = ("maps/5ni1_updated.cif.gz", "maps/3ajo_fitted_refined.pdb.gz", "xray/rnase_tutorial-modern.pdb.gz", "xray/5orl.pdb.gz", "structures/5a1a.cif.gz")
PRODY_MODELS = ("pdb3enl.pdb", "pdb1ubi.pdb", "4akeA_alg_fixed.pdb")
UNSEEN = 24  # X-ray models of the table of simulated maps
TUNING = 8  # other models, on which the settings of the linear filter are chosen


def add_data_option(parser: argparse.ArgumentParser) -> None:
    """``--data DIR``: folder with maps/, models/, structures/ and xray/."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("CRYOLEARN_DATA", beside)),
                        help="folder with maps, models, structures and X-ray coefficients (default: CRYOLEARN_DATA)")


def all_models(data: Path) -> list[Path]:
    """Atomic models to learn from and to test on."""
    found = sorted((data / "models").glob("*.pdb.gz"))
    if not found:
        sys.exit(f"ERROR: '{data / 'models'}' holds no models: name the folder of the data with --data.")
    return found


def unseen_models(data: Path) -> list[Path]:
    """Models of the tests, by a hash of their names, that nobody chooses: no network learns from these or their relatives."""
    return _by_hash(data)[:UNSEEN]


def tuning_models(data: Path) -> list[Path]:
    """Models on which settings are chosen: the next ones by the hash."""
    return _by_hash(data)[UNSEEN : UNSEEN + TUNING]


def _by_hash(data: Path) -> list[Path]:
    return sorted(all_models(data), key=lambda path: hashlib.sha256(path.name.encode()).digest())


def excluded_models(data: Path) -> list[Path]:
    """All models that are tested on."""
    folder = Path(prody.__file__).parent / "tests" / "datafiles"
    given = [data / name for name in TEST_MODELS] + [folder / name for name in PRODY_MODELS]
    return [path for path in given if path.exists()] + unseen_models(data)
