"""What ``map-enhance`` writes: maps on the input's grid, correlations that tell evidence from invention, a summary, figures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ....common.figures.curves import draw_evidence
from ....common.figures.surface import SIDE_VIEW, draw_surface, finish_axes, view_of
from ...figures import map_surface, new_figure, save_figure
from ...imaging.map_shells import Shells, half_fsc
from ...io.atomic import write_csv
from ...io.map_grid import MapGrid, write_on_grid
from ...io.summary import EnhancementSummary, write_summary
from ..config import MapEnhanceConfig
from ..inference.enhanced_map import EnhancedMap, Setting
from ..networks.by_name import TrainedMapNetwork

__all__ = ["LABELS", "curves_figure", "enhancement_fscs", "slices_figure", "surfaces_figure", "write_results"]

Array = NDArray[np.float32]
Curves = dict[str, NDArray[np.float64]]
_CONFIDENT = 0.99
_DISAGREES = 0.1  # noisy maps that were enhanced well have 0.2 and more
LABELS = ("ENHANCED by a neural network (scipion-em-cryolearn).", "For looking and building; NOT for refinement or deposition.")
_RANGES, _COLOURS = {"local correlation": (-1.0, 1.0), "confidence of the input": (0.0, 1.0)}, {"uncertainty": "viridis", "local correlation": "RdBu"}
NAMES = {
    "fsc_raw": "half maps as they were", "fsc_cross": "enhanced half map and the other raw one (evidence)",
    "fsc_enhanced": "both half maps enhanced (no evidence)",
}


def enhancement_fscs(shells: Shells, raw: list[Array], enhanced: list[Array], mask: Array | None) -> Curves:
    """FSC of raw half maps, of enhanced ones, and the mean of the two of one enhanced and the other raw half map.

    A network makes like noise alike, so enhanced half maps agree whether or not there is a molecule. What it adds is real only where an enhanced
    half map agrees better than the raw one with the raw other half, which it has not seen.
    """
    return {
        "fsc_raw": half_fsc(shells, raw[0], raw[1], mask),
        "fsc_cross": (half_fsc(shells, enhanced[0], raw[1], mask) + half_fsc(shells, raw[0], enhanced[1], mask)) / 2,
        "fsc_enhanced": half_fsc(shells, enhanced[0], enhanced[1], mask),
    }


def write_results(
    config: MapEnhanceConfig, grid: MapGrid, setting: Setting, model: TrainedMapNetwork, found: EnhancedMap, halves: list[EnhancedMap], local: Array,
    confidence: Array | None,
) -> None:
    """Write all files of the command."""
    out = Path(config.output)
    scaled = setting.plan.back(found.density) * np.float32(found.scale) + np.float32(found.level)
    write_on_grid(str(out / "enhanced.mrc"), scaled, grid, LABELS)
    uncertainty = setting.plan.back(found.spread) * np.float32(found.scale)
    write_on_grid(str(out / "uncertainty.mrc"), np.maximum(uncertainty, 0), grid, ("Spread of the enhanced map over orientations.",))
    if found.error is not None:
        error = np.maximum(setting.plan.back(found.error) * np.float32(found.scale), 0)
        write_on_grid(str(out / "predicted_error.mrc"), error, grid, ("Absolute error that the network expects of itself.",))
    correlation = np.clip(setting.plan.back(local), -1, 1)
    write_on_grid(str(out / "local_correlation.mrc"), correlation, grid, ("Local correlation of input and enhanced map.",))
    if confidence is not None:
        write_on_grid(str(out / "confidence.mrc"), confidence, grid, ("1 - false discovery rate of the input at its resolution.",))
    for number, half in enumerate(halves, 1):
        values = setting.plan.back(half.density) * np.float32(half.scale) + np.float32(half.level)
        write_on_grid(str(out / f"enhanced_half{number}.mrc"), values, grid, LABELS)
    curves, unmasked = _half_curves(setting, halves)
    if curves:
        _write_curves(out / "fsc.csv", setting.shells, {**curves, **{f"{name}_unmasked": curve for name, curve in unmasked.items()}})
        figure = curves_figure(setting.shells.frequency, curves, setting.resolution_angst)
        save_figure(figure, str(out / "figures" / "fsc.png"))
    panels = {"input": grid.data, "enhanced": scaled, "uncertainty": uncertainty, "local correlation": correlation}
    if confidence is not None:
        panels["confidence of the input"] = confidence
    save_figure(slices_figure(panels, grid.voxel_angst), str(out / "figures" / "slices.png"))
    save_figure(surfaces_figure({"input": grid.data, "enhanced": scaled}, setting.solvent.inside, grid.voxel_angst), str(out / "figures" / "surfaces.png"))
    summary = _summary(config, setting, model=model, found=found, curves=curves, local=local, confidence=confidence)
    write_summary(out, summary)
    print(_sentence(summary), flush=True)
    if summary["disagrees"]:
        print("Warning: the enhanced map does not resemble its input: do not use it. Is density white in the input, and its resolution right?", flush=True)


def _half_curves(setting: Setting, halves: list[EnhancedMap]) -> tuple[Curves, Curves]:
    if not halves:
        return {}, {}
    raw, enhanced = [half.seen for half in halves], [half.density for half in halves]
    return enhancement_fscs(setting.shells, raw, enhanced, setting.mask), enhancement_fscs(setting.shells, raw, enhanced, None)


def _summary(
    config: MapEnhanceConfig, setting: Setting, model: TrainedMapNetwork, found: EnhancedMap, curves: Curves, local: Array, confidence: Array | None
) -> dict[str, Any]:
    inside = setting.mask > 0.5
    if not inside.any():
        inside = np.ones(inside.shape, bool)
    summary: dict[str, Any] = {**EnhancementSummary(
        input_resolution_angst=round(setting.resolution_angst, 3), target_angst=round(setting.target_angst, 3), network_voxel_angst=model.voxel_angst,
        network="shipped" if not config.model else "own", preset=model.description["preset"], orientations=int(config.rotations),
        data_consistency=config.data_consistency, molecule_found=setting.solvent.found,
        molecule_part_of_box=round(float(setting.solvent.inside.mean()), 5),
        solvent_level=setting.solvent.level, solvent_spread=setting.solvent.spread, scale=found.scale,
        relative_uncertainty=round(float(found.spread[inside].mean() / max(float(found.density[inside].std()), 1e-12)), 5),
        local_correlation=round(float(local[inside].mean()), 5), disagrees=bool(local[inside].mean() < _DISAGREES),
    )}
    if confidence is not None:
        summary["confident_part"] = round(float((confidence[setting.solvent.inside] > _CONFIDENT).mean()), 5)
    if curves:
        used = (setting.shells.frequency > 0) & (setting.shells.frequency <= 1 / setting.resolution_angst)
        for name, curve in curves.items():
            summary[f"mean_{name}"] = round(float(curve[used].mean()), 5)
        summary["evidence_gain"] = round(summary["mean_fsc_cross"] - summary["mean_fsc_raw"], 5)
    return summary


def _sentence(summary: dict[str, Any]) -> str:
    text = f"enhanced map written; it agrees with the input to {summary['local_correlation']:.2f} (local correlation inside the molecule)"
    if "evidence_gain" in summary:
        gain = summary["evidence_gain"]
        text += f"; agreement with the half map that was not seen {'rose' if gain > 0 else 'did not rise'}: "
        text += f"{summary['mean_fsc_raw']:.3f} -> {summary['mean_fsc_cross']:.3f}"
    return text + ". The map is enhanced: it has no resolution of its own, and is not for refinement or deposition."


def _write_curves(path: Path, shells: Shells, curves: Curves) -> None:
    write_csv(path, ["shell", "frequency_inv_angst", "resolution_angst", *curves], (
        [shell, f"{shells.frequency[shell]:.8f}", f"{1 / shells.frequency[shell]:.4f}", *(f"{curve[shell]:.6f}" for curve in curves.values())]
        for shell in range(1, len(shells))
    ))


def curves_figure(frequency: NDArray[np.float64], curves: Mapping[str, NDArray[np.float64]], resolution_angst: float) -> Figure:
    """The three correlations of half maps; the input's resolution is a dashed line. No resolution is read from them."""
    figure = new_figure(7.4, 4.8)
    draw_evidence(figure, [(NAMES.get(name, name), frequency[1:].tolist(), curve[1:].tolist()) for name, curve in curves.items()], resolution_angst,
                  "Half maps before and after, inside the molecule")
    return figure


