"""The drawings that runs and windows share: numbers in them, and that nobody draws them a second time."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy.ndimage import gaussian_filter

import cryolearn
from cryolearn.common.figures import bars, curves, landscape, maps, orientations, palette, scores, surface
from cryolearn.common.fsc import resolution_at
from cryolearn.common.modes import collectivity
from cryolearn.engine import figures
from cryolearn.engine.gaussian.report import figures as gaussian_figures
from cryolearn.engine.subtomogram.report.confusion import confusion_plot

PACKAGE = Path(cryolearn.__file__).parent
RNG = np.random.default_rng(0)


def contents(figure: Figure) -> list[object]:
    """What is drawn: lines, bars, images, points and words of every axes."""
    found: list[object] = []
    for axes in figure.axes:
        found.append((axes.get_title(), axes.get_xlabel(), axes.get_ylabel(), axes.get_xlim(), axes.get_ylim()))
        found += [line.get_xydata().tolist() for line in axes.lines]
        found += [(patch.get_bbox().bounds, patch.get_facecolor()) for patch in axes.patches]
        found += [image.get_array().tolist() for image in axes.images]
        found += [np.asarray(item.get_offsets()).tolist() for item in axes.collections]
        found += [text.get_text() for text in axes.texts]
        legend = axes.get_legend()
        found += [text.get_text() for text in legend.get_texts()] if legend else []
    return found


def drawn(draw: object, *values: object, **options: object) -> list[object]:
    figure = Figure()
    assert callable(draw)
    draw(figure, *values, **options)
    return contents(figure)


def test_a_runs_figures_are_those_of_the_windows() -> None:
    learning = {"epoch": np.arange(1, 6), "train_loss": 1 / np.arange(1, 6), "learning_rate": np.full(5, 1e-3)}
    assert contents(figures.learning_curves(learning)) == drawn(curves.draw_learning, learning)
    curve = np.r_[1.0, 1 / (1 + np.exp(np.arange(1, 17) - 8))]
    shells = np.arange(1, 17) / (32 * 2.0)
    expected = drawn(curves.draw_fsc, [("map", shells.tolist(), curve[1:].tolist(), resolution_at(curve, 0.143, 32, 2.0))], (0.143,))
    assert contents(figures.fsc_curves({"map": curve}, 32, 2.0)) == expected
    modes = np.arange(7, 12), np.linspace(0.1, 0.5, 5), None, np.array([True, False, True, True, True])
    assert contents(figures.mode_table(*modes)) == drawn(bars.draw_collectivity, *modes, title="Normal modes")
    variance = [0.3, 0.02, 0.01], [0.02, 0.02, 0.019]
    assert contents(gaussian_figures.draw_explained_variance(*variance)) == drawn(bars.draw_explained_variance, *variance)
    energy = np.linspace(-1, 1, 5), np.arange(5, 10), np.arange(5)[::-1] / 5, np.full(5, 0.1)
    assert contents(gaussian_figures.draw_free_energy(*energy)) == drawn(curves.draw_free_energy, *energy, label="place along the path c")
    counts = np.array([[8, 2], [1, 9]])
    assert contents(confusion_plot(counts, ["a", "b"], ["a", "b"], "x")) == drawn(bars.draw_confusion, counts, ["a", "b"], "x")


def test_the_smoothing_is_scipys() -> None:
    values = RNG.random((40, 30))
    for sigma in ((0.8, 0.8), (2.3, 5.1)):
        np.testing.assert_allclose(landscape.smoothed(values, sigma), gaussian_filter(values, sigma), atol=1e-12)


def test_classes_have_their_colours_and_counts() -> None:
    assert [palette.class_colour(number) for number in (0, 1, len(palette.COLOURS) + 1)] == [palette.LEFT_OUT, palette.COLOURS[0], palette.COLOURS[0]]
    figure = Figure()
    axes = figure.subplots()
    x, y = RNG.normal(size=(2, 500))
    rows = landscape.draw_points(figure, axes, x, y, np.repeat([0, 1, 2, 3, 7], 100), "class (particles)", categorical=True, names=["open", "shut"])
    assert len(rows) == 500
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["left out (100)", "open (100)", "shut (100)", "3 (100)", "7 (100)"]


def test_a_sample_of_rows_is_ascending_and_repeats() -> None:
    rows = palette.sample_rows(10_000, 100)
    assert len(set(rows.tolist())) == 100 and (np.diff(rows) > 0).all()
    assert (rows == palette.sample_rows(10_000, 100)).all()
    assert palette.sample_rows(5, 100).tolist() == [0, 1, 2, 3, 4]


def test_confusion_says_how_many_are_right() -> None:
    figure = Figure()
    bars.draw_confusion(figure, [[8, 2], [1, 9]], ["a", "b"], "Unseen", ["b", "a"])
    assert figure.axes[0].get_title() == "Unseen: 15.0 % right"  # (2 + 1) of 20: the columns are named the other way round
    figure = Figure()
    bars.draw_confusion(figure, np.zeros((2, 2)), ["a", "b"])  # nobody was classified
    assert "0.0 % right" in figure.axes[0].get_title()


def test_errors_beyond_the_axis_are_counted() -> None:
    axes = Figure().subplots()
    bars.draw_errors(axes, [1.0] * 990 + [50.0] * 10, "error", "Å", small=True)
    assert axes.get_xlabel() == "error (Å); 10 beyond the axis"
    assert sum(patch.get_height() for patch in axes.patches) == 990
    axes = Figure().subplots()
    bars.draw_errors(axes, [-3.0, -1.0, np.nan, 2.0] * 50, "difference")  # signed values are shown too
    assert axes.get_xlim()[0] <= -3 and sum(patch.get_height() for patch in axes.patches) == 150


def test_emringers_ceilings() -> None:
    assert pytest.approx(10 * np.sqrt(33 / 39)) == scores.FORMULA_CEILING  # 39 of 72 angles are rotameric
    axes = Figure().subplots()
    scores.draw_residues(axes, ["A", "A", "B"], {"map": [0.5, np.nan, 0.7]}, "Q-score")
    assert [text.get_text() for text in axes.texts] == ["A", "B"]
    assert axes.lines[0].get_label() == "map: mean of residues 0.6"


def test_the_surface_of_a_blob_is_a_sphere_on_every_grid() -> None:
    z, y, x = np.mgrid[-16:16, -16:16, -16:16] * 2.5
    mesh = figures.map_surface(np.exp(-(x**2 + y**2 + z**2) / (2 * 15.0**2)), 2.5, float(np.exp(-0.5)))
    assert mesh is not None
    assert np.abs(np.linalg.norm(mesh[0], axis=2) - 15.0).max() < 0.3
    assert figures.map_surface(np.zeros((8, 8, 8)), 1.0, 1.0) is None
    figure = Figure()
    maps.draw_gallery(figure, [("a", x, 2.5, mesh), ("b", x, 2.5, None)])
    assert len(figure.axes) == 8 and len(figure.axes[3].collections) == 1 and figure.axes[7].texts[0].get_text() == "nothing is that dense"
    np.testing.assert_allclose(surface.SIDE_VIEW @ surface.SIDE_VIEW.T, np.eye(3), atol=1e-12)


def test_viewing_directions_are_the_third_rows() -> None:
    longitude, latitude = orientations.viewing_directions(np.array([np.eye(3), [[0, 0, -1], [0, 1, 0], [1, 0, 0]]]))
    np.testing.assert_allclose(np.degrees([longitude, latitude]), [[0, 0], [90, 0]], atol=1e-9)


def test_collectivity_of_known_motions() -> None:
    one, half = np.zeros((20, 3)), np.zeros((20, 3))
    one[3], half[:10] = (0, 2, 0), (1, 0, 0)
    np.testing.assert_allclose(collectivity([np.ones((20, 3)), half, one, np.zeros((20, 3))]), [1, 0.5, 0.05, 0], atol=1e-12)
    assert float(collectivity(half[:, :1])) == pytest.approx(0.5)


def test_only_common_knows_the_colours_and_draws_what_is_shared() -> None:
    """No second palette, sphere, matrix of parts or axis of resolutions beside those of common/figures."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        if {"common", "tests"} & set(path.relative_to(PACKAGE).parts):
            continue
        text = path.read_text()
        names = {node.name.lower().replace("_", "") for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)}
        twins = {"drawfsc", "drawlearning", "drawconfusion", "drawsphere", "drawdensity", "drawpoints", "drawemringer", "drawgallery", "collectivity"} & names
        found += [f"{path.name}: {name}" for name in twins]
        found += [f"{path.name}: {word}" for word in ("'#0072b2', '#e69f00'", '"#0072b2", "#e69f00"', "mollweide", "FuncFormatter") if word in text]
    assert found == []
