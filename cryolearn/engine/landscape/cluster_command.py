"""The command ``cluster-landscape``: axes of a conformational landscape, groups of its particles."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...common.axis_labels import axis_label
from .. import figures
from ..config import digest_config
from ..exceptions import InputError
from ..io.atomic import write_csv
from ..io.tables import number_vectors, read_table, write_table
from .clustering import partition, score_curve, silhouette
from .config import ClusterLandscapeConfig
from .reduce import Reduction, reduce_vectors
from .summary import ClusterSummary, write_summary

__all__ = ["nearest_rows", "run"]


def run(config: ClusterLandscapeConfig) -> None:
    """Reduce, group, and write tables and figures; every id of the table is in ``clusters.npz``.

    Raises
    ------
    InputError
        when the column or the flags are absent, or there are fewer particles than clusters.
    """
    columns, meta = read_table(config.table)
    vectors = number_vectors(columns, config.column, config.table)
    ids = np.asarray(columns["id"], dtype=np.int64)
    kept = _kept_rows(columns, config)
    if len(kept) < max(config.clusters, 2):
        raise InputError(
            f"'{config.table}' has {len(kept)} particles to group, fewer than the {max(config.clusters, 2)} clusters asked for."
        )
    print(f"Landscape of {len(ids)} particles, {vectors.shape[1]} coordinates each; {len(kept)} are grouped", flush=True)
    reduction = _reduce_all(vectors, kept, config)
    first_axis = reduction.coordinates[kept, 0]
    curve = score_curve(vectors[kept], first_axis, config.method, config.seed)
    clusters = config.clusters or best_number(curve)
    groups = partition(vectors[kept], first_axis, config.method, clusters, config.seed)
    score = silhouette(vectors[kept], groups.labels, config.seed)

    classes = np.zeros(len(ids), dtype=np.int32)
    classes[kept] = groups.labels + 1
    probability = np.zeros(len(ids))
    probability[kept] = groups.probability
    notes = _meta(config, meta, reduction)
    os.makedirs(config.output, exist_ok=True)
    write_table(os.path.join(config.output, "clusters.npz"), {
        "id": ids, "class": classes, "reduced": reduction.coordinates.astype(np.float32), "probability": probability.astype(np.float32),
    }, notes)
    found = _write_representatives(config, ids, vectors, classes, reduction, notes)
    _write_scores(config, curve, clusters)
    _draw(config, reduction, classes=classes, found=found, curve=curve, clusters=clusters, notes=notes)
    summary: ClusterSummary = {
        "particles": len(ids), "left_out": int(len(ids) - len(kept)), "clusters": int(classes.max()), "silhouette": score if np.isfinite(score) else None,
        "explained_variance": None if reduction.explained_variance is None else float(reduction.explained_variance.sum()),
    }
    write_summary(config.output, summary)
    print(f"{summary['clusters']} clusters, silhouette {score:.3f}, {summary['left_out']} particles left out", flush=True)


def best_number(curve: dict[int, float]) -> int:
    """Number of clusters of the highest silhouette; 2 when no score could be computed."""
    finite = {number: value for number, value in curve.items() if np.isfinite(value)}
    return max(finite, key=lambda number: finite[number]) if finite else 2


def nearest_rows(points: NDArray[np.float64], targets: NDArray[np.float64]) -> NDArray[np.int64]:
    """Row of points (n, k) nearest to each of targets (c, k)."""
    return np.asarray([int(((points - target) ** 2).sum(axis=1).argmin()) for target in targets], dtype=np.int64)


def _kept_rows(columns: dict[str, Any], config: ClusterLandscapeConfig) -> NDArray[np.int64]:
    count = len(columns["id"])
    if not config.drop_flagged:
        return np.arange(count)
    if "flags" not in columns:
        raise InputError(f"'{config.table}' has no column 'flags': flagged particles cannot be left out.")
    return np.flatnonzero(np.asarray(columns["flags"]) == 0)


def _reduce_all(vectors: NDArray[np.float64], kept: NDArray[np.int64], config: ClusterLandscapeConfig) -> Reduction:
    """Axes from the kept particles; linear axes also place the others, nonlinear ones leave them at NaN."""
    reduction = reduce_vectors(vectors[kept], config.reduction, config.dimensions, config.seed)
    if len(kept) == len(vectors):
        return reduction
    everything = np.full((len(vectors), reduction.coordinates.shape[1]), np.nan)
    if reduction.components is not None and reduction.mean is not None:
        everything = (vectors - reduction.mean) @ reduction.components.T
    everything[kept] = reduction.coordinates
    return Reduction(everything, reduction.mean, reduction.components, reduction.explained_variance)


def _meta(config: ClusterLandscapeConfig, meta: dict[str, Any], reduction: Reduction) -> dict[str, Any]:
    """What a reader of clusters.npz needs to know about its axes."""
    plain = {key: None if value is None else np.asarray(value).tolist()
             for key, value in asdict(reduction).items() if key != "coordinates"}
    return {
        "column": config.column, "mode_numbers": meta.get("mode_numbers"), "method": config.method,
        "reduction": {"method": config.reduction, **plain}, "digest": digest_config(config),
    }


def _write_representatives(
    config: ClusterLandscapeConfig, ids: NDArray[np.int64], vectors: NDArray[np.float64], classes: NDArray[np.int32],
    reduction: Reduction, notes: dict[str, Any],
) -> dict[str, NDArray[Any]]:
    """Mean vector of each class and the particle nearest to it, as npz and CSV; returned by column."""
    numbers = np.arange(1, classes.max() + 1)
    members = [np.flatnonzero(classes == number) for number in numbers]
    means = np.stack([vectors[rows].mean(axis=0) for rows in members])
    nearest = np.asarray([rows[nearest_rows(vectors[rows], mean[None])[0]] for rows, mean in zip(members, means)])
    found = {
        "id": ids[nearest], "class": numbers.astype(np.int32), "count": np.asarray([len(rows) for rows in members]),
        "vectors": means, "spread": np.asarray([np.sqrt(vectors[rows].var(axis=0).sum()) for rows in members]),
        "reduced": np.stack([reduction.coordinates[rows].mean(axis=0) for rows in members]),
        "representative_vectors": vectors[nearest],
    }
    write_table(os.path.join(config.output, "representatives.npz"), found, notes)
    names = [axis_label(f"{config.column}:{index}", notes) for index in range(vectors.shape[1])]
    columns = ["class", "particles", "percent", "representative_id", "spread", *(f"mean {name}" for name in names)]
    write_csv(os.path.join(config.output, "clusters.csv"), columns, (
        [int(numbers[row]), int(found["count"][row]), f"{100 * found['count'][row] / len(ids):.2f}", int(found["id"][row]),
         f"{found['spread'][row]:.4g}", *(f"{value:.5g}" for value in means[row])]
        for row in range(len(numbers))
    ))
    return found


def _write_scores(config: ClusterLandscapeConfig, curve: dict[int, float], clusters: int) -> None:
    write_csv(os.path.join(config.output, "scores.csv"), ["clusters", "silhouette", "chosen"],
              ([number, f"{value:.5f}", int(number == clusters)] for number, value in curve.items()))


def _draw(
    config: ClusterLandscapeConfig, reduction: Reduction, classes: NDArray[np.int32], found: dict[str, NDArray[Any]],
    curve: dict[int, float], clusters: int, notes: dict[str, Any],
) -> None:
    folder = os.path.join(config.output, "figures")
    shown = np.flatnonzero(np.isfinite(reduction.coordinates).all(axis=1))
    points = reduction.coordinates[shown]
    centres = found["reduced"]
    if points.shape[1] > 1:
        figure = figures.landscape(
            points[:, 0], points[:, 1], axis_label("reduced:0", notes), axis_label("reduced:1", notes),
            figures.PointColours(classes[shown], "class (particles)", categorical=True), centres=centres[:, :2] if len(centres) <= 50 else None,
        )
        figures.save_figure(figure, os.path.join(folder, "landscape.png"))
    names = [str(number) for number in found["class"]]
    figures.save_figure(figures.bar_chart(names, found["count"], "particles", "Population of the classes", "class"),
                        os.path.join(folder, "populations.png"))
    figures.save_figure(figures.line_plot(list(curve), {"silhouette": list(curve.values())}, x_label="number of clusters",
                        y_label="mean silhouette (1: well apart)", title=f"Score of {config.method} clusters", marker="o", highlight=clusters),
                        os.path.join(folder, "scores.png"))
