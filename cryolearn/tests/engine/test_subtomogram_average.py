"""The command subtomogram-average: classes, poses, half sets, resume, refusals; and the discovery report."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cryolearn.common.figures.surface import default_level
from cryolearn.engine.alignment.fourier_band import FourierBand
from cryolearn.engine.alignment.fourier_images import FourierImages, wedged_volumes
from cryolearn.engine.alignment.reference import Reference
from cryolearn.engine.config import check_config
from cryolearn.engine.exceptions import InputError
from cryolearn.engine.imaging.fourier import fourier_resize, rfftn_centred
from cryolearn.engine.imaging.fsc import fsc
from cryolearn.engine.imaging.masks import sphere_mask
from cryolearn.engine.imaging.poses import angle_between_deg, euler_to_matrix
from cryolearn.engine.io.maps import read_map, write_map
from cryolearn.engine.io.records import RunRecord
from cryolearn.engine.io.subtomograms import read_subtomograms, write_subtomograms
from cryolearn.engine.io.tables import read_table, write_table
from cryolearn.engine.subtomogram.average_command import run
from cryolearn.engine.subtomogram.averaging import averaging_iterations as rounds_module
from cryolearn.engine.subtomogram.averaging.aligner import Aligner, Plan
from cryolearn.engine.subtomogram.averaging.averaging_iterations import Rounds
from cryolearn.engine.subtomogram.averaging.averaging_state import Settings, State
from cryolearn.engine.subtomogram.averaging.class_novelty import novelty_of, read_known
from cryolearn.engine.subtomogram.averaging.initial_maps import first_maps
from cryolearn.engine.subtomogram.config import SubtomogramAverageConfig
from cryolearn.engine.subtomogram.report.class_gallery import GalleryRow, class_gallery

from .imaging_cases import DEVICES
from .subtomogram_average_cases import BOX, PIXEL, behind_wedge, copies, models, write_copies


def average(star: str, output: Path, **options: object) -> dict[str, object]:
    """Run the command; its summary."""
    output.mkdir(parents=True, exist_ok=True)
    chosen: dict[str, object] = dict(classes=1, iterations=1, mask_radius_angst=90.0, shift_range_angst=20.0, angular_step_deg=20.0, finest_step_deg=2.5)
    config = SubtomogramAverageConfig(subtomograms=star, output=str(output), threads=1, **{**chosen, **options})  # type: ignore[arg-type]
    check_config(config)
    run(config)
    with open(output / "summary.json", encoding="utf-8") as handle:
        return json.load(handle)


def settings(**changes: object) -> Settings:
    made = Settings(
        classes=1,
        iterations=1,
        start="alignment",
        starts=1,
        seed=1,
        batch=64,
        initial_px=6.0,
        plan=Plan(step_deg=20.0, finest_deg=2.5, fine_px=6.0, particle_px=9.0, shift_px=2.0),
        mask=sphere_mask(BOX, 9, 2),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def rounds_of(star: str, folder: Path, device: str = "cpu", **changes: object) -> Rounds:
    table = read_subtomograms(star)
    half = table.random_subset if table.random_subset is not None else 1 + np.arange(len(table)) % 2
    return Rounds(table, half, settings(**changes), RunRecord(folder, "averaging", "digest"), torch.device(device))


@pytest.fixture(scope="module")
def two_kinds(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """24 subtomograms of two structures, with poses and names, half of each kind in each half set."""
    folder = tmp_path_factory.mktemp("two")
    return write_copies(folder, copies(24, snr=0.5, classes=2), poses=True, names=True, half=True), folder


def test_two_structures_are_told_apart_and_aligned(two_kinds: tuple[str, Path], tmp_path: Path) -> None:
    """From references at low resolution: every subtomogram in the class it is a copy of, poses in one frame, all files written."""
    star, folder = two_kinds
    paths = []
    for number, model in enumerate(models(2)):
        paths.append(str(folder / f"model_{number}.mrc"))
        write_map(paths[-1], model.volume(BOX, PIXEL).numpy(), PIXEL)
    summary = average(star, tmp_path, classes=2, start="reference", references=paths, initial_resolution_angst=50.0)
    made, truth = read_subtomograms(str(tmp_path / "subtomograms.star")), read_subtomograms(star)
    assert made.class_name is not None and truth.class_name is not None and made.random_subset is not None
    assert np.array_equal(made.ids, truth.ids) and np.array_equal(made.random_subset, truth.random_subset)
    pairs = set(zip(made.class_name, truth.class_name))
    assert len(pairs) == 2 and len(set(made.class_name)) == 2
    assert made.angles_deg is not None and truth.angles_deg is not None
    errors = angle_between_deg(euler_to_matrix(torch.from_numpy(made.angles_deg)), euler_to_matrix(torch.from_numpy(truth.angles_deg)))
    assert float(errors.median()) < 5.0  # two of the last steps, at a signal-to-noise ratio of one half
    columns, _ = read_table(str(tmp_path / "averages.npz"))
    assert np.array_equal(columns["id"], truth.ids) and set(columns["class"]) == {1, 2}
    for entry in summary["classes"]:  # type: ignore[attr-defined]
        assert entry["count"] == 12 and entry["resolution_angst"] < 60.0
        kind = dict(pairs)[entry["name"]]
        joined = torch.from_numpy(read_map(str(tmp_path / f"{entry['name']}.mrc")).data.copy())
        assert float(fsc(joined, models(2)[int(kind[-1])].volume(BOX, PIXEL))[1:5].min()) > 0.8
        for half in (1, 2):
            assert (tmp_path / f"{entry['name']}_half{half}.mrc").exists()
    with open(tmp_path / "classes.csv", newline="", encoding="utf-8") as handle:
        assert [row["count"] for row in csv.DictReader(handle)] == ["12", "12"]
    assert (tmp_path / "figures" / "class_gallery.png").exists() and (tmp_path / "figures" / "fsc.png").exists()
    assert not (tmp_path / "records").exists()


def test_start_from_nothing_finds_two_structures() -> None:
    """Without any reference the likeliest start shows each of two structures once: either map is nearer to another model."""
    made = copies(80, snr=1.0, classes=2, seed=4)
    band = FourierBand.up_to(BOX, 5.5, 3)
    particles = wedged_volumes(band.gather(rfftn_centred(made.volumes, 3)), made.tilt, band, 0.0)
    steps: list[int] = []
    maps, evidence = first_maps(particles, 2, 9.0, 2.0, 2, 1, report=steps.append)
    assert len(evidence) == 2 and sum(steps) == 2 * rounds_module.STEPS and maps.shape[0] == 2
    large = torch.stack([fourier_resize(item, BOX, 3) for item in maps])
    seen = FourierImages(band=band, data=band.gather(rfftn_centred(large, 3)), noise=torch.ones(band.rings))
    plan = Plan(step_deg=15.0, finest_deg=4.0, fine_px=5.0, particle_px=9.0, shift_px=2.0)
    score = Aligner([Reference(model.volume(BOX, PIXEL)) for model in models(2)], band, torch.ones(len(band)), plan).align(seen).score
    assert sorted(score.argmax(1).tolist()) == [0, 1]


def test_half_sets_never_mix(two_kinds: tuple[str, Path], tmp_path: Path) -> None:
    """With every subtomogram of the second half set replaced by noise, the first's poses and sums are the same to the last bit."""
    star, folder = two_kinds
    table = read_subtomograms(star)
    files = list(table.file)
    assert table.random_subset is not None
    for row in np.flatnonzero(table.random_subset == 2):
        files[row] = str(tmp_path / f"noise_{row}.mrc")
        write_map(files[row], behind_wedge(torch.randn(BOX, BOX, BOX, generator=torch.Generator().manual_seed(int(row)))).numpy(), PIXEL)
    write_subtomograms(str(tmp_path / "other.star"), replace(table, file=files))
    reference = models(1)[0].volume(BOX, PIXEL)[None]
    found = []
    for name, path in (("one", star), ("other", str(tmp_path / "other.star"))):
        state, averages = rounds_of(path, tmp_path / name, start="reference", references=reference).run()
        first = torch.from_numpy(table.random_subset == 1)
        found.append((state.rotation[first], state.shift_px[first], averages.signal[0], averages.signal[1]))
    for number in range(3):
        assert torch.equal(found[0][number], found[1][number])
    assert not torch.equal(found[0][3], found[1][3])


