"""Command ``subtomogram-subdivide``: many groups of like subtomograms, and what they look like among the known classes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from sklearn.manifold import TSNE
from sklearn.metrics import normalized_mutual_info_score, silhouette_samples

from ...common.checks import check_count
from ...common.limits import FEWEST_SUBDIVIDED
from ..config import check_config, digest_config, require
from ..device import select_device
from ..figures import PointColours, landscape, line_plot, new_figure, save_figure
from ..io.atomic import write_csv
from ..io.records import remove_records
from ..io.subtomograms import read_subtomograms, write_subtomograms
from ..io.summary import SubdivisionSummary, write_summary
from ..io.tables import write_table
from .classify_command import label_numbers
from .config import SubtomogramSubdivideConfig
from .networks.streamed_prediction import FEATURES, measure
from .networks.trained_model import SubtomogramModel
from .partition.clustering import Groups, divide, reduced_features, sizes_curve
from .usable_subtomograms import say_unusable

__all__ = ["run"]

_SILHOUETTES = 5000
_COLOURED = 12  # groups that have a colour of their own in the picture


def run(config: SubtomogramSubdivideConfig) -> None:
    """Subdivide as ``config`` says; every subtomogram of the input is in the results. A killed run goes on after its last record."""
    check_config(config)
    require(config, "subtomograms", "model")
    device = select_device(config)
    model = SubtomogramModel.load(config.model, device)
    table = read_subtomograms(config.subtomograms, config.datadir)
    check_count("subtomograms", len(table), FEWEST_SUBDIVIDED)
    out = Path(config.output)
    found = measure(model, table, out, config.batch, config.chunk, config.invert_contrast)
    if found is None:  # another process gathers
        return
    features, unusable = found["features"], found["unusable"]
    warnings = say_unusable(table, unusable)
    print(f"dividing {len(features)} subtomograms by {features.shape[1]} features", flush=True)
    axes = reduced_features(features)
    groups = divide(axes[~unusable], config.method, config.clusters, config.smallest, config.seed)
    number = np.zeros(len(table), groups.number.dtype)
    number[~unusable] = groups.number
    groups = replace(groups, number=number)
    distances = found["class_distance"]
    answer = model.answer(found["logits"], distances)
    separation, own = _separation(axes, groups.number, config.seed)
    centres = np.stack([axes[groups.number == number].mean(0) for number in range(1, groups.number.max() + 1)])
    distance = np.where(groups.number > 0, np.linalg.norm(axes - centres[np.maximum(groups.number, 1) - 1], axis=1), np.nan).astype(np.float32)
    nearest = distances.argmin(1) + 1
    true, true_names = label_numbers(table, model.names)
    picture = _picture(axes, config.picture_points, config.seed)
    columns: dict[str, Any] = {
        "id": table.ids, "class": groups.number, "features": features, "reduced": picture, "distance": distance, "nearest_class": nearest.astype(np.int32),
        "novelty": answer["novelty"], "confidence": answer["confidence"],
    }
    if true is not None:
        columns["true_class"] = true
    notes = {"method": config.method, "known_names": model.names, "true_class_names": true_names, "digest": digest_config(config), "score": groups.scores[0],
             "reduction": {"method": "tsne"}}
    write_table(str(out / "clusters.npz"), columns, notes)
    report = _report(groups, distances, axes=axes, model=model, answer=answer, own=own, true=true, true_names=true_names)
    _write_rows(out / "clusters.csv", report)
    _write_rows(out / "scores.csv", [{"groups": number, groups.scores[0]: f"{value:.6g}"} for number, value in groups.scores[1].items()])
    named = [f"group_{number:04d}" if number else "none" for number in groups.number.tolist()]
    write_subtomograms(str(out / "subtomograms.star"), replace(table, class_name=named, extra={**table.extra, "rlnClassNumber": groups.number}))
    summary = SubdivisionSummary(
        subtomograms=len(table), groups=int(groups.number.max()), left_out=int((groups.number == 0).sum()), silhouette=separation,
        largest=int(sizes_curve(groups.number)[0]), method=config.method, network=model.description["architecture"],
    )
    if true is not None:
        inside = groups.number > 0
        summary["purity"] = sum(row["subtomograms"] * row["purity"] for row in report) / max(int(inside.sum()), 1)
        summary["mutual_information"] = float(normalized_mutual_info_score(true[inside], groups.number[inside]))
    write_summary(out, {name: round(value, 5) if isinstance(value, float) else value for name, value in summary.items()}, warnings=warnings)
    _draw(out, groups, picture, report, true, true_names)
    remove_records(out, FEATURES)
    print(f"{summary['groups']} groups, silhouette {separation:.3f}, {summary['left_out']} subtomograms left out", flush=True)


def _separation(axes: NDArray[np.float32], number: NDArray[np.int32], seed: int) -> tuple[float, dict[int, float]]:
    """Mean silhouette (Rousseeuw 1987) of a random part of the subtomograms, in all and of each group."""
    inside = np.flatnonzero(number > 0)
    rows = inside if len(inside) <= _SILHOUETTES else np.random.default_rng(seed).choice(inside, _SILHOUETTES, replace=False)
    groups = len(np.unique(number[rows]))
    if not 1 < groups < len(rows):
        return float("nan"), {}
    values = silhouette_samples(axes[rows], number[rows])
    return float(values.mean()), {int(group): float(values[number[rows] == group].mean()) for group in np.unique(number[rows])}


def _picture(axes: NDArray[np.float32], points: int, seed: int) -> NDArray[np.float32]:
    """t-SNE of a random part of the features; the others lie where the one most like them does."""
    count = len(axes)
    rows = np.arange(count) if count <= points else np.sort(np.random.default_rng(seed).choice(count, points, replace=False))
    embedded = TSNE(perplexity=min(30.0, (len(rows) - 1) / 3), init="pca" if axes.shape[1] > 1 else "random", random_state=seed).fit_transform(axes[rows])
    placed = np.empty((count, 2), np.float32)
    placed[rows] = embedded
    if len(rows) < count:
        others = np.setdiff1d(np.arange(count), rows)
        placed[others] = embedded[cKDTree(axes[rows]).query(axes[others])[1]]
    return placed


def _report(
    groups: Groups, class_distance: NDArray[np.float32], axes: NDArray[np.float32], model: SubtomogramModel, answer: dict[str, NDArray[Any]],
    own: dict[int, float], true: NDArray[np.int32] | None, true_names: list[str],
) -> list[dict[str, Any]]:
    """A row a group: size, spread, silhouette, the nearest class of the training with its distance, the most frequent label."""
    rows = []
    for number in range(1, int(groups.number.max()) + 1):
        here = groups.number == number
        distances = class_distance[here].mean(0)
        row: dict[str, Any] = {
            "class": number, "subtomograms": int(here.sum()), "spread": float(np.sqrt(axes[here].var(0).sum())), "silhouette": own.get(number, float("nan")),
            "nearest_class": model.names[int(distances.argmin())], "distance": float(distances.min()), "mean_novelty": float(answer["novelty"][here].mean()),
            "mean_confidence": float(answer["confidence"][here].mean()),
        }
        if true is not None:
            counts = np.bincount(true[here], minlength=len(true_names) + 1)
            row |= {"label": true_names[int(counts.argmax()) - 1], "purity": float(counts.max() / here.sum())}
        rows.append(row)
    return rows


def _write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    columns = list(rows[0])
    write_csv(path, columns, ([f"{row[name]:.5g}" if isinstance(row[name], float) else row[name] for name in columns] for row in rows))


def _draw(
    out: Path, groups: Groups, picture: NDArray[np.float32], report: list[dict[str, Any]], true: NDArray[np.int32] | None, true_names: list[str]
) -> None:
    folder = out / "figures"
    shown = np.where(groups.number <= _COLOURED, groups.number, 0)
    title = "Features (t-SNE): the largest groups" if groups.number.max() > _COLOURED else "Features (t-SNE): groups"
    figure = landscape(picture[:, 0], picture[:, 1], "t-SNE 1", "t-SNE 2", PointColours(shown, "group (size)", categorical=True), title=title)
    save_figure(figure, str(folder / "embedding.png"))
    if true is not None:
        save_figure(_label_plot(picture, true, true_names), str(folder / "embedding_labels.png"))
    save_figure(_sizes_plot(report), str(folder / "sizes.png"))
    name, scores = groups.scores
    if len(scores) > 1:
        best = min(scores, key=lambda number: scores[number])
        save_figure(
            line_plot(
                list(scores),
                {name: list(scores.values())},
                x_label="number of groups",
                y_label=f"{name} (low is good)",
                title=f"{name} of mixtures",
                marker="o",
                highlight=best,
            ),
            str(folder / "scores.png"),
        )


def _label_plot(picture: NDArray[np.float32], true: NDArray[np.int32], names: list[str]) -> Figure:
    from matplotlib import colormaps

    figure = new_figure(8.6, 5.8)
    axes = figure.subplots()
    used = np.unique(true)
    colours = colormaps["tab10" if len(used) <= 10 else "tab20"](np.arange(len(used)) % 20)
    rows = np.random.default_rng(0).permutation(len(true))[:8000]
    for index, number in enumerate(used.tolist()):
        here = rows[true[rows] == number]
        axes.scatter(picture[here, 0], picture[here, 1], s=6, color=colours[index], linewidths=0, label=names[number - 1], rasterized=True)
    axes.set(xlabel="t-SNE 1", ylabel="t-SNE 2", title=f"Features (t-SNE) by label ({len(true)} subtomograms)")
    axes.legend(fontsize=7, frameon=False, markerscale=2, loc="upper left", bbox_to_anchor=(1.0, 1.0), ncols=1 + len(used) // 26)
    return figure


def _sizes_plot(report: list[dict[str, Any]]) -> Figure:
    """Sizes of the groups, the largest first, coloured by how far they are from all known classes."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.ticker import MaxNLocator

    sizes, far = (np.array([row[name] for row in report]) for name in ("subtomograms", "distance"))
    figure = new_figure(8.0, 4.0)
    axes = figure.subplots()
    scale = ScalarMappable(Normalize(float(far.min()), float(far.max())), "viridis")
    axes.bar(np.arange(1, len(sizes) + 1), sizes, color=scale.to_rgba(far), width=0.9)
    figure.colorbar(scale, ax=axes, label="distance to the nearest known class (s. d.)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="group, largest first", ylabel="subtomograms", title=f"Sizes of {len(sizes)} groups ({int(sizes.sum())} subtomograms)")
    axes.grid(alpha=0.3, axis="y")
    return figure
