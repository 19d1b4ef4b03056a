"""Axes, groups and selections of landscapes whose answer is known."""

from __future__ import annotations

import csv
import json
import os

import numpy as np
import pytest

from cryolearn.engine.exceptions import InputError
from cryolearn.engine.io.tables import read_table, write_table
from cryolearn.engine.landscape.cluster_command import run
from cryolearn.engine.landscape.clustering import partition, silhouette
from cryolearn.engine.landscape.config import ClusterLandscapeConfig, SelectLandscapeConfig
from cryolearn.engine.landscape.reduce import FIT_LIMIT, reduce_vectors
from cryolearn.engine.landscape.select_command import inside_polygon
from cryolearn.engine.landscape.select_command import run as run_select

CENTRES = np.array([[0.0, 0, 0], [100, 0, 0], [0, 150, 20], [-100, 50, 0]])
SPREAD = 8.0


def _well_separated(count, seed=0):
    """Four groups 10 or more standard deviations apart, with ids that are not consecutive."""
    generator = np.random.default_rng(seed)
    label = generator.integers(0, 4, count)
    return np.arange(count) * 3 + 7, label, CENTRES[label] + generator.normal(0, SPREAD, (count, 3))


def _table(path, ids, vectors, **more):
    write_table(str(path), {"id": ids, "amplitudes": vectors, **more}, {"mode_numbers": [7, 8, 9]})
    return str(path)


def test_pca_is_the_rotation_that_made_the_data():
    generator = np.random.default_rng(1)
    rotation = np.linalg.qr(generator.normal(size=(4, 4)))[0]
    deviations = np.array([8.0, 4.0, 2.0, 1.0])
    latent = generator.normal(size=(20000, 4))
    latent -= latent.mean(axis=0)
    latent = latent @ np.linalg.inv(np.linalg.cholesky(latent.T @ latent / len(latent)).T) * deviations  # exactly uncorrelated
    found = reduce_vectors(latent @ rotation.T + 5.0, "pca", 4)
    assert np.allclose(np.abs(found.components @ rotation), np.eye(4), atol=1e-6)
    assert np.allclose(found.explained_variance, deviations**2 / (deviations**2).sum(), atol=1e-9)
    assert np.allclose(found.coordinates @ found.components + found.mean, latent @ rotation.T + 5.0, atol=1e-9)


def test_pca_signs_do_not_depend_on_the_order_of_particles():
    vectors = _well_separated(500)[2]
    order = np.random.default_rng(3).permutation(500)
    assert np.allclose(reduce_vectors(vectors, "pca", 2).coordinates[order], reduce_vectors(vectors[order], "pca", 2).coordinates)


def test_more_axes_than_coordinates_gives_those_there_are():
    assert reduce_vectors(np.arange(10.0)[:, None], "pca", 2).coordinates.shape == (10, 1)


