"""A ChimeraX script that shows a trajectory."""

from __future__ import annotations

import os

from ..io.atomic import write_text

__all__ = ["write_script"]


def write_script(path: str, volumes: bool, is_molecule: bool, models: str = "trajectory.pdb",
                 radius_angst: float = 2.0) -> str:
    """Write a ``.cxc`` that opens the frames beside it and gives a slider for them; returns ``path``.

    File names are bare: ChimeraX runs a script in the script's own folder. Pseudo-atoms in the file ``models`` are shown as spheres of a radius.
    """
    lines = [
        "# Conformations along the path; open this file in an empty ChimeraX session (it takes model numbers 1 and 2).",
        "set bgColor white",
        f"open {models} coordsets true name conformations",
        *(["hide #1 atoms", "cartoon #1", "rainbow #1"] if is_molecule else ["style #1 sphere", f"size #1 atomRadius {radius_angst:.3g}", "rainbow #1"]),
        "coordset slider #1",
    ]
    if volumes:
        lines += [
            "open frame_*.mrc vseries true",
            "volume #2 style surface color #9ecae1 transparency 0.6",
            "vseries slider #2",
        ]
    lines += ["lighting soft", "view", "coordset #1 1, pauseFrames 4 loop 20 bounce true"]
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    write_text(path, "\n".join(lines) + "\n")
    return path
