"""Imports STAR files into a new Scipion project, joins the sets by Scipion's own protocol, and writes what the engine gets of the result.

Run in a process of its own: ``python benchmarks/_inputs_join.py FOLDER STAR STAR ...`` writes ``FOLDER/joined.star``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def prepare(home: Path) -> None:
    """A Scipion home of its own, used by this process."""
    os.environ |= {"SCIPION_DOMAIN": "pwem", "SCIPION_HOME": str(home), "SCIPION_USER_DATA": str(home / "data"), "MPLBACKEND": "Agg"}
    (home / "config").mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-m", "scipion", "config", "--unattended"], check=True, stdout=subprocess.DEVNULL)
    os.environ |= {"SCIPION_LOCAL_CONFIG": str(home / "config" / "scipion.conf"), "SCIPION_HOSTS": str(home / "config" / "hosts.conf")}
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


def main() -> None:
    folder, stars = Path(sys.argv[1]).resolve(), [Path(name).resolve() for name in sys.argv[2:]]
    prepare(folder / "scipion")
    import pyworkflow

    pyworkflow.Config.setDomain("pwem")
    from pwem.protocols import ProtImportParticles, ProtUnionSet
    from pyworkflow.object import Pointer, PointerList
    from pyworkflow.project import Manager

    from cryolearn.convert.particles import writeParticles
    from cryolearn.convert.star_particles import StarParticles

    (folder / "scipion" / "data" / "projects").mkdir(parents=True, exist_ok=True)
    project = Manager().createProject("Join")
    os.chdir(project.path)
    inputs = PointerList()
    for star in stars:
        read = StarParticles(str(star))  # the form is filled in from the file, as its wizard does: what it says is taken for all groups
        imported = project.newProtocol(ProtImportParticles, importFrom=ProtImportParticles.IMPORT_FROM_RELION, starFile=str(star),
                                       samplingRate=read.pixelSize, **read.microscope())
        project.launchProtocol(imported, wait=True)
        inputs.append(Pointer(imported, extended="outputParticles"))
    union = project.newProtocol(ProtUnionSet)
    union.inputSets = inputs
    project.launchProtocol(union, wait=True)
    writeParticles(union.outputSet, str(folder / "joined.star"), stackFolder=str(folder))
    text = (folder / "joined.star").read_text()
    (folder / "joined.star").write_text(text.replace("@Runs/", f"@{project.path}/Runs/"))


if __name__ == "__main__":
    main()