def test_tsne_places_the_vectors_beyond_its_limit_in_their_own_group(monkeypatch):
    monkeypatch.setitem(FIT_LIMIT, "tsne", 200)
    _, label, vectors = _well_separated(400)
    embedded = reduce_vectors(vectors, "tsne", 2).coordinates
    assert np.isfinite(embedded).all()
    centres = np.stack([embedded[label == group].mean(axis=0) for group in range(4)])
    nearest = ((embedded[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
    assert (nearest == label).all()


def test_umap_that_is_not_installed_says_how_to_get_it(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(InputError, match="umap-learn"):
        reduce_vectors(np.random.default_rng(0).normal(size=(20, 3)), "umap", 2)


@pytest.mark.parametrize("method", ["kmeans", "gmm", "agglomerative"])
@pytest.mark.parametrize("count", [300, 60_000])
def test_groups_far_apart_are_found_exactly(method, count):
    _, label, vectors = _well_separated(count)
    found = partition(vectors, vectors[:, 0], method, 4)
    expected = np.argsort(np.argsort(CENTRES[:, 0] + 1e-3 * np.arange(4)))  # numbered along x; two groups share x = 0
    agreement = np.array([np.bincount(found.labels[label == group], minlength=4) for group in range(4)])
    assert (np.count_nonzero(agreement, axis=0) == 1).all()
    assert (agreement.argmax(axis=1)[[3, 1]] == expected[[3, 1]]).all()


def test_slices_hold_equally_many_and_are_ordered():
    axis = np.random.default_rng(0).exponential(size=1003)
    labels = partition(axis[:, None], axis, "slices", 4).labels
    counts = np.bincount(labels)
    assert counts.max() - counts.min() <= 1
    assert all(axis[labels == k].max() <= axis[labels == k + 1].min() for k in range(3))


def test_silhouette_of_two_pairs_by_hand():
    # points 0, 1 | 10, 11: a = 1; b = 10.5 for the outer and 9.5 for the inner points
    score = silhouette(np.array([[0.0], [1], [10], [11]]), np.array([0, 0, 1, 1]))
    assert score == pytest.approx(np.mean([1 - 1 / 10.5, 1 - 1 / 9.5] * 2))


def test_mixture_probability_is_the_posterior():
    generator = np.random.default_rng(0)
    values = np.concatenate([generator.normal(-1, 1, 20000), generator.normal(1, 1, 20000)])[:, None]
    probability = partition(values, values[:, 0], "gmm", 2).probability
    bayes = 1 / (1 + np.exp(-2 * np.abs(values[:, 0])))  # two unit normals at -1 and 1: odds exp(2 |x|)
    assert np.abs(probability - bayes).mean() < 0.03


def test_command_keeps_every_id_and_finds_the_number_of_groups(tmp_path):
    ids, label, vectors = _well_separated(400)
    flags = np.where(np.arange(400) % 10 == 0, 1 << np.arange(400) % 4, 0).astype(np.int32)
    table = _table(tmp_path / "alignment.npz", ids, vectors, flags=flags)
    run(ClusterLandscapeConfig(output=str(tmp_path / "out"), table=table, clusters=0, drop_flagged=True))
    columns, meta = read_table(str(tmp_path / "out" / "clusters.npz"))
    assert (columns["id"] == ids).all()
    assert ((columns["class"] == 0) == (flags != 0)).all()
    assert columns["class"].max() == 4
    assert np.isfinite(columns["reduced"]).all()
    projected = (vectors - meta["reduction"]["mean"]) @ np.transpose(meta["reduction"]["components"])
    assert np.allclose(columns["reduced"], projected, rtol=1e-4, atol=1e-2)
    means, _ = read_table(str(tmp_path / "out" / "representatives.npz"))
    kept = flags == 0
    for number in range(1, 5):
        rows = kept & (columns["class"] == number)
        assert len(np.unique(label[rows])) == 1
        assert np.allclose(means["vectors"][number - 1], vectors[rows].mean(axis=0))
        assert means["id"][number - 1] in ids[rows]
    with open(tmp_path / "out" / "clusters.csv", newline="") as handle:
        assert sum(int(row["particles"]) for row in csv.DictReader(handle)) == kept.sum()
    with open(tmp_path / "out" / "summary.json") as handle:
        summary = json.load(handle)
    assert summary["clusters"] == 4 and summary["left_out"] == 40
    assert {"landscape.png", "populations.png", "scores.png"} <= set(os.listdir(tmp_path / "out" / "figures"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(column="nothing"), "no column 'nothing'"),
        (dict(clusters=50), "fewer than the 50 clusters"),
        (dict(drop_flagged=True), "no column 'flags'"),
    ],
)
def test_bad_input_is_named(tmp_path, change, words):
    ids, _, vectors = _well_separated(20)
    table = _table(tmp_path / "t.npz", ids, vectors)
    with pytest.raises(InputError, match=words):
        run(ClusterLandscapeConfig(output=str(tmp_path / "out"), table=table, **change))


def test_a_value_that_is_not_finite_is_named_by_id(tmp_path):
    ids, _, vectors = _well_separated(20)
    vectors[4, 1] = np.nan
    with pytest.raises(InputError, match=f"particle {ids[4]} "):
        run(ClusterLandscapeConfig(output=str(tmp_path / "out"), table=_table(tmp_path / "t.npz", ids, vectors)))


def test_polygon_of_a_concave_outline():
    corners = np.array([[0, 0], [4, 0], [4, 4], [2, 1], [0, 4]])  # an M: (2, 3) lies in its notch
    assert inside_polygon([1, 3, 2, 2, 5], [1, 1, 3, 0.5, 1], corners).tolist() == [True, True, False, True, False]


def test_select_command_writes_the_ids_inside(tmp_path):
    ids, label, vectors = _well_separated(200)
    table = _table(tmp_path / "t.npz", ids, vectors)
    run_select(SelectLandscapeConfig(
        output=str(tmp_path / "out"), table=table, x_axis="amplitudes:0", y_axis="amplitudes:1",
        polygon=[50.0, -60, 160, -60, 160, 60, 50, 60],
    ))
    columns, _ = read_table(str(tmp_path / "out" / "selection.npz"))
    assert set(columns["id"]) == set(ids[label == 1])
    with pytest.raises(InputError, match="three corners"):
        run_select(SelectLandscapeConfig(output=str(tmp_path / "o"), table=table, polygon=[0.0, 0, 1, 1]))
    with pytest.raises(InputError, match="components 0 to 2"):
        run_select(SelectLandscapeConfig(output=str(tmp_path / "o"), table=table, x_axis="amplitudes:3", polygon=[0.0, 0, 1, 1, 1, 0]))
