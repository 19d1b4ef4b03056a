"""The learning curve of a run: a row an epoch, in ``learning.csv`` and as a figure."""

from __future__ import annotations

from pathlib import Path

from ..figures import learning_curves, save_figure
from ..io.atomic import write_csv

Row = dict[str, float]

__all__ = ["Row", "write_learning_curve"]


def write_learning_curve(folder: Path, rows: list[Row], title: str = "Learning curves") -> None:
    """Write ``learning.csv`` and ``figures/learning.png``, each whole or not at all."""
    if not rows:
        return
    write_csv(folder / "learning.csv", list(rows[0]), ([f"{row[name]:.7g}" for name in rows[0]] for row in rows))
    columns = {name: [row[name] for row in rows] for name in rows[0] if name not in ("step", "seconds")}
    save_figure(learning_curves(columns, title=title), str(folder / "figures" / "learning.png"))
