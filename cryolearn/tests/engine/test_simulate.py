"""Simulated particles against analytic answers: projections, laws, noise, files, resume."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from cryolearn.engine.config import save_config
from cryolearn.engine.exceptions import InputError
from cryolearn.engine.imaging.ctf import Ctf, ctf_2d
from cryolearn.engine.imaging.gaussians import render_gaussians_2d, render_gaussians_3d
from cryolearn.engine.imaging.poses import euler_to_matrix
from cryolearn.engine.imaging.slices import VolumeProjector
from cryolearn.engine.io.maps import Map, write_map
from cryolearn.engine.io.modes import make_modes, read_modes, write_modes
from cryolearn.engine.io.records import Stage
from cryolearn.engine.io.stacks import ImageStack, StackWriter
from cryolearn.engine.io.star import read_particles
from cryolearn.engine.io.tables import read_table
from cryolearn.engine.simulate import particles_command as particles
from cryolearn.engine.simulate.config import SimulateParticlesConfig
from cryolearn.engine.simulate.laws import draw_particles
from cryolearn.engine.simulate.resample import fit_map
from cryolearn.engine.simulate.sources import AtomSource
from cryolearn.tests.waiting import waitUntil

BOX, PIXEL, ATOMS = 32, 2.0, 40
CPU = torch.device("cpu")


def _model(sigma=3.0, count=3, seed=0):
    rng = np.random.default_rng(seed)
    coordinates = rng.normal(size=(ATOMS, 3)) * 5 + [100, -50, 20]
    return make_modes(coordinates, rng.normal(size=(count, ATOMS, 3)), np.arange(7, 7 + count),
                      weights=rng.uniform(1, 8, ATOMS), sigma_angst=np.full(ATOMS, sigma))


@pytest.fixture
def modes_file(tmp_path):
    path = str(tmp_path / "modes.npz")
    write_modes(path, _model())
    return path


def _config(modes_file, output, **changes):
    values = dict(modes=modes_file, output=str(output), number=6, box=BOX, pixel_size_angst=PIXEL, amplitude=15.0, shift_angst=4.0, threads=1)
    return SimulateParticlesConfig(**{**values, **changes})


def _images(folder):
    table = read_particles(os.path.join(str(folder), "particles.star"))
    return ImageStack(table).read(np.arange(len(table))), table


def _source(model):
    return AtomSource(model, BOX, PIXEL, CPU, amplitude=40.0, shift_angst=5.0)


def _random_poses(count, seed=1):
    rng = np.random.default_rng(seed)
    angles = torch.as_tensor(rng.uniform(-180, 180, (count, 3)))
    return euler_to_matrix(angles).float(), torch.as_tensor(rng.uniform(-4, 4, (count, 2)), dtype=torch.float32)


def test_a_projection_is_the_sum_of_the_atoms_gaussians():
    """At a width of 1.5 px a Gaussian holds 1e-5 of its amplitude at Nyquist: the band's cut does nothing, and pixels are exact."""
    model = _model(sigma=1.5 * PIXEL)
    rotation, shift = _random_poses(4)
    amplitudes = torch.as_tensor(np.random.default_rng(2).uniform(-20, 20, (4, 3)), dtype=torch.float32)
    transform = _source(model).project(rotation, shift, amplitudes)
    image = torch.fft.fftshift(torch.fft.irfft2(transform, s=(BOX, BOX)), dim=(1, 2))
    moved = torch.as_tensor(model.displaced(amplitudes.numpy()) - model.origin_angst, dtype=torch.float32)
    seen = (moved @ rotation.transpose(1, 2))[..., :2] + shift[:, None]
    expected = render_gaussians_2d(seen, torch.as_tensor(model.weights).float(), 1.5 * PIXEL, BOX, PIXEL)
    assert (image - expected).abs().max() < 1e-4 * expected.max()


