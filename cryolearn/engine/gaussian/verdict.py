"""Is there a motion? The verdict of a run, and what is kept of the path where there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from .conformation_estimates import Found, without_motion
from .conformation_methods import Problem, half_agreement, half_curves
from .free_energy import FreeEnergy, free_energy, inflated, way_along
from .held_out import HeldOut, judge_halves, rigid_part
from .summary import SummaryNotes

__all__ = ["Verdict", "judge", "path_free_energy"]

Array = NDArray[np.float64]
_CHANCE = 0.05


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What held-out particles say of the motion that was found.

    Attributes
    ----------
    moves : there is a motion; None is not tested
    sentence : the verdict and its reason
    held_out : of the two half sets; None is not tested
    """

    moves: bool | None
    sentence: str
    held_out: HeldOut | None = None


def judge(problem: Problem, found: Found, half: NDArray[np.int64], particle: NDArray[np.int64]) -> tuple[Verdict, Found]:
    """Fit each half set alone, tell whether there is a motion, and take the path away where there is none.

    Parameters
    ----------
    problem
        Of the last round.
    found
        Conformations of all images.
    half, particle
        (n,) half set, 1 or 2, and particle, counted from 0, of each image.
    """
    config = problem.config
    if not config.halves or config.method in ("scan", "slides"):
        why = "the half sets were not compared" if not config.halves else f"the method '{config.method}' has no model to compare half sets by"
        return Verdict(moves=None, sentence=f"Whether the particles move was not tested: {why}."), found
    held = judge_halves(half_curves(problem, half), problem.images, half, particle)
    gain = held.deformation
    numbers = f"{gain.value:.3g} ± {gain.error:.2g} in log-likelihood a particle"
    agreement: SummaryNotes = {"half_set_agreement": half_agreement(held.latents, config.path)} if len(found.grid) else {}
    notes: SummaryNotes = {
        **agreement, "held_out_gain": gain.value, "held_out_gain_error": gain.error,
        "held_out_rigid_gain": held.rigid.value, "held_out_rigid_gain_error": held.rigid.error, "rigid_share": _rigid_share(problem, found)}
    found = replace(found, notes=found.notes | notes)
    if gain.positive:
        what = "a change of composition explains held-out particles better than none does" if config.vary == "composition" else \
            "a deformation explains held-out particles better than a rigid-body motion, as of wrong poses, does"
        return Verdict(moves=True, sentence=f"The particles differ: {what} ({numbers}).", held_out=held), found
    sentence = f"No motion: held-out particles are explained no better by a change of shape or composition than by wrong poses ({numbers})"
    if held.rigid.positive:
        sentence += f", and these explain {held.rigid.value:.3g} ± {held.rigid.error:.2g}: refine the poses"
    if config.report_still:
        return Verdict(moves=False, sentence=f"{sentence}. The path is reported all the same.", held_out=held), found
    return Verdict(moves=False, sentence=f"{sentence}. No path, free energy or maps along it are given.", held_out=held), without_motion(found)


def path_free_energy(found: Found, of_all: Found, held: HeldOut | None) -> tuple[FreeEnergy, Array, str]:
    """Free energy along the path, the way along it (G,) in Å, and a sentence that says what of it is sure.

    Parameters
    ----------
    found
        One row a particle.
    of_all
        One row an image.
    held
        Half sets, by whose difference the error bars grow.
    """
    basis = found.motion.basis
    way = way_along(found.motion.conformation(found.grid)[0], basis)
    energy = free_energy(found.state_likelihood.astype(float), found.weight, way, basis)
    if held is not None and basis == "polynomial":  # where a circle begins, and the order of states, are free
        energy = inflated(energy, way, [_same_way(item, held.latents[:, number], of_all.latents[:, 0]) for number, item in enumerate(held.landscapes)])
    if energy.flat > _CHANCE:
        return energy, way, "The free energy is flat within its error bars: no well is beyond chance."
    return energy, way, f"The free energy is not flat (chance {energy.flat:.1g})."


def _same_way(item: tuple[FreeEnergy, Array], latents: Array, all_latents: Array) -> tuple[FreeEnergy, Array]:
    """The landscape of a half set, turned round where its path runs the other way."""
    energy, way = item
    if np.corrcoef(latents, all_latents)[0, 1] >= 0:
        return item
    back = FreeEnergy(population=energy.population[::-1], energy_kt=energy.energy_kt[::-1], covariance=energy.covariance[::-1, ::-1])
    return back, way[-1] - way[::-1]


def _rigid_share(problem: Problem, found: Found) -> float:
    """Part of the mean square displacement along the path that is a rigid-body motion of the Gaussians that may move."""
    frames: Sequence[float] | Array = found.grid if len(found.grid) else np.linspace(-2, 2, 5)[:, None] * np.eye(found.latents.shape[1])[0]
    places = torch.from_numpy(np.ascontiguousarray(found.motion.conformation(np.asarray(frames))[0]))
    mean, moves = places.mean(0), problem.moves.cpu()
    whole = (places - mean)[:, moves].square().sum()
    rest = (places - rigid_part(places, mean, torch.from_numpy(found.motion.weights) * moves))[:, moves].square().sum()
    return float(1 - rest / whole) if float(whole) > 0 else 0.0
