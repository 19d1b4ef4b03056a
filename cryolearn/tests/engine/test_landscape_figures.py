"""Figures are written whole, at a million points too, with the numbers that belong in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cryolearn.common.figures.palette import MAX_POINTS
from cryolearn.engine import figures

pytestmark = pytest.mark.usefixtures("every_picture")


def test_landscape_of_a_million_points_shows_a_part_of_them(tmp_path):
    points = np.random.default_rng(0).normal(size=(2, 1_000_000))
    figure = figures.landscape(*points, colours=figures.PointColours(points[0], "x"))
    figures.save_figure(figure, str(tmp_path / "a" / "landscape.png"))
    assert (tmp_path / "a" / "landscape.png").read_bytes()[:4] == b"\x89PNG"
    assert len(figure.axes[0].collections[1].get_offsets()) == MAX_POINTS


def test_fsc_legend_tells_each_resolution():
    shells = np.arange(33)
    falls, never = np.where(shells < 20, 1.0, 0.0), np.ones(33)
    figure = figures.fsc_curves({"falls": falls, "never": never, "bad": np.zeros(33)}, 64, 2.0)
    found = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    crossing = 19 + (1 - 0.143)  # between shells 19 and 20 of a box of 128 Å
    assert found == [f"falls: {128 / crossing:.2f} Å", "never: 4.00 Å", "bad: none"]


def test_learning_curves_put_rates_and_errors_in_panels_of_their_own():
    epochs = np.arange(5)
    figure = figures.learning_curves(
        {"epoch": epochs, "train_loss": 1.0 / (1 + epochs), "amplitude_error": epochs, "learning_rate": np.full(5, 1e-3)}
    )
    assert [axes.get_ylabel() for axes in figure.axes] == ["Loss", "Error", "Learning rate"]


@pytest.mark.parametrize(
    "figure",
    [
        lambda: figures.image_gallery(np.zeros((3, 8, 8)), ["a", "b", "c"]),
        lambda: figures.map_slices({"map": np.zeros((8, 8, 8))}, 2.0),
        lambda: figures.error_histogram({"error": [np.nan, 1.0, 2.0], "none": []}, "Å"),
        lambda: figures.mode_table([7, 8], [0.4, 0.5], [0.2, 0.3], [True, False]),
        lambda: figures.bar_chart(["1"], [3], "particles"),
        lambda: figures.landscape(np.zeros(60), np.zeros(60)),
    ],
)
def test_flat_and_empty_input_still_makes_a_picture(figure, tmp_path):
    path = figures.save_figure(figure(), str(tmp_path / "f.png"))
    assert Path(path).read_bytes()[:4] == b"\x89PNG"
