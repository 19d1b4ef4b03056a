"""Protocols of Scipion with each kind of bad input: what the form or the run says, and whether anything wrong comes out.

Run in a process of its own: ``python benchmarks/_silence_protocols.py FOLDER`` makes a project in the folder and writes ``FOLDER/verdicts.jsonl``; cases that
stand there already are not tried again.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
from _inputs_join import prepare
from _results import Row
from _silence_bad_inputs import bad_input_row

from cryolearn.tests.engine.bad_input_files import BAD, DAMAGE, VALUES, damaged, write_mrc
from cryolearn.tests.engine.bad_inputs import RIGHT, TRACEBACK, UNCLEAR, WRONG

__all__ = ["rows"]

_IMAGES, _BOX, _PIXEL = 60, 32, 8.0
_THIS = (*(f"{noun} {BAD}{end}" for noun in ("particle", "subtomogram", "item") for end in " :),."), f"{BAD:06d}@")
_FILES = ("missing", "empty", "truncated", "folder", "text", "picture")
_NAN = float("nan")


@dataclass
class Case:
    """A protocol with one faulty input: ``make`` gives the value of the input, ``names`` are texts of which the sentence has one."""

    protocol: str
    parameter: str
    what: str
    make: Callable[[], Any]
    names: tuple[str, ...]
    harmless: bool = False


class Bench:
    """A project with sound inputs, faulty copies of them, and what became of the protocols that were given these."""

    def __init__(self) -> None:
        from pwem.protocols import ProtImportVolumes

        import cryolearn.protocols as protocols
        from cryolearn.tests.scipion.base import ProjectTest

        class Silence(ProjectTest):
            """The machinery of the tests, without a test."""

        Silence.setUpClass()
        self.project, self.protocols, self.number = Silence, protocols, 0
        self.structure = Silence.importStructure()
        made = Silence.launch(protocols.CryoLearnProtNormalModes, inputStructure=self.structure, number=12)
        self.modes = made.outputModes
        self.particles = Silence.simulate(self.modes, _IMAGES, box=_BOX, pixelSizeAngst=_PIXEL, snr=1.0, modeNumbers="7 8").outputParticles
        self.map = Silence.launch(protocols.CryoLearnProtReconstruct, inputSet=self.particles).outputVolume
        path = os.path.abspath(Silence.proj.getTmpPath("mask.mrc"))
        axis = np.arange(_BOX) - _BOX // 2
        write_mrc(Path(path), (axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2 < 144).astype(np.float32), _PIXEL)
        self.mask = Silence.launch(ProtImportVolumes, filesPath=path, samplingRate=_PIXEL).outputVolume
        self.model = Silence.launch(protocols.CryoLearnProtElasticTrain, inputModes=self.modes, modeNumbers="7 8", inputParticles=self.particles,
                                    epochs=1, imagesPerEpoch=64, batch=16, width=16).outputModel
        self.subtomograms = Silence.launch(protocols.CryoLearnProtSimulateSubtomograms, inputStructures=[self.structure], perClass=12, box=16,
                                           pixelSizeAngst=12.0, snr=1.0).outputSubtomograms
        self.holder = made

    def folder(self) -> Path:
        """A new folder in the project."""
        self.number += 1
        path = Path(self.project.proj.getTmpPath(f"bad_{self.number:04d}"))
        path.mkdir(parents=True)
        return path

    def kept(self, value: Any) -> Any:
        """The value as an output in the project, which a protocol can be given."""
        if hasattr(value, "write"):
            value.write()
        self.holder._defineOutputs(**{f"outputBad{self.number}": value})
        return value

    def altered(self, items: Any, change: Callable[[Any], object] = lambda item: None, which: int | None = BAD,
                whole: Callable[[Any], object] = lambda items: None, most: int | None = None) -> Callable[[], Any]:
        """A copy of a set with a change of one item, of all (None), or of the set itself."""
        def make() -> Any:
            copy = type(items)(filename=str(self.folder() / "bad.sqlite"))
            copy.copyInfo(items)
            copy._firstDim.copy(items._firstDim)
            copy._setFirstDim = lambda image: None  # it would be read from the first file
            for item in items.iterItems():
                if most is None or item.getObjId() <= most:
                    kept = item.clone()  # iterating fills the same item again
                    if which in (None, item.getObjId()):
                        change(kept)
                    copy.append(kept)
            whole(copy)
            return self.kept(copy)
        return make

    def with_files(self, items: Any, change: Callable[[Path], object], which: int | None) -> Callable[[], Any]:
        """A copy of a set whose files, or that of one item, are copies that were changed."""
        def make() -> Any:
            done: dict[str, str] = {}
            folder = self.folder()

            def move(item: Any) -> None:
                name = item.getFileName()
                if name not in done:
                    done[name] = str(folder / f"bad_{os.path.basename(name)}")
                    shutil.copy(name, done[name])
                    change(Path(done[name]))
                item.setFileName(done[name])
            return self.altered(items, move, which)()
        return make

    def volume(self, source: Any, change: Callable[[Path], object], pixel: float | None = None) -> Callable[[], Any]:
        """A map with another file."""
        def make() -> Any:
            path = self.folder() / "bad_map.mrc"
            shutil.copy(source.getFileName().partition(":")[0], path)
            change(path)
            volume = source.clone()
            volume.setFileName(str(path))
            volume.setHalfMaps([])
            if pixel is not None:
                volume.setSamplingRate(pixel)
            return self.kept(volume)
        return make

    def outcome(self, case: Case, protocol_class: Any, values: dict[str, Any]) -> tuple[str, str]:
        """Verdict on a case, and the evidence."""
        run = self.project.newProtocol(protocol_class, **{**values, case.parameter: case.make()})
        try:
            said = [sentence for sentence in run.validate() if sentence]
        except Exception:
            return TRACEBACK, f"the form's check: {traceback.format_exc(limit=-1)}"
        if said:
            return (RIGHT if any(_names(sentence, case) for sentence in said) else UNCLEAR), " | ".join(said)
        self.project.proj.launchProtocol(run, wait=True)
        run = self.project.proj.getProtocol(run.getObjId(), fromRuns=False)
        if not run.isFinished():
            message = run.getErrorMessage() or ""
            if not message or "Traceback" in message or "returned non-zero" in message:
                return TRACEBACK, f"the run: {message}"
            left = [name for name, _ in run.iterOutputAttributes()]
            if left:
                return WRONG, f"{message}, but left {', '.join(left)}"
            return (RIGHT if _names(message, case) else UNCLEAR), message
        odd = next((f"{name} is not finite" for name, output in run.iterOutputAttributes() if not is_finite(output)), "")
        if odd:
            return WRONG, odd
        log = Path(run.getLogPaths()[0]).read_text(errors="replace").splitlines()
        spoken = [*run.summary(), *run.warnings(), *(line for line in log if line.startswith(("WARNING", "NOTE")))]
        named = next((line for line in spoken if _names(line, case)), "")
        if named or case.harmless or is_flagged(run):
            return RIGHT, named or "finished; flagged or harmless"
        return WRONG, f"finished, nothing said of it: {' | '.join(line for line in spoken if 'WARNING' in line) or 'no warning'}"


def _names(sentence: str, case: Case) -> bool:
    return any(name in sentence for name in case.names)


def is_finite(output: Any) -> bool:
    """Whether the poses and latents of a set, or the values of a map, are numbers."""
    if output.getClassName().startswith("SetOf"):
        for item in output.iterItems():
            transform = item.getTransform() if hasattr(item, "getTransform") else None
            latents = getattr(item, "_zFlex", ())
            numbers = [*([] if transform is None else transform.getMatrix().ravel()), *(float(value) for value in latents)]
            if not np.isfinite(numbers).all():
                return False
    elif output.getClassName() == "Volume":
        with mrcfile.open(output.getFileName().partition(":")[0], permissive=True) as handle:
            return bool(np.isfinite(handle.data).all())
    return True


def is_flagged(run: Any) -> bool:
    """Whether an output's bad item has a flag, or is left out."""
    for _, output in run.iterOutputAttributes():
        if output.getClassName().startswith("SetOfParticles"):
            item = output.getItem("id", BAD)
            if item is None or any(int(value.get() or 0) >= 8 for name, value in item.getAttributes() if name.endswith("Flags")):
                return True
    return False


