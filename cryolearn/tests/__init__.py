"""Tests: ``engine`` (pytest, no Scipion) and ``scipion`` (real protocols in real projects)."""

from cryolearn.engine.cpu import share_cores_politely

share_cores_politely()  # before any test imports PyTorch