def test_narrow_atoms_do_not_alias():
    """A point-like atom's transform is exp(-2 pi^2 sigma^2 k^2) exp(-2 pi i k x) up to Nyquist, however narrow it is."""
    sigma, place = 0.4, np.array([3.3, -1.7])
    model = make_modes([[0, 0, 0], [3.3, -1.7, 0.4]], np.zeros((0, 2, 3)), [], weights=[0, 1], sigma_angst=[sigma, sigma])
    model.origin_angst[:] = 0
    transform = _source(model).project(torch.eye(3)[None], torch.zeros(1, 2), torch.zeros(1, 0))[0].numpy()
    ky, kx = np.fft.fftfreq(BOX, PIXEL)[:, None], np.fft.rfftfreq(BOX, PIXEL)[None]
    exact = np.exp(-2 * np.pi**2 * sigma**2 * (kx**2 + ky**2) - 2j * np.pi * (kx * place[0] + ky * place[1])) / PIXEL**2
    inside = (np.abs(ky) < 0.5 / PIXEL) & (np.abs(kx) < 0.5 / PIXEL)
    assert np.abs(transform - exact)[inside].max() < 1e-3 / PIXEL**2


def test_an_atom_is_seen_where_the_convention_says(tmp_path):
    place = np.array([9.0, 4.0, -7.0])
    model = make_modes([place, -place], np.zeros((0, 2, 3)), [], weights=[5, 1], sigma_angst=[2, 2])
    rotation, shift = _random_poses(5)
    transform = _source(model).project(rotation, shift, torch.zeros(5, 0))
    image = torch.fft.fftshift(torch.fft.irfft2(transform, s=(BOX, BOX)), dim=(1, 2)).numpy()
    expected = (rotation.numpy() @ place)[:, :2] + shift.numpy()
    for picture, (x, y) in zip(image, expected):
        row, column = np.unravel_index(picture.argmax(), picture.shape)
        assert abs((column - BOX // 2) * PIXEL - x) <= PIXEL and abs((row - BOX // 2) * PIXEL - y) <= PIXEL


def test_the_files_tell_the_truth(modes_file, tmp_path):
    """Images projected anew from what STAR and truth table say are the images in the stack."""
    out = tmp_path / "out"
    particles.run(_config(modes_file, out, snr=0.0))
    images, table = _images(out)
    truth, meta = read_table(str(out / "truth.npz"))
    assert meta["mode_numbers"] == [7, 8, 9] and np.array_equal(truth["id"], table.ids)
    assert np.abs(table.origin_angst + truth["shift_angst"]).max() < 1e-6
    rotation = euler_to_matrix(torch.as_tensor(table.angles_deg))
    assert np.abs(rotation.numpy() - truth["rotation"]).max() < 1e-7
    model = read_modes(modes_file)
    centred = torch.as_tensor(model.displaced(truth["amplitudes"]) - model.origin_angst)
    seen = (centred @ rotation.transpose(1, 2))[..., :2] - torch.as_tensor(table.origin_angst)[:, None]
    picture = render_gaussians_2d(seen, torch.as_tensor(model.weights), 3.0, BOX, PIXEL)
    transfer = ctf_2d(Ctf.from_table(table.ctf, dtype=torch.float64), BOX, PIXEL)
    expected = torch.fft.irfft2(torch.fft.rfft2(picture) * transfer, s=(BOX, BOX)).numpy()
    assert np.abs(images - expected).max() < 1e-4 * np.abs(expected).max()
    assert os.path.getsize(out / "figures" / "examples.png") > 1000
    assert json.loads((out / "summary.json").read_text())["images"] == 6


@pytest.mark.parametrize("noise_model", ["white", "before_ctf"])
def test_an_image_does_not_depend_on_how_many_are_made(modes_file, tmp_path, noise_model):
    few, many = tmp_path / "few", tmp_path / "many"
    particles.run(_config(modes_file, few, number=3, noise_model=noise_model))
    particles.run(_config(modes_file, many, number=40, noise_model=noise_model))
    (one, table), (two, more) = _images(few), _images(many)
    assert np.array_equal(one, two[:3]) and np.array_equal(table.angles_deg, more.angles_deg[:3])
    particles.run(_config(modes_file, few, number=3, noise_model=noise_model, seed=2))
    assert not np.array_equal(_images(few)[0], one)


def test_another_number_of_modes_moves_no_pose(modes_file):
    one, three = _config(modes_file, "x"), _config(modes_file, "x", mode_numbers=[7])
    assert np.array_equal(draw_particles(one, 0, 9, 3, 1).angles_deg, draw_particles(three, 0, 9, 1, 1).angles_deg)


def test_blocks_of_particles_join_up(modes_file):
    config = _config(modes_file, "x")
    whole, part = draw_particles(config, 0, 3000, 3, 2), draw_particles(config, 1000, 2100, 3, 2)
    for name, values in vars(part).items():
        assert np.array_equal(getattr(whole, name)[1000:2100], values), name


def test_the_laws_are_those_named(modes_file):
    count = 4000
    config = _config(modes_file, "x", amplitude=150.0, shift_angst=7.0, astigmatism_angst=400.0)

    def p_value(values, low, high):
        return stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue

    drawn = draw_particles(config, 0, count, 3, 4)
    uniform = [
        (np.cos(np.deg2rad(drawn.angles_deg[:, 1])), -1, 1), (drawn.angles_deg[:, 0], -180, 180), (drawn.angles_deg[:, 2], -180, 180),
        (drawn.shift_angst[:, 0], -7, 7), (drawn.shift_angst[:, 1], -7, 7), *((drawn.amplitudes[:, k], -150, 150) for k in range(3)),
        ((drawn.defocus_u_angst + drawn.defocus_v_angst) / 2, 5000, 15000), (drawn.defocus_u_angst - drawn.defocus_v_angst, 0, 400),
        (drawn.defocus_angle_deg, 0, 180),
    ]
    assert min(p_value(*law) for law in uniform) > 1e-4
    assert stats.chisquare(np.bincount(drawn.state, minlength=5)[1:]).pvalue > 1e-4
    # all eleven are independent: a correlation of 4000 pairs is below 5 / sqrt(4000)
    correlation = np.corrcoef([law[0] for law in uniform]) - np.eye(len(uniform))
    assert np.abs(correlation).max() < 5 / np.sqrt(count)
    euler = draw_particles(_config(modes_file, "x", angle_law="euler", in_plane=False), 0, count, 3, 1)
    assert p_value(euler.angles_deg[:, 1], 0, 180) > 1e-4 and not euler.angles_deg[:, 2].any()
    curve = draw_particles(_config(modes_file, "x", amplitude_law="curve", amplitude=200.0), 0, count, 3, 1)
    q7, q8, q9 = curve.amplitudes.T
    assert p_value(-q7 / 200, 0, 1) > 1e-4
    assert np.allclose(q8, 200 * np.sin(-np.pi * q7 / 200)) and np.allclose(q9, 200 * np.cos(-np.pi * q7 / 200))


@pytest.mark.parametrize("noise_model", ["white", "before_ctf"])
@pytest.mark.parametrize("phase_flip", [False, True])
def test_the_noise_has_the_asked_strength_and_colour(modes_file, noise_model, phase_flip):
    config = _config(modes_file, "x", snr=0.05, noise_model=noise_model, phase_flip=phase_flip)
    source = particles.open_source(config, CPU)
    rows = np.arange(200)
    simulator = particles.Simulator(config, source, CPU)
    clean, noisy = simulator.images(rows)
    noise = noisy - clean
    ratio = clean.var(axis=(1, 2)) / noise.var(axis=(1, 2)) / 0.05
    # the variance of n independent values scatters by sqrt(2 / n); coloured noise has fewer, here at least a quarter
    assert abs(ratio.mean() - 1) < 4 * np.sqrt(2 / (BOX**2 / 4) / len(rows)) + 2 / (BOX**2 / 4)
    draws = simulator.draws(rows)
    transfer = ctf_2d(Ctf.from_table(particles._ctf_table(config, draws), dtype=torch.float64), BOX, PIXEL).numpy()
    power = np.abs(np.fft.rfft2(noise)) ** 2
    power /= power.mean(axis=(1, 2), keepdims=True)
    expected = transfer**2 / (transfer**2).mean(axis=(1, 2), keepdims=True) if noise_model == "before_ctf" else np.ones_like(power)
    inside = (slice(None), slice(2, BOX // 2 - 1), slice(2, BOX // 2 - 1))
    # a periodogram's values are exponential about their mean, so the slope of power on expectation has error 1 / sqrt(n)
    slope = (power * expected)[inside].sum() / (expected**2)[inside].sum()
    assert abs(slope - 1) < 0.05
    low = expected[inside] < 0.2
    if noise_model == "before_ctf":
        assert power[inside][low].mean() < 0.25
    else:
        assert not low.any()


def test_phase_flipping_leaves_the_absolute_ctf(modes_file):
    one, flipped = (_config(modes_file, "x", snr=0.0, phase_flip=flip) for flip in (False, True))
    source = particles.open_source(one, CPU)
    plain, absolute = (particles.Simulator(config, source, CPU).images(np.arange(4))[0] for config in (one, flipped))
    bare = particles.Simulator(_config(modes_file, "x", snr=0.0, apply_ctf=False), source, CPU)
    draws = bare.draws(np.arange(4))
    transfer = ctf_2d(Ctf.from_table(particles._ctf_table(one, draws), dtype=torch.float64), BOX, PIXEL).numpy()
    picture = np.fft.rfft2(bare.images(np.arange(4))[0])
    for images, seen in ((plain, transfer), (absolute, np.abs(transfer))):
        assert np.allclose(images, np.fft.irfft2(picture * seen, s=(BOX, BOX)), atol=1e-5 * np.abs(images).max())


def _volume_file(tmp_path, model, name="a.mrc"):
    centred = torch.as_tensor(model.centred, dtype=torch.float32)
    data = render_gaussians_3d(centred, torch.as_tensor(model.weights).float(), 3.0, BOX, PIXEL)
    path = str(tmp_path / name)
    write_map(path, data.numpy(), PIXEL)
    return path, data


def test_maps_are_projected_as_the_star_says(tmp_path):
    paths, volumes = zip(*(_volume_file(tmp_path, _model(seed=seed), f"{seed}.mrc") for seed in range(3)))
    out = tmp_path / "out"
    particles.run(SimulateParticlesConfig(volumes=list(paths), output=str(out), number=20, box=BOX, pixel_size_angst=PIXEL,
                                          shift_angst=4.0, snr=0.0, threads=1))
    images, table = _images(out)
    truth, _ = read_table(str(out / "truth.npz"))
    assert set(truth["state"]) == {1, 2, 3} and truth["amplitudes"].shape == (20, 0)
    rotation = euler_to_matrix(torch.as_tensor(table.angles_deg)).float()
    ctf = Ctf.from_table(table.ctf)
    shift = torch.as_tensor(-table.origin_angst / PIXEL).float()
    for row in range(20):
        one = slice(row, row + 1)
        projector = VolumeProjector(volumes[truth["state"][row] - 1])
        expected = projector.project_real(rotation[one], shift[one], ctf[one], PIXEL)[0].numpy()
        assert np.corrcoef(expected.ravel(), images[row].ravel())[0, 1] > 0.9999


def test_atoms_and_their_map_give_the_same_images(tmp_path):
    """.998 is what the project asks of any two projectors."""
    model = _model(count=1)
    modes, out = str(tmp_path / "modes.npz"), (tmp_path / "atoms", tmp_path / "map")
    write_modes(modes, model)
    path, _ = _volume_file(tmp_path, model)
    common = dict(number=8, box=BOX, pixel_size_angst=PIXEL, shift_angst=4.0, snr=0.0, threads=1)
    particles.run(SimulateParticlesConfig(modes=modes, mode_numbers=[7], amplitude=0.0, output=str(out[0]), **common))
    particles.run(SimulateParticlesConfig(volumes=[path], output=str(out[1]), **common))
    (one, _), (two, _) = _images(out[0]), _images(out[1])
    assert min(np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(one, two)) > 0.998


@pytest.mark.parametrize(("pixel", "box"), [(2.0, 40), (1.5, 48), (2.7, 31), (4.0, 24)])
def test_a_map_keeps_its_density_and_centre_at_another_pixel_size(pixel, box):
    place, sigma = torch.tensor([[4.0, -6.0, 3.0]]), 7.0
    data = render_gaussians_3d(place, torch.ones(1), sigma, BOX, 2.5)
    expected = render_gaussians_3d(place, torch.ones(1), sigma, box, pixel)
    found = fit_map(Map(data.numpy(), 2.5), box, pixel)
    inside = expected > 1e-2 * expected.max()  # the map's own border cuts the rest
    assert (found - expected)[inside].abs().max() < 0.01 * expected.max()


class _Killed(Exception):
    pass


def test_a_killed_run_goes_on_and_ends_the_same(modes_file, tmp_path, monkeypatch):
    monkeypatch.setattr(particles, "_CHUNK", 16)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    particles.run(_config(modes_file, whole, number=60))
    made = []
    images = particles.Simulator.images

    def counted(self, rows):
        if len(made) == 3:
            made.append(None)
            raise _Killed
        made.append(rows)
        return images(self, rows)

    monkeypatch.setattr(particles.Simulator, "images", counted)
    with pytest.raises(_Killed):
        particles.run(_config(modes_file, broken, number=60))
    assert not (broken / "particles.mrcs").exists() and not (broken / "particles.star").exists()
    made[3:] = [None] * 10
    particles.run(_config(modes_file, broken, number=60))
    assert made[13].tolist() == list(range(48, 60))  # three chunks of 16 were on record
    for name in ("particles.mrcs", "particles.star"):
        assert (whole / name).read_bytes() == (broken / name).read_bytes()
    # other parameters start afresh
    particles.run(_config(modes_file, broken, number=60, snr=0.5))
    assert (whole / "particles.mrcs").read_bytes() != (broken / "particles.mrcs").read_bytes()
    # and so do the first ones again: the stack is now that of the others
    particles.run(_config(modes_file, broken, number=60))
    assert (whole / "particles.mrcs").read_bytes() == (broken / "particles.mrcs").read_bytes()


@pytest.mark.parametrize(("left", "kept"), [("particles.mrcs.part", 0), ("particles.mrcs.part", 0.5), ("records/simulation/*/progress.npz", 0)])
def test_what_a_power_cut_left_is_made_anew(modes_file, tmp_path, monkeypatch, capsys, left, kept):
    """The stack and the record of how far it has come are worth nothing without one another."""
    monkeypatch.setattr(particles, "_CHUNK", 16)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    particles.run(_config(modes_file, whole, number=40))
    with monkeypatch.context() as patch, pytest.raises(_Killed):
        patch.setattr(particles.Progress, "step", _kill_after(3))
        particles.run(_config(modes_file, broken, number=40))
    (damaged,) = broken.glob(left)
    os.truncate(damaged, int(kept * damaged.stat().st_size))
    capsys.readouterr()
    particles.run(_config(modes_file, broken, number=40))
    assert "made anew" in capsys.readouterr().out
    assert (whole / "particles.mrcs").read_bytes() == (broken / "particles.mrcs").read_bytes()


def _kill_after(steps):
    left = [steps]

    def step(self, count=1, note=""):
        left[0] -= 1
        if left[0] == 0:
            raise _Killed

    return step


def test_two_processes_write_the_images_of_one(modes_file, tmp_path, monkeypatch):
    """Bit by bit, also after the first of them was killed behind its first record."""
    one, two = tmp_path / "one", tmp_path / "two"
    particles.run(_config(modes_file, one, number=600, box=16))
    config = _config(modes_file, two, number=600, box=16)
    with monkeypatch.context() as patch, pytest.raises(_Killed):
        patch.setattr(particles, "process_rank", lambda: (0, 2, 0))
        written = StackWriter.flush
        patch.setattr(StackWriter, "flush", lambda self: _stop_behind(self, written, config))
        particles.run(config)
    save_config(config, str(tmp_path / "config.json"))
    command = [sys.executable, "-m", "cryolearn.engine", "simulate-particles", "--config", str(tmp_path / "config.json"), "--processes", "2"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SLURM_")}
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "goes on after 256/344" in finished.stdout
    assert (one / "particles.mrcs").read_bytes()[1024:] == (two / "particles.mrcs").read_bytes()[1024:]  # headers hold the time
    truths = [read_table(str(run / "truth.npz"))[0] for run in (one, two)]
    for name in truths[0]:
        np.testing.assert_array_equal(truths[0][name], truths[1][name])
    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "all 600 images are there already" in again.stdout


def _stop_behind(writer, flush, config):
    """Like a kill while the second record is written."""
    flush(writer)
    if list(Path(config.output).glob("records/simulation/*/progress_1_of_2.npz")):
        raise _Killed


def test_a_run_that_was_killed_hard_goes_on(modes_file, tmp_path):
    """kill -9 behind the first record; the finished stack holds what an unbroken run makes."""
    out, count = tmp_path / "out", 4000
    config = _config(modes_file, out, number=count, box=64)
    save_config(config, str(tmp_path / "config.json"))
    command = [sys.executable, "-m", "cryolearn.engine", "simulate-particles", "--config", str(tmp_path / "config.json")]
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    progress = "records/simulation/*/progress.npz"
    try:
        waitUntil(lambda: list(out.glob(progress)), alive=lambda: run.poll() is None, pause=0.005)
    finally:
        run.kill()
        run.wait()
    (recorded,) = out.glob(progress)
    found = Stage(recorded).read()
    assert found is not None
    done = found[1]["done"]
    assert 0 < done < count and not (out / "particles.mrcs").exists()
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"goes on after {done}/{count}" in finished.stdout
    table = read_particles(str(out / "particles.star"))
    rows = np.concatenate([np.arange(0, count, 97), np.arange(done - 2, done + 2)])
    expected = particles.Simulator(config, particles.open_source(config, CPU), CPU).images(rows)[1]
    assert np.array_equal(ImageStack(table).read(rows), expected)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (dict(mode_numbers=[3]), "Mode 3"), (dict(mode_numbers=[7, 8], amplitude_law="curve"), "three modes"),
        (dict(box=16, pixel_size_angst=0.5), "larger box"), (dict(defocus_min_angst=2e4), "defocus"),
        (dict(apply_ctf=False, phase_flip=True), "apply_ctf"), (dict(modes=""), "Give either"), (dict(snr=-1.0), "snr"),
    ],
)
def test_what_cannot_be_simulated_is_refused(modes_file, tmp_path, changes, words):
    with pytest.raises(InputError, match=words):
        particles.run(_config(modes_file, tmp_path / "out", **changes))


def test_modes_of_another_structure_are_refused(modes_file, tmp_path):
    path = tmp_path / "a.pdb"
    path.write_text("ATOM      1  CA  ALA A   1       1.000   0.000   0.000  1.00 10.00           C\nEND\n")
    with pytest.raises(InputError, match="do not belong to the structure"):
        particles.run(_config(modes_file, tmp_path / "out", structure=str(path)))