def _values(how: str, which: int | None = BAD) -> Callable[[Path], object]:
    """Change the values of a stack's image, or of all."""
    def change(path: Path) -> None:
        with mrcfile.open(path) as handle:
            images, voxel = handle.data.copy(), float(handle.voxel_size.x)
        if which is None:
            images = VALUES[how](images)
        else:
            images[which - 1] = VALUES[how](images[which - 1])
        write_mrc(path, images, voxel)
    return change


def _damage(how: str) -> Callable[[Path], object]:
    def change(path: Path) -> None:
        whole = path.parent / "whole" / path.name
        whole.parent.mkdir()
        shutil.move(path, whole)
        damaged(how, whole, path.parent)
    return change


def _cut_out(path: Path) -> None:
    with mrcfile.open(path) as handle:
        values, voxel = handle.data[4:-4, 4:-4, 4:-4].copy(), float(handle.voxel_size.x)
    write_mrc(path, values, voxel)


def _ctf(name: str, value: float) -> Callable[[Any], object]:
    return lambda item: getattr(item.getCTF(), f"set{name}")(value)


def _matrix(change: Callable[[Any], Any]) -> Callable[[Any], object]:
    return lambda item: item.getTransform().setMatrix(change(np.array(item.getTransform().getMatrix(), dtype=float)))


