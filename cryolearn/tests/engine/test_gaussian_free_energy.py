"""Free energy along a path: error bars that hold, whatever the parametrisation, the spread of the places and the depth of the wells."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cryolearn.engine.gaussian.free_energy import FreeEnergy, free_energy, inflated, way_along

PLACES = np.linspace(0, 1, 21)
SETS = 10
LENGTH_ANGST = 40.0


def _draw(energy: np.ndarray, spread: float, number: int, seed: int) -> np.ndarray:
    """Places of particles in [0, 1] with a free energy at ``PLACES``, seen with a normal error."""
    random, fine = np.random.default_rng(seed), np.linspace(0, 1, 2001)
    part = np.exp(-np.interp(fine, PLACES, energy))
    return random.choice(fine, number, p=part / part.sum()) + spread * random.standard_normal(number)


def _found(seen: np.ndarray, spread: float, way: np.ndarray = PLACES) -> FreeEnergy:
    return free_energy(-((seen[:, None] - way) ** 2) / (2 * spread**2), np.ones(len(seen)), way * LENGTH_ANGST, "polynomial")


def _within(found: FreeEnergy, energy: np.ndarray) -> float:
    """Part of the places whose free energy lies within two standard errors, both above their mean over the particles."""
    away = (found.energy_kt - found.population @ found.energy_kt) - (energy - found.population @ energy)
    return float((np.abs(away) <= 2 * found.error_kt).mean())


@pytest.mark.parametrize("spread", [0.05, 0.15, 0.3])
@pytest.mark.parametrize("wells", [0, 2])
def test_error_bars_hold(wells: int, spread: float) -> None:
    """Flat, and two wells of 2 kT: in nine of ten sets nearly all places lie within two standard errors, also where the particles hardly show the wells."""
    energy = np.cos(4 * np.pi * PLACES) * (wells > 0)
    found = [_found(_draw(energy, spread, 1000, seed), spread) for seed in range(SETS)]
    held = sum(_within(one, energy) >= 0.9 for one in found)
    assert held >= (9 if spread < 0.3 or not wells else 6)
    if not wells:
        assert sum(one.flat > 0.05 for one in found) >= 9
    elif spread == 0.05:
        assert all(one.flat < 1e-3 for one in found)
        for one in found:
            middle = one.energy_kt[8:13].max() - one.energy_kt[3:8].min()
            assert middle == pytest.approx(2.0, abs=0.8)


def test_the_parametrisation_does_not_matter() -> None:
    """Places that crowd at one end do not make a well there: what counts are Å."""
    crowded = PLACES**2
    found = _found(_draw(np.zeros(21), 0.05, 3000, 1), 0.05, crowded)
    assert found.flat > 0.05 and np.ptp(found.energy_kt) < 0.6
    by_place = -np.log(found.population / found.population.max())
    assert np.ptp(by_place) > 2  # of the places, which the latent counts


def test_what_cannot_be_told_apart_has_wide_bars() -> None:
    clear, blurred = (_found(_draw(np.zeros(21), spread, 1000, 3), spread) for spread in (0.05, 0.3))
    assert np.median(blurred.error_kt) > 3 * np.median(clear.error_kt)


def test_images_without_a_particle_do_not_count() -> None:
    energy = np.cos(4 * np.pi * PLACES)
    seen = np.concatenate([_draw(energy, 0.05, 1000, 1), np.full(1000, 0.5)])
    likelihood = -((seen[:, None] - PLACES) ** 2) / (2 * 0.05**2)
    found = free_energy(likelihood, np.repeat([1.0, 0.0], 1000), PLACES * LENGTH_ANGST, "polynomial")
    assert _within(found, energy) >= 0.9


def test_half_sets_that_differ_widen_the_bars() -> None:
    found = _found(_draw(np.zeros(21), 0.05, 1000, 1), 0.05)
    way = PLACES * LENGTH_ANGST
    tilted = replace(found, energy_kt=found.energy_kt + 4 * PLACES)
    same = inflated(found, way, [(found, way), (found, 2 * way)])
    assert np.allclose(same.error_kt, found.error_kt)
    wider = inflated(found, way, [(found, way), (tilted, way)])
    assert wider.error_kt.min() > 3 * found.error_kt.min()


def test_states_and_circles() -> None:
    """Of states each counts as much as any other; around a circle there is no end."""
    random = np.random.default_rng(1)
    label = random.choice(3, 900, p=[0.6, 0.3, 0.1])
    likelihood = np.where(label[:, None] == np.arange(3), 0.0, -4.0)
    states = free_energy(likelihood, np.ones(900), np.arange(3.0), "states")
    wanted = -np.log(np.array([0.6, 0.3, 0.1]) / 0.6)
    assert np.abs(states.energy_kt - wanted).max() < 3 * states.error_kt.max()
    grid = np.arange(20) / 20
    seen = random.uniform(size=2000)
    away = (seen[:, None] - grid + 0.5) % 1 - 0.5
    circle = free_energy(-(away**2) / (2 * 0.05**2), np.ones(2000), grid * LENGTH_ANGST, "periodic")
    assert circle.flat > 0.05 and circle.energy_kt.max() < 0.5


def test_way_along_a_path() -> None:
    places = np.zeros((3, 4, 3))
    places[1, :, 0], places[2, :2, 0], places[2, 2:, 0] = 3.0, 3.0, 7.0
    assert np.allclose(way_along(places, "polynomial"), [0, 3, 3 + 4 * 0.5**0.5])
    assert np.allclose(way_along(places, "states"), [0, 1, 2])