def slices_figure(panels: Mapping[str, Array], voxel_angst: tuple[float, float, float]) -> Figure:
    """Central slices across z, y and x (rows) of each map (columns)."""
    figure = new_figure(3.0 * len(panels) + 0.4, 8.2)
    grid = figure.subplots(3, len(panels), squeeze=False)
    for column, (label, data) in zip(grid.T, panels.items()):
        planes = [np.take(data, data.shape[axis] // 2, axis) for axis in range(3)]
        values = np.concatenate([plane.ravel() for plane in planes])
        low, high = _RANGES.get(label) or np.percentile(values, (0.5, 99.8))
        high = high if high > low else low + 1.0
        colours = _COLOURS.get(label, "gray")
        for axes, plane, (down, across) in zip(column, planes, ((1, 2), (0, 2), (0, 1))):
            extent = (0, plane.shape[1] * voxel_angst[across], 0, plane.shape[0] * voxel_angst[down])
            picture = axes.imshow(plane, cmap=colours, vmin=low, vmax=high, origin="lower", extent=extent)
            axes.set(xlabel=f"{'zyx'[across]} (Å)", ylabel=f"{'zyx'[down]} (Å)")
            axes.tick_params(labelsize=7)
        column[0].set_title(label)
        figure.colorbar(picture, ax=column[-1], orientation="horizontal", shrink=0.9).ax.tick_params(labelsize=7)
    figure.suptitle("Central slices; the enhanced map is not for refinement or deposition")
    return figure


def surfaces_figure(maps: Mapping[str, Array], inside: NDArray[np.bool_], voxel_angst: tuple[float, float, float]) -> Figure:
    """Surfaces of maps beside one another, each at the level above which lie as many voxels as half of the molecule's."""
    figure = new_figure(4.6 * len(maps), 4.8)
    part = 100 - 50 * float(inside.mean())
    for axes, (label, data) in zip(figure.subplots(1, len(maps), squeeze=False)[0], maps.items()):
        level = float(np.percentile(data, part))
        mesh = map_surface(data, 1.0, level)
        if mesh is not None:
            corners = mesh[0] * np.asarray(voxel_angst)[::-1]
            draw_surface(axes, (corners, mesh[1]), SIDE_VIEW)
            finish_axes(axes, *view_of(corners.reshape(-1, 3)), SIDE_VIEW)
        axes.set_title(f"{label}, level {level:.3g}")
    figure.suptitle("Surfaces that hold the same volume; the enhanced map is not for refinement or deposition", fontsize=10)
    return figure