def _put(row: int, column: int, value: float) -> Callable[[Any], Any]:
    def change(matrix: Any) -> Any:
        matrix[row, column] = value
        return matrix
    return change


def _acquisition(**values: float) -> Callable[[Any], object]:
    def change(owner: Any) -> None:
        acquisition = owner.getAcquisition().clone()
        for name, value in values.items():
            getattr(acquisition, f"set{name}")(value)
        acquisition.opticsGroupInfo.set("")  # what an import kept goes before
        owner.setAcquisition(acquisition)
    return change


Faults = Iterator[tuple[str, Callable[[], Any], tuple[str, ...], bool]]


def faults_of_items(bench: Bench, items: Any, noun: str) -> Faults:
    """Faults of images or subtomograms, of their poses and of the set: what, the faulty set, texts to be named, harmless."""
    one = None if noun == "particle" else BAD  # particles share a stack, each subtomogram has a file
    for how in _FILES:
        yield f"file {how}", bench.with_files(items, _damage(how), one), ("bad_",), False
    for how in ("NaN", "infinite", "blank", "constant", "saturated", "x 1e30", "x 1e4", "hot pixel", "all NaN"):
        if noun == "particle":
            change = bench.with_files(items, _values(how), None)
        else:
            change = bench.with_files(items, _values(how, None), BAD)
        yield f"one {noun} {how}", change, (*_THIS, "bad_"), False
    matrices = {
        "NaN": _put(0, 0, _NAN), "infinite shift": _put(0, 3, float("inf")), "no rotation": lambda matrix: 2 * matrix, "shift of 1e6 px": _put(0, 3, 1e6),
    }
    for what, change_matrix in matrices.items():
        yield f"pose: {what}", bench.altered(items, _matrix(change_matrix)), (*_THIS, "pose", "origin", "rotation"), False
    for what, pixel in (("0", 0.0), ("NaN", _NAN), ("negative", -1.0)):
        sized = bench.altered(items, whole=lambda items, pixel=pixel: items.setSamplingRate(pixel))
        yield f"sampling rate {what}", sized, ("sampling rate", "pixel size"), False
    yield "empty set", bench.altered(items, most=0), ("empty",), False
    yield "one item", bench.altered(items, most=1), (f"1 {noun}", "only 1", "at least"), False


def faults_of_particles(bench: Bench, posed: bool = True) -> Faults:
    """Those of any items, and of CTF and acquisition; ``posed`` protocols need an alignment."""
    items = bench.particles
    yield from faults_of_items(bench, items, "particle")
    yield "image beyond the stack", bench.altered(items, lambda item: item.setLocation(999, item.getFileName())), (*_THIS, "999"), False
    for what, name, value in (("defocus NaN", "DefocusU", _NAN), ("defocus 1e9", "DefocusU", 1e9), ("defocus infinite", "DefocusV", float("inf")),
                              ("defocus angle NaN", "DefocusAngle", _NAN), ("phase shift 1e5", "PhaseShift", 1e5)):
        yield what, bench.altered(items, _ctf(name, value)), (*_THIS, "defocus", "phase"), False
    for what, name, value in (("voltage NaN", "Voltage", _NAN), ("voltage 300000", "Voltage", 3e5), ("no voltage", "Voltage", 0.0),
                              ("amplitude contrast 10", "AmplitudeContrast", 10.0), ("Cs NaN", "SphericalAberration", _NAN),
                              ("Cs -500", "SphericalAberration", -500.0)):
        change = _acquisition(**{name: value})
        yield what, bench.altered(items, change, None, change), (*_THIS, "oltage", "ontrast", "pherical", "acquisition"), False
    yield "no CTF", bench.altered(items, lambda item: item.setCTF(None), None, lambda items: items.setHasCTF(False)), ("CTF",), False
    yield "no alignment", bench.altered(items, whole=lambda items: items.setAlignment("None")), ("alignment",), not posed
    yield "another box in the set", bench.altered(items, whole=lambda items: items._firstDim.set((48, 48, 1))), ("box", "48"), True


