"""Every particle set of the demo's project, converted back to STAR by scipion-em-relion, against relion_reconstruct.

RELION's map from its own plugin's STAR and our map from ours are compared with one common map: the two curves must agree
within .02 to Nyquist / 1.2, or to the shell that the images sample (n / 10: fewer than 1 % of its points are missed).
Run benchmarks/foundation_demo.py with the same --work first.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from _results import parser, record

from cryolearn.engine.imaging.fsc import fsc
from cryolearn.engine.imaging.masks import sphere_mask
from cryolearn.engine.io.maps import read_map

TOLERANCE = 0.02


def particle_sets(project: Path) -> Iterator[tuple[str, object]]:
    """Name and set of each particle output of the project (which becomes the working folder)."""
    home = project.parents[2]
    os.environ |= {"SCIPION_DOMAIN": "pwem", "SCIPION_HOME": str(home), "SCIPION_USER_DATA": str(project.parents[1]),
                   "SCIPION_LOCAL_CONFIG": str(home / "config" / "scipion.conf"), "SCIPION_HOSTS": str(home / "config" / "hosts.conf")}
    import pyworkflow

    pyworkflow.Config.setDomain("pwem")
    from pwem.objects import SetOfParticles
    from pyworkflow.project import Manager

    loaded = Manager().loadProject(project.name)
    os.chdir(loaded.path)
    for run in loaded.getRuns():
        for name, output in run.iterOutputAttributes(SetOfParticles):
            yield f"{run.getObjLabel()}, {name}", output


def main() -> None:
    options = parser(__doc__ or "").parse_args()
    work = (options.work / "sets").resolve()
    report = (options.work / "demo" / "report").resolve()
    project = (options.work / "demo" / "scipion" / "data" / "projects" / "CryoLearnDemo").resolve()
    common = torch.from_numpy(read_map(str(report / "true_means" / "frame_001.mrc")).data)
    for number, (name, particles) in enumerate(particle_sets(project)):
        compare(work / f"set_{number}", name, particles, common, options.scale)


def compare(folder: Path, name: str, particles: object, common: torch.Tensor, scale: str) -> None:
    """Reconstruct a set by both programs and record how far their curves are apart."""
    from relion.convert.convert31 import Writer

    from cryolearn.convert.particles import writeParticles

    folder.mkdir(parents=True, exist_ok=True)
    theirs, ours = folder / "theirs.star", folder / "ours.star"
    Writer(outputDir=str(folder), useBaseName=False).writeSetOfParticles(particles, str(theirs))
    count = writeParticles(particles, str(ours))
    subprocess.run(["relion_reconstruct", "--i", str(theirs), "--o", str(folder / "relion.mrc"), "--ctf"], check=True, capture_output=True)
    config = folder / "reconstruct.json"
    config.write_text(json.dumps({"particles": str(ours), "output": str(folder / "ours"), "wiener": "constant"}))
    subprocess.run([sys.executable, "-m", "cryolearn.engine", "reconstruct", "--config", str(config)], check=True, capture_output=True)
    maps = [torch.from_numpy(read_map(str(path)).data) for path in (folder / "ours" / "map.mrc", folder / "relion.mrc")]
    # RELION empties the corners of its maps
    inside = sphere_mask(len(common), 0.4 * len(common), 5.0)
    one, other = (fsc(volume, common, inside) for volume in maps)
    last = min(int(len(common) / 2 / 1.2), count // 10)
    gap = float((one - other)[1 : last + 1].abs().max())
    what = f"set to STAR by scipion-em-relion, relion_reconstruct against ours: {name}"
    condition = f"{count} images, shells 1-{last}, soft sphere of 0.4 box"
    record("foundation", what, condition=condition, target=f"<= {TOLERANCE}", measured=f"{gap:.4f}", holds=gap <= TOLERANCE, scale=scale)


if __name__ == "__main__":
    main()