def test_killed_rounds_go_on_to_the_same_end(two_kinds: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    star, _ = two_kinds
    whole, _ = rounds_of(star, tmp_path / "whole", iterations=2).run()
    broken = rounds_of(star, tmp_path / "broken", iterations=2)
    true_round: Callable[[Rounds, State], State] = Rounds._round

    def killed(self: Rounds, state: State) -> State:
        if state.done == 1:
            raise KeyboardInterrupt
        return true_round(self, state)

    monkeypatch.setattr(Rounds, "_round", killed)
    with pytest.raises(KeyboardInterrupt):
        broken.run()
    monkeypatch.setattr(Rounds, "_round", true_round)
    resumed, _ = rounds_of(star, tmp_path / "broken", iterations=2).run()
    for name in ("rotation", "shift_px", "number", "maps", "curves"):
        assert torch.equal(getattr(whole, name), getattr(resumed, name)), name


@pytest.mark.parametrize("device", DEVICES)
def test_batches_and_the_device_do_not_change_the_result(two_kinds: tuple[str, Path], tmp_path: Path, device: str) -> None:
    star, _ = two_kinds
    found = [rounds_of(star, tmp_path / str(size), where, batch=size).run()[0] for size, where in ((64, "cpu"), (5, device))]
    assert torch.equal(found[0].number, found[1].number)
    assert float(angle_between_deg(found[0].rotation, found[1].rotation).max()) < 0.1
    assert torch.allclose(found[0].curves, found[1].curves.cpu(), atol=1e-3)


def test_what_lies_outside_of_the_mask_does_not_reach_the_references(two_kinds: tuple[str, Path], tmp_path: Path) -> None:
    star, _ = two_kinds
    mask = sphere_mask(BOX, 5, 1)
    state = rounds_of(star, tmp_path, iterations=1, mask=mask).run()[0]
    assert float(state.maps[..., mask == 0].abs().max()) == 0 and float(state.maps.abs().max()) > 0


def test_noise_gives_no_resolution(tmp_path: Path) -> None:
    """Two half sets of noise agree beyond the search's band as little as chance allows: |FSC| < 4 / sqrt(independent points of the shell)."""
    noise = copies(24, seed=9)
    noise.volumes = behind_wedge(torch.randn(noise.volumes.shape, generator=torch.Generator().manual_seed(11)))
    star = write_copies(tmp_path / "noise", noise, poses=True, half=True)
    state, _ = rounds_of(star, tmp_path / "rounds", iterations=2).run()
    shells = torch.arange(7, BOX // 2)
    independent = 2 * torch.pi * shells**2 * float(sphere_mask(BOX, 9, 2).square().mean())  # the mask correlates neighbours
    assert bool((state.curves[0, shells].abs() < 4 / independent.sqrt()).all())


def test_each_class_of_the_input_apart(two_kinds: tuple[str, Path], tmp_path: Path) -> None:
    star, _ = two_kinds
    summary = average(star, tmp_path, start="alignment", each_class=True, smallest=4)
    assert [(entry["input_class"], entry["count"]) for entry in summary["classes"]] == [("kind0", 12), ("kind1", 12)]  # type: ignore[attr-defined]


def test_classes_by_number_and_those_left_out_are_named(tmp_path: Path) -> None:
    """Class numbers of a subdivision: number 0 belongs to no class, and small classes are left out; both are said."""
    star = write_copies(tmp_path / "set", copies(9), poses=True)
    table = read_subtomograms(star)
    write_subtomograms(star, replace(table, extra={"rlnClassNumber": np.array([10] * 4 + [0] * 2 + [2] * 3)}))
    summary = average(star, tmp_path / "out", start="alignment", each_class=True, smallest=4)
    assert [(entry["input_class"], entry["count"]) for entry in summary["classes"]] == [("10", 4)]  # type: ignore[attr-defined]
    assert summary["warnings"] == [
        "Class '02' is left out: it has only 3 subtomograms.", "2 subtomograms are left out: they belong to no class of the input.",
    ]


def test_a_new_structure_stands_out(two_kinds: tuple[str, Path], tmp_path: Path) -> None:
    """Features of a known class: 5 % lie outside of it by definition; those of a class that was not trained, far away: all."""
    star, _ = two_kinds
    table = read_subtomograms(star)
    random = np.random.default_rng(0)
    centres = np.array([[6.0, 0, 0], [0, 6.0, 0]])
    labels = np.repeat([1, 2], 400)
    known = centres[labels - 1] + random.normal(size=(800, 3))
    own = np.where(np.array(table.class_name)[:, None] == "kind0", centres[0], [0, 0, 9.0]) + random.normal(size=(len(table), 3))
    write_table(str(tmp_path / "known.npz"), {"id": np.arange(800), "features": known, "true_class": labels}, {"class_names": ["ring", "rod"]})
    write_table(str(tmp_path / "own.npz"), {"id": table.ids[::-1], "features": own[::-1]})
    found = read_known(str(tmp_path / "own.npz"), str(tmp_path / "known.npz"), table)
    inside = (found.distances(known[labels == 1])[:, 0] <= found.limit[0]).mean()
    assert inside == pytest.approx(0.95, abs=0.005)
    names = np.array(table.class_name)
    ring, strange = (novelty_of(found, np.flatnonzero(names == name), True) for name in ("kind0", "kind1"))
    assert ring.nearest == "ring" and not ring.new and ring.outside < 0.35
    assert strange.new and strange.outside == 1 and strange.distance > 5 > ring.distance
    assert not novelty_of(found, np.flatnonzero(names == "kind1"), False).new
    with pytest.raises(InputError, match="both"):
        read_known(str(tmp_path / "own.npz"), "", table)
    with pytest.raises(InputError, match="no features of subtomogram"):
        write_table(str(tmp_path / "few.npz"), {"id": table.ids[1:], "features": own[1:]})
        read_known(str(tmp_path / "few.npz"), str(tmp_path / "known.npz"), table)


def test_gallery_draws_slices_and_surface() -> None:
    volume = models(1)[0].volume(BOX, PIXEL).numpy()
    figure = class_gallery([GalleryRow("a", volume), GalleryRow("b", np.zeros_like(volume))], PIXEL)
    assert len(figure.axes) == 8
    assert 0 < default_level(volume) < volume.max()
    assert len(figure.axes[3].collections) == 1 and not figure.axes[7].collections


@pytest.mark.parametrize(("options", "said"), [
    (dict(start="reference"), "needs maps"),
    (dict(start="reference", references=["MODEL", "MODEL"], classes=3), "2 references for 3 classes"),
    (dict(start="reference", references=["SMALL"]), "crop or pad it"),
    (dict(start="reference", references=["FINE"]), "resample it"),
    (dict(mask="SMALL"), "crop, pad or resample"),
    (dict(mask="ZERO"), "is empty"),
    (dict(classes=20), "too few"),
    (dict(mask_radius_angst=150.0), "larger than half the box"),
    (dict(shift_range_angst=90.0), "larger than a quarter of the box"),
    (dict(local_search=True), "set start to 'alignment'"),
    (dict(each_class=True, smallest=20), "lower 'smallest'"),
    (dict(symmetry="X9"), "not known"),
])
def test_what_cannot_be_done_is_refused(two_kinds: tuple[str, Path], tmp_path: Path, options: dict[str, object], said: str) -> None:
    star, _ = two_kinds
    for name, box, pixel, value in (("MODEL", BOX, PIXEL, 1.0), ("SMALL", BOX - 4, PIXEL, 1.0), ("FINE", BOX, PIXEL / 2, 1.0), ("ZERO", BOX, PIXEL, 0.0)):
        write_map(str(tmp_path / f"{name}.mrc"), np.full((box,) * 3, value, np.float32), pixel)

    def place(value: object) -> object:
        return str(tmp_path / f"{value}.mrc") if isinstance(value, str) and value.isupper() and len(value) > 3 else value

    given = {name: [place(item) for item in value] if isinstance(value, list) else place(value) for name, value in options.items()}
    with pytest.raises(InputError, match=said):
        average(star, tmp_path / "out", **given)


def test_unaligned_odd_and_blank_subtomograms_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no alignment"):
        average(write_copies(tmp_path / "plain", copies(4)), tmp_path / "out", start="alignment")
    with pytest.raises(InputError, match="even box"):
        average(write_copies(tmp_path / "odd", copies(4, box=BOX - 1)), tmp_path / "out")
    with pytest.raises(InputError, match="no classes"):
        average(write_copies(tmp_path / "plain", copies(4)), tmp_path / "out", each_class=True)
    made = copies(4)
    made.volumes[2] = 0
    with pytest.raises(InputError, match="subtomogram 9 .* is blank"):
        average(write_copies(tmp_path / "blank", made), tmp_path / "out")
