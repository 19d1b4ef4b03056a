"""The learning curve of a run: a row an epoch, in ``learning.csv`` and as a figure."""

from __future__ import annotations

import csv
import os
from pathlib import Path

from ..figures import learning_curves, save_figure

Row = dict[str, float]

__all__ = ["Row", "write_learning_curve"]


def write_learning_curve(folder: Path, rows: list[Row], title: str = "Learning curves") -> None:
    """Write ``learning.csv`` and ``figures/learning.png``, each whole or not at all."""
    if not rows:
        return
    part = folder / "learning.csv.part"
    with open(part, "w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows({name: f"{value:.7g}" for name, value in row.items()} for row in rows)
    os.replace(part, folder / "learning.csv")
    columns = {name: [row[name] for row in rows] for name in rows[0] if name not in ("step", "seconds")}
    save_figure(learning_curves(columns, title=title), str(folder / "figures" / "learning.png"))
