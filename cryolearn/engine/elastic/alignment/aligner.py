"""Elastic alignment of a batch of images: global search, coarse refinement of candidates, fine refinement of the best.

The result table of the elastic commands is defined here too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch

from ....common.flags import AlignmentFlag
from ...alignment.fourier_band import FourierBand
from ...alignment.grids import shift_grid
from ...batches import BatchPlan, to_host
from ...imaging.ctf import Ctf, ctf_2d
from ...imaging.fourier import rfft2_centred
from ..modes.deformable_reference import ElasticReference
from .forward_model import ForwardModel, band_to
from .global_search import Candidates, TemplateBank, conformer_grid, search_band
from .levenberg_marquardt import Observed, Refined, refine
from .near_poses import near_candidates
from .tilt_particles import TiltGroups

# ln(1000): another solution is at least a thousandth as likely
_AMBIGUOUS_LOG_LIKELIHOOD = math.log(1000.0)
_SAME_POSE_DEG = 12.0
_COARSE_ITERATIONS = 8
_FINE_ITERATIONS = 6
_FINE_CANDIDATES = 2
# on the CPU, by what its caches hold
_PROJECTIONS_ON_CPU, _COARSE_ON_CPU, _FINE_ON_CPU = 64, 32, 4
_COARSE_CELL_PER_PIXEL = 1.5  # Å of a coarse Gaussian's cell for each Å of the search's pixel


@dataclass(frozen=True)
class ImageModel:
    """How images of a set come about from clean projections, the same for all its images.

    Attributes
    ----------
    noise_power : (box // 2 + 1,) radial power spectrum of the noise, per pixel
    gain : (box // 2 + 1,) radial factor from the reference's projections to the data's (B factor, solvent, detector)
    """

    box: int
    pixel_size_angst: float
    noise_power: torch.Tensor
    gain: torch.Tensor

    def observe(self, images: torch.Tensor, ctf: Ctf | None, band: FourierBand, phase_flipped: bool = False, tilts: TiltGroups | None = None) -> Observed:
        """Whitened samples on a band of images (B, box, box)."""
        white = (2 / (self.noise_power[band.ring] * self.box**2)).sqrt()  # each frequency stands for its Friedel mate too
        data = band.gather(rfft2_centred(images)) * white
        transfer = (white * self.gain[band.ring]).expand(len(images), -1)
        if ctf is not None:
            transfer = transfer * band.gather(ctf_2d(ctf, self.box, self.pixel_size_angst, phase_flipped))
        return Observed(data, transfer, tilts)


@dataclass
class Aligned:
    """Alignment of a batch of images: the best solution of each and how it compares with the runner-up."""

    best: Refined
    margin: torch.Tensor
    flags: torch.Tensor

    def columns(self, unusable: np.ndarray) -> dict[str, np.ndarray]:
        """Columns of the result table (without ``id``), as numpy arrays; ``unusable`` (B,) says which images hold nothing."""
        best = self.best
        spread = torch.diagonal(best.covariance, dim1=1, dim2=2).clamp_min(0).sqrt()
        found = to_host({
            "amplitudes": best.amplitudes,
            "amplitude_sigma": spread[:, best.rigid :],
            "rotation": best.rotation,
            "shift_angst": best.shift_angst,
            "pose_sigma_deg": torch.rad2deg(spread[:, :3].norm(dim=1)),
            "shift_sigma_angst": spread[:, 3 : best.rigid].norm(dim=1),
            "correlation": best.correlation,
            "cost": best.cost,
            "scale": best.scale,
            "margin": self.margin,
            "flags": self.flags,
        })
        return found | {"flags": found["flags"].astype(np.int32) | AlignmentFlag.UNUSABLE_IMAGE * unusable.astype(np.int32)}


@dataclass(frozen=True)
class AlignmentPlans:
    """How many are worked on together at each step of an alignment.

    Attributes
    ----------
    near : projections of the search near given poses
    coarse, fine : images whose Jacobians are held, at the resolution of the search and at full resolution
    """

    near: BatchPlan
    coarse: BatchPlan
    fine: BatchPlan

    @classmethod
    def of(cls, coarse: ForwardModel, fine: ForwardModel) -> AlignmentPlans:
        """Plans for the device of the forward models."""
        device = coarse.reference.coordinates.device
        return cls(
            BatchPlan.fitting("projections near given poses", coarse.bytes_per_projection, device, _PROJECTIONS_ON_CPU),
            BatchPlan.fitting("images refined at low resolution", coarse.bytes_per_problem, device, _COARSE_ON_CPU),
            BatchPlan.fitting("images refined at full resolution", fine.bytes_per_problem, device, _FINE_ON_CPU))


@dataclass(frozen=True, kw_only=True)
class ElasticAligner:
    """Aligns images with an elastic reference; :meth:`build` makes one.

    Attributes
    ----------
    reference : Gaussians and modes
    image_model : box, pixel size, noise and radial gain of the images
    coarse, fine : projections at the resolution of the search and at full resolution
    amplitude_range : largest amplitude of the search; the refinement may leave it by a fifth before it is flagged
    search_pixel_angst : pixel size of the search
    candidates : starting points of each image
    prior_sigma : standard deviation of a zero-mean Gaussian prior on the amplitudes; 0 is none
    phase_flipped : the images are phase flipped
    plans : how many images are worked on together
    bank : templates of the blind search
    """

    reference: ElasticReference
    image_model: ImageModel
    coarse: ForwardModel
    fine: ForwardModel
    amplitude_range: float
    search_pixel_angst: float
    candidates: int
    prior_sigma: float
    phase_flipped: bool
    plans: AlignmentPlans
    bank: TemplateBank | None = None

    @classmethod
    def build(
        cls, reference: ElasticReference, image_model: ImageModel, *, resolution_angst: float = 0.0,
        amplitude_range: float = 250.0, search_pixel_angst: float = 4.0, candidates: int = 8, prior_sigma: float = 0.0,
        phase_flipped: bool = False,
    ) -> ElasticAligner:
        """Aligner without a bank; ``resolution_angst`` is the finest resolution used, 0 is twice the pixel size."""
        device = reference.coordinates.device
        box, pixel = image_model.box, image_model.pixel_size_angst
        coarse = reference.coarse(_COARSE_CELL_PER_PIXEL * search_pixel_angst)
        rough = ForwardModel(coarse, search_band(box, pixel, search_pixel_angst, device), amplitude_range)
        full = ForwardModel(reference, band_to(box, pixel, max(resolution_angst, 2 * pixel), device), amplitude_range)
        return cls(
            reference=reference, image_model=image_model, coarse=rough, fine=full, amplitude_range=amplitude_range, search_pixel_angst=search_pixel_angst,
            candidates=candidates, prior_sigma=prior_sigma, phase_flipped=phase_flipped, plans=AlignmentPlans.of(rough, full))

    def with_bank(self, views: int, conformers_per_mode: int, shift_range_angst: float) -> ElasticAligner:
        """The same aligner, ready for the blind search."""
        grid = conformer_grid(len(self.reference.modes), conformers_per_mode, self.amplitude_range)
        shifts = shift_grid(shift_range_angst, 1.25 * self.search_pixel_angst, corners=True)
        bank = TemplateBank(self.coarse, views=views, conformers=grid, sample_angst=self.search_pixel_angst, shifts=shifts)
        return replace(self, bank=bank, plans=AlignmentPlans.of(self.coarse, self.fine))  # of the memory that the bank leaves

    def with_image_model(self, image_model: ImageModel) -> ElasticAligner:
        """The same aligner for images of another noise and gain."""
        return replace(self, image_model=image_model)

    def observe(self, images: torch.Tensor, ctf: Ctf | None, tilts: TiltGroups | None = None) -> tuple[Observed, Observed]:
        """Whitened samples of images on the coarse and on the fine band; ``tilts`` says which show the same particle."""
        bands = self.coarse.band, self.fine.band
        seen = self.image_model.observe(images, ctf, max(bands, key=len), self.phase_flipped, tilts)
        coarse, fine = (seen.within(len(band)) for band in bands)  # the narrower band is the first part of the wider one
        return coarse, fine

    def align(self, images: torch.Tensor, ctf: Ctf | None) -> Aligned:
        """Blind alignment of images (B, box, box); :meth:`with_bank` comes first."""
        if self.bank is None:
            raise RuntimeError("with_bank() has not been called")
        coarse, fine = self.observe(images, ctf)
        return self.refine_candidates(coarse, fine, self.bank.search(coarse, self.candidates))

    def align_locally(
        self, images: torch.Tensor, ctf: Ctf | None, rotation: torch.Tensor, shift_angst: torch.Tensor, range_deg: float,
        conformers_per_mode: int, tilts: TiltGroups | None = None,
    ) -> Aligned:
        """Alignment near given poses (B, 3, 3) and shifts (B, 2) Å: all conformers, turns up to ``range_deg``.

        With ``tilts`` poses and shifts (B, 3) are those of the particles in the tomogram.
        """
        coarse, fine = self.observe(images, ctf, tilts)
        grid = conformer_grid(len(self.reference.modes), conformers_per_mode, self.amplitude_range).to(images.device)
        start = near_candidates(self.coarse, coarse, (rotation, shift_angst), grid, range_deg, self.candidates, plan=self.plans.near)
        return self.refine_candidates(coarse, fine, start)

    def refine_candidates(self, coarse: Observed, fine: Observed, start: Candidates) -> Aligned:
        """Refine all candidates at low resolution and the best distinct ones at full resolution."""
        batch, count = start.score.shape
        image = torch.arange(batch, device=start.score.device)
        rough = refine(
            self.coarse, coarse, image.repeat_interleave(count), start.flat(), _COARSE_ITERATIONS, prior_sigma=self.prior_sigma, plan=self.plans.coarse,
        )
        keep = self._distinct(rough, batch, count)
        again = keep.shape[1]
        chosen = rough.subset((keep + count * image[:, None]).flatten())
        return self.refine_fine(fine, image.repeat_interleave(again), chosen, batch)

    def refine_fine(self, fine: Observed, image: torch.Tensor, start: Refined, batch: int) -> Aligned:
        """Full-resolution refinement of equally many starts an image, and the choice of the best."""
        end = refine(self.fine, fine, image, start, _FINE_ITERATIONS, prior_sigma=self.prior_sigma, plan=self.plans.fine)
        return choose_best(self, end, batch, None if fine.tilts is None else fine.tilts.images_each)

    def _distinct(self, refined: Refined, batch: int, count: int) -> torch.Tensor:
        """(batch, 2) indices of the best candidate and of the best one that is another solution."""
        order = refined.cost.reshape(batch, count).argsort(1)
        if count == 1:
            return order
        first = order[:, :1]
        offset = count * torch.arange(batch, device=order.device)[:, None]
        same = self.same_solution(refined, (first + offset).expand(-1, count).flatten(), (order + offset).flatten()).reshape(batch, count)
        # the first that differs; where all agree, the second best of the same
        other = torch.where(same, count + 1, torch.arange(count, device=order.device)).min(1).values.clamp(max=count)
        other = torch.where(other == count, torch.ones_like(other), other)
        return torch.cat([first, order.gather(1, other[:, None])], 1)[:, :_FINE_CANDIDATES]

    def same_solution(self, refined: Refined, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Whether solutions ``a`` and ``b`` (indices) agree in pose (12 degrees) and conformer (1 Å RMSD)."""
        product = (refined.rotation[a] * refined.rotation[b]).sum((1, 2))
        near = (product - 1) / 2 > math.cos(math.radians(_SAME_POSE_DEG))
        rmsd = (refined.amplitudes[a] - refined.amplitudes[b]).norm(dim=1) / math.sqrt(self.reference.n_atoms)
        return near & (rmsd < 1.0)


def choose_best(aligner: ElasticAligner, refined: Refined, batch: int, images_each: torch.Tensor | None = None) -> Aligned:
    """Best of the solutions of each particle (``batch`` particles, equally many solutions each), with margin and flags.

    The margin is the log likelihood ratio to the best solution that differs; infinite when there is none. ``images_each`` (batch,) are the tilt images of each.
    """
    count = len(refined.cost) // batch
    cost = refined.cost.reshape(batch, count)
    offset = count * torch.arange(batch, device=cost.device)
    best = cost.argmin(1) + offset
    everyone = torch.arange(batch * count, device=cost.device)
    same = aligner.same_solution(refined, best.repeat_interleave(count), everyone).reshape(batch, count)
    other = torch.where(same, torch.full_like(cost, float("inf")), cost).amin(1)
    chosen = refined.subset(best)
    margin = (other - chosen.cost) / 2
    # each comparison is such that a value that is not a number is flagged
    flags = AlignmentFlag.AMBIGUOUS * (~(margin >= _AMBIGUOUS_LOG_LIKELIHOOD)).long()
    flags |= AlignmentFlag.AMPLITUDE_AT_BOUND * (~(chosen.amplitudes.abs().amax(1) <= 1.2 * aligner.amplitude_range)).long()
    # noise alone reaches a whitened correlation of sqrt(parameters / samples)
    samples = 2 * len(aligner.fine.band) * (torch.ones_like(chosen.cost) if images_each is None else images_each)
    by_chance = 3 * ((refined.rigid + 1 + chosen.amplitudes.shape[1]) / samples).sqrt()
    flags |= AlignmentFlag.LOW_CORRELATION * (~(chosen.correlation >= by_chance)).long()
    flags |= AlignmentFlag.NOT_CONVERGED * (~chosen.converged).long()
    return Aligned(chosen, margin, flags)


def radial_gain(
    forward: ForwardModel, observed: Observed, solved: Refined, box: int, smooth_rings: float = 2.0
) -> torch.Tensor:
    """Radial factor (box // 2 + 1,) that brings the model's spectrum to that of solved images.

    Least squares in each ring over all images, g = sum Re(conj(M) D) / sum |M|^2, smoothed over rings by a Gaussian
    weighted with the denominators; never below 0.02 of its largest value, so that no ring is lost for good.
    """
    rotation, shift = observed.seen(solved.rotation, solved.shift_angst)
    model = forward.project(rotation, observed.each(solved.amplitudes)) * observed.transfer * forward.band.phase(shift)
    model = model * observed.each(solved.scale)[:, None]
    rings = box // 2 + 1
    ring = forward.band.ring

    def by_ring(values: torch.Tensor) -> torch.Tensor:
        return torch.zeros(rings, device=values.device).index_add_(0, ring, values.sum(0))

    above, below = by_ring((model.conj() * observed.data).real), by_ring(model.abs().square())
    index = torch.arange(rings, device=ring.device, dtype=torch.float32)
    kernel = torch.exp(-0.5 * ((index[:, None] - index) / smooth_rings) ** 2)
    gain = (kernel @ above) / (kernel @ below).clamp_min(1e-20)
    return gain.clamp_min(0.02 * float(gain.max()))