def faults_of_maps(bench: Bench, source: Any, what: str, harmless: tuple[str, ...]) -> Faults:
    """Faults of a map or a mask."""
    for how in _FILES:
        yield f"{what} {how}", bench.volume(source, _damage(how)), ("bad_map",), False
    for how in ("NaN", "infinite", "all NaN", "blank", "constant", "x 1e30", "inverted"):
        yield f"{what} {how}", bench.volume(source, _values(how, None)), ("bad_map", what), how in harmless
    yield f"{what} of another box", bench.volume(source, _cut_out), ("bad_map", "box", "differ in size"), "another box" in harmless
    for name, pixel in (("0", 0.0), ("NaN", _NAN), ("negative", -2.0), ("another", 3.0)):
        yield f"{what}, sampling rate {name}", bench.volume(source, lambda path: None, pixel), ("sampling rate", "pixel size", "voxel"), name in harmless


def faults_of_structures(bench: Bench) -> Faults:
    """Faults of an atomic model's file."""
    def with_text(change: Callable[[list[str]], list[str]]) -> Callable[[Path], object]:
        return lambda path: path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")

    changes: dict[str, Callable[[Path], object]] = {how: _damage(how) for how in _FILES}
    changes |= {
        "no atoms": with_text(lambda lines: ["REMARK nothing", "END"]),
        "one atom": with_text(lambda lines: [next(line for line in lines if line.startswith("ATOM")), "END"]),
        "a coordinate NaN": with_text(lambda lines: [_moved(line, "     nan" + line[38:54]) if line[12:16] == " CA " else line for line in lines]),
        "all atoms in one place": with_text(lambda lines: [_moved(line, "   1.000" * 3) if line.startswith("ATOM") else line for line in lines]),
    }
    for what, change in changes.items():
        def make(change: Callable[[Path], object] = change) -> Any:
            path = bench.folder() / "bad_structure.pdb"
            shutil.copy(bench.structure.getFileName(), path)
            change(path)
            structure = bench.structure.clone()
            structure.setFileName(str(path))
            return bench.kept(structure)
        yield f"structure {what}", make, ("bad_structure", "atom"), False


def _moved(line: str, place: str) -> str:
    return line[:30] + place + line[54:]


def faults_of_models(bench: Bench) -> Faults:
    """Faults of a trained network's folder."""
    def in_file(name: str, change: Callable[[Path], object]) -> Callable[[Path], object]:
        return lambda folder: change(folder / name)

    changes: dict[str, Callable[[Path], object]] = {"folder missing": shutil.rmtree}
    for name in ("model.json", "weights.safetensors"):
        changes |= {f"{name} {how}": in_file(name, change) for how, change in DAMAGE.items() if "box" not in how}
    for what, change in changes.items():
        def make(change: Callable[[Path], object] = change) -> Any:
            model = bench.model.clone()
            path = bench.folder() / "bad_model"
            shutil.copytree(bench.model.getFolder(), path)
            change(path)
            model.setFileName(str(path / os.path.basename(bench.model.getFileName())))
            return bench.kept(model)
        yield what, make, ("bad_model",), False


