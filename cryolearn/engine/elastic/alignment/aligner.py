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
from ...imaging.ctf import Ctf, ctf_2d
from ...imaging.fourier import rfft2_centred
from ...imaging.poses import random_rotations, so3_exp
from ..modes.deformable_reference import ElasticReference
from .forward_model import ForwardModel, band_to
from .global_search import Candidates, TemplateBank, conformer_grid, search_band
from .levenberg_marquardt import Observed, Refined, refine
from .tilt_particles import TiltGroups

# ln(1000): another solution is at least a thousandth as likely
_AMBIGUOUS_LOG_LIKELIHOOD = math.log(1000.0)
_SAME_POSE_DEG = 12.0
_COARSE_ITERATIONS = 8
_FINE_ITERATIONS = 6
_FINE_CANDIDATES = 2
_SEARCH_TILTS = 9  # of a particle that the local search looks at; the refinement takes all
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
        spread = torch.diagonal(self.best.covariance, dim1=1, dim2=2).clamp_min(0).sqrt().cpu().numpy()

        def array(tensor: torch.Tensor) -> np.ndarray:
            return tensor.cpu().numpy()

        return {
            "amplitudes": array(self.best.amplitudes),
            "amplitude_sigma": spread[:, self.best.rigid :],
            "rotation": array(self.best.rotation),
            "shift_angst": array(self.best.shift_angst),
            "pose_sigma_deg": np.rad2deg(np.sqrt((spread[:, :3] ** 2).sum(1))),
            "shift_sigma_angst": np.sqrt((spread[:, 3 : self.best.rigid] ** 2).sum(1)),
            "correlation": array(self.best.correlation),
            "cost": array(self.best.cost),
            "scale": array(self.best.scale),
            "margin": array(self.margin),
            "flags": array(self.flags).astype(np.int32) | AlignmentFlag.UNUSABLE_IMAGE * unusable.astype(np.int32),
        }


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
        fine_band = band_to(box, pixel, max(resolution_angst, 2 * pixel), device)
        return cls(
            reference=reference, image_model=image_model, coarse=ForwardModel(coarse, search_band(box, pixel, search_pixel_angst, device), amplitude_range),
            fine=ForwardModel(reference, fine_band, amplitude_range), amplitude_range=amplitude_range, search_pixel_angst=search_pixel_angst,
            candidates=candidates, prior_sigma=prior_sigma, phase_flipped=phase_flipped)

    def with_bank(self, views: int, conformers_per_mode: int, shift_range_angst: float) -> ElasticAligner:
        """The same aligner, ready for the blind search."""
        grid = conformer_grid(len(self.reference.modes), conformers_per_mode, self.amplitude_range)
        shifts = shift_grid(shift_range_angst, 1.25 * self.search_pixel_angst, corners=True)
        return replace(self, bank=TemplateBank(self.coarse, views=views, conformers=grid, sample_angst=self.search_pixel_angst, shifts=shifts))

    def with_image_model(self, image_model: ImageModel) -> ElasticAligner:
        """The same aligner for images of another noise and gain."""
        return replace(self, image_model=image_model)

    def observe(self, images: torch.Tensor, ctf: Ctf | None, tilts: TiltGroups | None = None) -> tuple[Observed, Observed]:
        """Whitened samples of images on the coarse and on the fine band; ``tilts`` says which show the same particle."""
        model = self.image_model
        return (
            model.observe(images, ctf, self.coarse.band, self.phase_flipped, tilts),
            model.observe(images, ctf, self.fine.band, self.phase_flipped, tilts),
        )

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
        turns = _local_turns(range_deg).to(images.device)
        found = [
            self._local_candidates(coarse.subset(torch.tensor([i], device=images.device)), rotation[i], shift_angst[i], grid, turns)
            for i in range(len(coarse))
        ]
        return self.refine_candidates(coarse, fine, Candidates.stack(found))

    def _local_candidates(
        self, observed: Observed, rotation: torch.Tensor, shift: torch.Tensor, grid: torch.Tensor, turns: torch.Tensor
    ) -> Candidates:
        observed = observed.thinned(_SEARCH_TILTS)
        poses = (turns @ rotation).repeat_interleave(len(grid), 0)
        amplitudes = grid.repeat(len(turns), 1)
        tilt, moved = observed.seen(torch.eye(3, device=shift.device)[None], shift[None])
        data = observed.data * self.coarse.band.phase(-moved)
        scores = []
        at_once = max(1, 64 // len(data))
        for some_poses, some_amplitudes in zip(poses.split(at_once), amplitudes.split(at_once), strict=True):
            seen = (tilt @ some_poses[:, None]).flatten(0, 1)
            model = self.coarse.project(seen, some_amplitudes.repeat_interleave(len(tilt), 0)).unflatten(0, (-1, len(tilt))) * observed.transfer
            scores.append((model.conj() * data).real.sum((1, 2)) / model.abs().square().sum((1, 2)).clamp_min(1e-20).sqrt())
        score, order = torch.cat(scores).topk(min(self.candidates, len(poses)))
        return Candidates(rotation=poses[order], shift_angst=shift.expand(len(order), -1), amplitudes=amplitudes[order], score=score)

    def refine_candidates(self, coarse: Observed, fine: Observed, start: Candidates) -> Aligned:
        """Refine all candidates at low resolution and the best distinct ones at full resolution."""
        batch, count = start.score.shape
        image = torch.arange(batch, device=start.score.device)
        rough = refine(
            self.coarse, coarse, image.repeat_interleave(count), start.flat(), _COARSE_ITERATIONS, prior_sigma=self.prior_sigma, problems_at_once=32,
        )
        keep = self._distinct(rough, batch, count)
        again = keep.shape[1]
        chosen = rough.subset((keep + count * image[:, None]).flatten())
        return self.refine_fine(fine, image.repeat_interleave(again), chosen, batch)

    def refine_fine(self, fine: Observed, image: torch.Tensor, start: Refined, batch: int) -> Aligned:
        """Full-resolution refinement of equally many starts an image, and the choice of the best."""
        end = refine(self.fine, fine, image, start, _FINE_ITERATIONS, prior_sigma=self.prior_sigma, problems_at_once=4)
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


def _local_turns(range_deg: float) -> torch.Tensor:
    """Rotations within ``range_deg`` of none: none itself and shells of random, but always the same, axes."""
    generator = torch.Generator().manual_seed(0)
    shells = max(0, round(range_deg / 10.0))
    turns = [torch.eye(3)[None]]
    for shell in range(1, shells + 1):
        axes = random_rotations(6 * shell**2, generator)[:, :, 2].float()
        turns.append(so3_exp(axes * math.radians(range_deg * shell / shells)))
    return torch.cat(turns)


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
