"""What the columns of a landscape's table are called as axes and colours, on figures and in windows."""

from __future__ import annotations

from typing import Any, Dict, Mapping

__all__ = ["axis_label"]

_REDUCTIONS = {"pca": "principal axis", "tsne": "t-SNE", "umap": "UMAP"}
_NAMES = {
    "pose_sigma_deg": "pose error bar (degrees)", "margin": "margin to the runner-up", "gain": "gain over the rigid model (log-likelihood)",
    "log_likelihood": "log-likelihood", "half": "half set",
}


def axis_label(axis: str, meta: Mapping[str, Any]) -> str:
    """What an axis is called; names, mode numbers and explained variance come from the table's notes.

    Parameters
    ----------
    axis
        ``column`` or ``column:component``, components counted from 0.
    meta
        Of the table.
    """
    name, _, component = axis.partition(":")
    index = int(component or 0)
    if name == "amplitudes":
        return _coordinate(index, meta)
    if name == "network_amplitudes":
        return "network: " + _coordinate(index, meta)
    if name == "amplitude_sigma":
        return "error bar of " + _coordinate(index, meta).replace("amplitude of ", "")
    if name == "reduced":
        return _reduced(index, meta)
    if name == "probability" and index < len(meta.get("class_names") or []):
        return "probability of %s" % meta["class_names"][index]
    if name.endswith("shift_angst"):
        return "%s %s (Å)" % (name[: -len("_angst")].replace("_", " "), "xyz"[index])
    plain = name.replace("_", " ") + (" %d" % (index + 1) if component else "")
    return _NAMES.get(name, plain)


def _coordinate(index: int, meta: Mapping[str, Any]) -> str:
    """A latent coordinate: by its own name, else by its mode, else by its number."""
    names, numbers = meta.get("latent_names") or [], meta.get("mode_numbers") or []
    if index < len(names):
        return str(names[index])
    return "amplitude of mode %d" % numbers[index] if index < len(numbers) else "amplitude %d" % (index + 1)


def _reduced(index: int, meta: Mapping[str, Any]) -> str:
    reduction: Dict[str, Any] = meta.get("reduction") or {}
    kind = reduction.get("method", "")
    if kind == "none":  # the axes are the column's own
        return axis_label("%s:%d" % (meta.get("column", "amplitudes"), index), meta)
    explained = reduction.get("explained_variance") or []
    part = " (%.0f %% of variance)" % (100 * explained[index]) if index < len(explained) else ""
    return "%s %d%s" % (_REDUCTIONS.get(kind, "reduced axis"), index + 1, part)