def all_cases(bench: Bench) -> Iterator[tuple[Case, Any, dict[str, Any]]]:
    """Every protocol with every fault of its inputs: the case, the protocol's class, and the sound values."""
    plan: list[tuple[str, str, dict[str, Any], Faults]] = []
    particles, volume, modes = {"inputParticles": bench.particles}, {"inputVolume": bench.map}, {"inputModes": bench.modes, "modeNumbers": "7 8"}
    structure, model = {"inputStructure": bench.structure}, {"inputModel": bench.model, "refine": False}
    search = {"views": 50, "conformers": 2, "start": 1}
    gaussian = {"number": 60, "components": 1, "rounds": 2, "states": 3}
    plan += [
        ("Reconstruct", "inputSet", {"inputSet": bench.particles}, faults_of_particles(bench)),
        ("Reconstruct", "inputMask", {"inputSet": bench.particles}, faults_of_maps(bench, bench.mask, "mask", ("constant",))),
        ("ElasticAlign", "inputParticles", {**particles, **modes, **search}, faults_of_particles(bench)),
        ("ElasticPredict", "inputParticles", {**particles, **model}, faults_of_particles(bench, posed=False)),
        ("ElasticPredict", "inputModel", {**particles, **model}, faults_of_models(bench)),
        ("GaussianHeterogeneity", "inputParticles", {**particles, **volume, **gaussian}, faults_of_particles(bench)),
        ("GaussianHeterogeneity", "inputVolume", {**particles, **volume, **gaussian}, faults_of_maps(bench, bench.map, "map", ("inverted", "constant"))),
        ("RecoverOrientations", "inputParticles", {**particles, "start": 1, "restarts": 1, "rounds": 1}, faults_of_particles(bench, posed=False)),
        ("SubtomogramAverage", "inputSubtomograms", {"inputSubtomograms": bench.subtomograms, "classes": 1, "iterations": 1},
         faults_of_items(bench, bench.subtomograms, "subtomogram")),
        ("MapEnhance", "inputVolume", {**volume, "rotations": 0}, faults_of_maps(bench, bench.map, "map", ("another", "inverted"))),
        ("ValidateMap", "inputVolume", {**volume, **structure}, faults_of_maps(bench, bench.map, "map", ("another", "inverted", "another box"))),
        ("ValidateMap", "inputStructure", {**volume, **structure}, faults_of_structures(bench)),
        ("NormalModes", "inputStructure", {**structure, "number": 10}, faults_of_structures(bench)),
        ("VolumeToGaussians", "inputVolume", {**volume, "number": 60, "iterations": 5}, faults_of_maps(bench, bench.map, "map", ("another", "another box"))),
    ]
    for name, parameter, values, faults in plan:
        for what, make, names, harmless in faults:
            yield Case(name, parameter, what, make, names, harmless), getattr(bench.protocols, f"CryoLearnProt{name}"), values


def rows(work: Path) -> Iterator[Row]:
    """A row a protocol with the counts of the four verdicts and the cases that are not right, and one of all of them."""
    folder = work / "protocols"
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, __file__, str(folder)], check=True)
    counts: dict[str, Counter[str]] = {}
    failures: dict[str, list[str]] = {}
    for line in (folder / "verdicts.jsonl").read_text(encoding="utf-8").splitlines():
        found = json.loads(line)
        counts.setdefault(found["protocol"], Counter())[found["verdict"]] += 1
        if found["verdict"] != RIGHT:
            failures.setdefault(found["protocol"], []).append(f"{found['parameter']}: {found['what']} ({found['verdict']})")
    for protocol, found in counts.items():
        yield bad_input_row(f"protocol {protocol}", found, failures.get(protocol, []))
    yield bad_input_row(f"all of {len(counts)} protocols", sum(counts.values(), Counter()), [])


def main() -> None:
    folder = Path(sys.argv[1]).resolve()
    prepare(folder / "scipion")
    import pyworkflow

    pyworkflow.Config.setDomain("pwem")
    bench = Bench()
    log_file = folder / "verdicts.jsonl"
    known = [json.loads(line) for line in log_file.read_text(encoding="utf-8").splitlines()] if log_file.exists() else []
    tried = {(found["protocol"], found["parameter"], found["what"]) for found in known}
    with open(log_file, "a", encoding="utf-8") as log:
        for case, protocol_class, values in all_cases(bench):
            if (case.protocol, case.parameter, case.what) in tried:
                continue
            start = time.monotonic()
            verdict, said = bench.outcome(case, protocol_class, values)
            found = {"protocol": case.protocol, "parameter": case.parameter, "what": case.what, "verdict": verdict, "said": said,
                     "seconds": round(time.monotonic() - start, 1)}
            log.write(json.dumps(found) + "\n")
            log.flush()


if __name__ == "__main__":
    main()
