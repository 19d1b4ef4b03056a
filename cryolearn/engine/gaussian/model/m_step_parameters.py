"""What an M-step changes of a moving Gaussian model: displacements and changes of amplitude of the anchors, places and amplitudes of the base."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from .anchored_motion import AnchoredMotion
from .projection import Gaussians

__all__ = ["FreeParameters"]

_DISPLACEMENT_PRIOR_ANGST = 20.0  # standard deviations of what may change; weak beside the data
_PLACE_PRIOR_ANGST = 2.0
_AMPLITUDE_PRIOR = 0.5
_CHANGE_PRIOR = 1.0
_UNITS = {"place": 1.0, "amplitude": 0.2, "change": 0.3}  # steps of similar effect, for the optimiser's sake


class FreeParameters:
    """The parameters in units of similar effect, with normal priors.

    Parameters
    ----------
    motion : its base is free, and its displacements and changes of amplitude where it has them
    bend_unit_angst : a step of the displacements
    """

    def __init__(self, motion: AnchoredMotion, bend_unit_angst: float) -> None:
        self._base, self._bend_unit = motion.base, bend_unit_angst
        self._bend = (motion.bend / bend_unit_angst).requires_grad_(motion.moves_places)
        self._change = (motion.change / _UNITS["change"]).requires_grad_(motion.moves_amplitudes)
        self._place = torch.zeros_like(self._base.positions_angst).requires_grad_()
        self._amplitude = torch.zeros_like(self._base.amplitudes).requires_grad_()

    def base(self) -> Gaussians:
        """The base as the parameters have it now."""
        return replace(self._base, positions_angst=self._base.positions_angst + self._place * _UNITS["place"],
                       amplitudes=self._base.amplitudes * torch.exp(self._amplitude * _UNITS["amplitude"]))

    def bend(self) -> Tensor:
        """Displacements in Å."""
        return self._bend * self._bend_unit

    def change(self) -> Tensor:
        """Relative changes of amplitude."""
        return self._change * _UNITS["change"]

    def penalty(self) -> Tensor:
        """Minus the logarithm of the priors, up to a constant."""
        prior = (self.bend() / _DISPLACEMENT_PRIOR_ANGST).square().sum() + (self.change() / _CHANGE_PRIOR).square().sum()
        prior = prior + (self._place * _UNITS["place"] / _PLACE_PRIOR_ANGST).square().sum()
        return (prior + (self._amplitude * _UNITS["amplitude"] / _AMPLITUDE_PRIOR).square().sum()) / 2

    def minimise(self, objective: Callable[[], float], steps: int) -> tuple[Gaussians, Tensor, Tensor]:
        """Base, displacements and changes where ``objective``, which leaves its gradients in the parameters, is least (L-BFGS)."""
        free = [item for item in (self._bend, self._change, self._place, self._amplitude) if item.requires_grad]
        optimiser = torch.optim.LBFGS(free, max_iter=steps, history_size=20, line_search_fn="strong_wolfe")

        def closure() -> float:
            optimiser.zero_grad()
            return objective()

        with torch.enable_grad():
            optimiser.step(closure)
        with torch.no_grad():
            return self.base(), self.bend().detach(), self.change().detach()
