"""Stages of many particles or subtomograms, each in a process of its own: ``python _scale_stages.py STAGE NUMBER``, in the folder of that number.

A stage reads what those before it left in the folder. Its processor time is that of its own work, without the import of Scipion; both stand in STAGE.json.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

STACK, BOX, VOLUME, PIXEL = 1000, 16, 8, 3.0  # images of a stack, box of images and of volumes, Å
CLASSES = 20
_FILES = 10  # volumes; all subtomograms are hard links to them


def _mrc(path: Path, data: np.ndarray, stack: bool = False) -> None:
    import mrcfile

    with mrcfile.new(path, overwrite=True) as mrc:
        mrc.set_data(data)
        if stack:
            mrc.set_image_stack()
        mrc.voxel_size = PIXEL


def _star(path: str, size: int, dimensions: int, labels: dict[str, str], rows: Callable[[int], tuple[object, ...]], count: int) -> None:
    with open(path, "w", encoding="utf-8") as handle:
        handle.write("data_optics\n\nloop_\n_rlnOpticsGroup #1\n_rlnOpticsGroupName #2\n_rlnVoltage #3\n_rlnSphericalAberration #4\n"
                     "_rlnAmplitudeContrast #5\n_rlnImagePixelSize #6\n_rlnImageSize #7\n_rlnImageDimensionality #8\n"
                     f"1 opticsGroup1 300.0 2.7 0.1 {PIXEL} {size} {dimensions}\n\ndata_particles\n\nloop_\n")
        handle.writelines(f"_{label} #{place}\n" for place, label in enumerate(labels, 1))
        form = " ".join(labels.values()) + "\n"
        handle.writelines(form % rows(number) for number in range(count))


# ---------------------------------------------------- particles ----------------------------------------------------
def make_particles(count: int) -> None:
    """Stacks of noise, a STAR with the columns of a refinement, and tables as the engine would write them."""
    from cryolearn.common.tables import write_table

    rng = np.random.default_rng(0)
    for first in range(0, count, STACK):
        _mrc(Path(f"stack_{first // STACK:04d}.mrcs"), rng.normal(size=(min(STACK, count - first), BOX, BOX)).astype(np.float32), stack=True)
    angles, defocus = rng.uniform(-180, 180, (count, 3)), rng.uniform(10000, 20000, count)
    labels = {"rlnImageName": "%06d@stack_%04d.mrcs", "rlnMicrographName": "mic_%05d.mrc", "rlnCoordinateX": "%.2f", "rlnCoordinateY": "%.2f",
              "rlnAngleRot": "%.6f", "rlnAngleTilt": "%.6f", "rlnAnglePsi": "%.6f", "rlnOriginXAngst": "%.6f", "rlnOriginYAngst": "%.6f",
              "rlnDefocusU": "%.4f", "rlnDefocusV": "%.4f", "rlnDefocusAngle": "%.4f", "rlnRandomSubset": "%d", "rlnOpticsGroup": "%d",
              "rlnGroupNumber": "%d", "rlnClassNumber": "%d", "rlnNormCorrection": "%.6f", "rlnLogLikeliContribution": "%.6f"}
    _star("particles.star", BOX, 2, labels, lambda row: (
        row % STACK + 1, row // STACK, row // 300, row % 4000, row % 3000, *angles[row], 1.5, -2.5, defocus[row], defocus[row] - 200, 30.0, row % 2 + 1, 1,
        row // 300 + 1, 1, 1.0, -100.0 * row), count)
    spin = np.linalg.qr(rng.normal(size=(count, 3, 3)))[0]
    spin *= np.linalg.det(spin)[:, None, None]
    write_table("alignment.npz", {
        "id": np.arange(1, count + 1), "amplitudes": rng.normal(size=(count, 3)) * 50, "rotation": spin, "shift_angst": rng.normal(size=(count, 2)),
        "correlation": rng.uniform(size=count), "margin": rng.uniform(size=count), "pose_sigma_deg": rng.uniform(size=count),
        "flags": np.zeros(count, dtype=np.int32)}, {"mode_numbers": [7, 8, 9], "pixel_size_angst": PIXEL})
    write_table("classes.npz", {"id": np.arange(1, count + 1), "class": rng.integers(1, CLASSES + 1, count)})


def import_star(_: int) -> None:
    """What scipion-em-relion's import does: the share of the others."""
    from pwem.constants import ALIGN_PROJ
    from pwem.objects import Acquisition, SetOfParticles
    from relion.convert.convert31 import Reader

    particles = SetOfParticles(filename="imported.sqlite")
    particles.setSamplingRate(PIXEL)
    particles.setAcquisition(Acquisition(voltage=300, sphericalAberration=2.7, amplitudeContrast=0.1, magnification=50000))
    Reader().readSetOfParticles("particles.star", particles, alignType=ALIGN_PROJ)
    particles.setAlignmentProj()
    particles.write()


def _read(name: str, kind: str = "SetOfParticles") -> object:
    import pwem.objects
    import tomo.objects

    items = getattr(pwem.objects, kind, None) or getattr(tomo.objects, kind)
    found = items(filename=name)
    found.loadAllProperties()
    return found


def convert(count: int) -> None:
    from cryolearn.convert.particles import writeParticles

    assert writeParticles(_read("imported.sqlite"), "input.star") == count


def output_set(_: int) -> None:
    from cryolearn.convert.flex import appendAligned

    output = _new("aligned.sqlite", "SetOfParticlesFlex")
    appendAligned(_read("imported.sqlite"), output, "alignment.npz")
    output.write()


