"""Axes of a landscape have one name, on the figure of a run and in its window."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import cryolearn
from cryolearn.common.axis_labels import axis_label

MODES = {"mode_numbers": [7, 9]}
NAMES = {"latent_names": ["hinge", "twist"]}


@pytest.mark.parametrize(("axis", "meta", "label"), [
    ("amplitudes:1", MODES, "amplitude of mode 9"),
    ("amplitudes:0", NAMES, "hinge"),
    ("amplitudes:1", {**MODES, **NAMES}, "twist"),
    ("amplitudes:2", MODES, "amplitude 3"),
    ("amplitudes", {}, "amplitude 1"),
    ("network_amplitudes:0", MODES, "network: amplitude of mode 7"),
    ("amplitude_sigma:0", MODES, "error bar of mode 7"),
    ("amplitude_sigma:1", NAMES, "error bar of twist"),
    ("amplitude_sigma:1", {}, "error bar of amplitude 2"),
    ("reduced:0", {"reduction": {"method": "pca", "explained_variance": [0.618, 0.2]}}, "principal axis 1 (62 % of variance)"),
    ("reduced:1", {"reduction": {"method": "umap", "explained_variance": None}}, "UMAP 2"),
    ("reduced:1", {"reduction": {"method": "tsne"}}, "t-SNE 2"),
    ("reduced:0", {"reduction": {"method": "none"}, **MODES}, "amplitude of mode 7"),  # the window said "reduced axis 1"
    ("reduced:1", {"reduction": {"method": "none"}, "column": "features"}, "features 2"),
    ("reduced:1", {}, "reduced axis 2"),
    ("probability:1", {"class_names": ["open", "closed"]}, "probability of closed"),
    ("probability:2", {"class_names": ["open", "closed"]}, "probability 3"),
    ("shift_angst:1", {}, "shift y (Å)"),
    ("true_shift_angst:0", {}, "true shift x (Å)"),
    ("pose_sigma_deg", {}, "pose error bar (degrees)"),
    ("half", {}, "half set"),
    ("some_column", {}, "some column"),
])
def test_labels(axis: str, meta: dict[str, object], label: str) -> None:
    assert axis_label(axis, meta) == label


def test_there_is_one_definition() -> None:
    found = [path.name for path in Path(cryolearn.__file__).parent.rglob("*.py") for node in ast.walk(ast.parse(path.read_text()))
             if isinstance(node, ast.FunctionDef) and node.name.lower().replace("_", "") == "axislabel"]
    assert found == ["axis_labels.py"]