def _new(name: str, kind: str) -> object:
    Path(name).unlink(missing_ok=True)
    import pwem.objects
    import tomo.objects

    return (getattr(pwem.objects, kind, None) or getattr(tomo.objects, kind))(filename=name)


def latents(count: int) -> None:
    from cryolearn.convert.latents import writeLatents

    assert writeLatents(_read("aligned.sqlite", "SetOfParticlesFlex"), "latents.npz", BOX) == count


def _with_images(classes: object, items: object) -> object:
    from pyworkflow.object import Pointer
    from pyworkflow.protocol import Protocol

    protocol = Protocol()
    protocol.output = items
    classes.setImages(Pointer(value=protocol, extended="output"))
    return classes


def classes(count: int) -> None:
    from cryolearn.convert.classes import fillClasses

    made = _with_images(_new("classes.sqlite", "SetOfClassesFlex"), _read("aligned.sqlite", "SetOfParticlesFlex"))
    fillClasses(made, "classes.npz", {})
    made.write()
    assert sum(group.getSize() for group in made.iterItems()) == count


def window(count: int) -> None:
    """What the window of a landscape does but for Tk: read the tables, draw density and points, and again with another colour."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from cryolearn.common.figures.landscape import draw_density, draw_points
    from cryolearn.viewers.landscape_data import readLandscape

    landscape = readLandscape("alignment.npz", "classes.npz")
    first, second = landscape.vectorLabels()[:2]
    for colour in ("class", "correlation"):
        figure = Figure(figsize=(7.6, 6.0), layout="constrained")
        axes, canvas = figure.subplots(), FigureCanvasAgg(figure)
        x, y = landscape.values(first), landscape.values(second)
        draw_density(axes, x, y)
        draw_points(figure, axes, x, y, landscape.columns[colour], colour, categorical=colour == "class")
        canvas.draw()
    assert len(landscape) == count


# --------------------------------------------------- subtomograms ---------------------------------------------------
def make_subtomograms(count: int) -> None:
    rng = np.random.default_rng(0)
    for number in range(_FILES):
        _mrc(Path(f"source_{number}.mrc"), rng.normal(size=(VOLUME,) * 3).astype(np.float32))
    os.makedirs("volumes", exist_ok=True)
    for number in range(count):
        path = Path("volumes") / f"{number:07d}.mrc"
        if not path.exists():
            os.link(f"source_{number % _FILES}.mrc", path)
    angles = rng.uniform(-180, 180, (count, 3))
    labels = {"rlnImageName": "volumes/%07d.mrc", "rlnOpticsGroup": "%d", "rlnTomoTiltAngleMin": "%.1f", "rlnTomoTiltAngleMax": "%.1f",
              "rlnAngleRot": "%.6f", "rlnAngleTilt": "%.6f", "rlnAnglePsi": "%.6f", "rlnOriginXAngst": "%.6f", "rlnOriginYAngst": "%.6f",
              "rlnOriginZAngst": "%.6f", "rlnRandomSubset": "%d"}
    _star("subtomograms.star", VOLUME, 3, labels, lambda row: (row, 1, -60, 60, *angles[row], 1.5, -2.5, 0.5, row % 2 + 1), count)


def register(count: int) -> None:
    from cryolearn.convert.subtomogram_star import StarSubtomograms

    made = _new("registered.sqlite", "SetOfSubTomograms")
    StarSubtomograms("subtomograms.star").fillSet(made)
    made.write()
    assert made.getSize() == count


def convert_subtomograms(count: int) -> None:
    from cryolearn.convert.subtomogram_star import writeSubtomograms

    assert writeSubtomograms(_read("registered.sqlite", "SetOfSubTomograms"), "input.star") == count


def output_subtomograms(count: int) -> None:
    from cryolearn.convert.subtomogram_sets import appendSubtomograms, setClass

    made = _new("classified.sqlite", "SetOfSubTomograms")
    appendSubtomograms(_read("registered.sqlite", "SetOfSubTomograms"), made, lambda item: setClass(item, 1 + item.getObjId() % CLASSES, "class", 0.5))
    made.write()
    assert made.getSize() == count


def classes_of_subtomograms(count: int) -> None:
    from cryolearn.convert.subtomogram_sets import fillClasses

    made = _with_images(_new("classes.sqlite", "SetOfClassesSubTomograms"), _read("classified.sqlite", "SetOfSubTomograms"))
    fillClasses(made, lambda item: item.getClassId(), lambda number: f"class {number}")
    made.write()
    assert sum(group.getSize() for group in made.iterItems()) == count


def _peak_mib() -> float:
    """Peak memory of this process; that of getrusage is never below that of the process that started it."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def main() -> None:
    os.environ.setdefault("SCIPION_DOMAIN", "pwem")
    name, count = sys.argv[1], int(sys.argv[2])
    if not name.startswith("make"):
        import pyworkflow

        pyworkflow.Config.setDomain("pwem")
        import pwem.objects  # noqa: F401
        import relion.convert.convert31  # noqa: F401
        import tomo.objects  # noqa: F401
    cpu, start = time.process_time(), time.monotonic()
    globals()[name](count)
    Path(f"{name}.json").write_text(json.dumps({
        "cpu_s": time.process_time() - cpu, "seconds": time.monotonic() - start, "memory_mib": _peak_mib()}), encoding="utf-8")


if __name__ == "__main__":
    main()
