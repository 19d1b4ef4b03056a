"""Command ``elastic-predict``: pose, shift and mode amplitudes of particle images from a trained network, refined.

Memory does not grow with the set: the network, one batch of images and one batch of Jacobians are all that is held.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ...common.flags import AlignmentFlag
from ..alignment.reference_check import check_images
from ..batches import print_plans, to_host
from ..config import check_config, digest_config, require
from ..device import select_device
from ..exceptions import InputError
from ..figures import error_histogram, save_figure
from ..imaging.ctf import Ctf
from ..imaging.first_images import ImageUse
from ..io.records import RunRecord
from ..io.star import read_particles
from ..launch import is_first_process
from ..training.network_input import NetworkInput
from ..training.particle_images import ParticleImages
from .alignment.aligner import ElasticAligner, choose_best
from .alignment.levenberg_marquardt import ElasticPose, Observed, Refined, refine
from .alignment.noise_and_gain import CALIBRATION_ROUNDS, flat_model, solve_set
from .config import ElasticPredictConfig
from .modes.deformable_reference import ElasticReference
from .network.architectures import AmplitudeResNet34, MultiNetwork
from .network.refine_hypotheses import Start, distinct_hypotheses, refine_hypotheses
from .network.trained_model import ElasticModel
from .network.training_task import weighted_amplitudes
from .report.write_results import write_alignment

_SEARCH_PIXEL_ANGST = 4.0
_CELLS = 32  # most probable cells that hypotheses are chosen from


def run(config: ElasticPredictConfig) -> None:
    """Predict a particle set; killed work goes on after its last chunk, several processes share the chunks."""
    check_config(config)
    require(config, "particles", "model")
    device = select_device(config)
    model = ElasticModel.load(config.model, device)
    network, scheme, numbers = model.network, model.scheme, model.mode_numbers
    table = read_particles(config.particles, datadir=config.datadir)
    model.check(table)
    reference = ElasticReference.from_modes(model.modes(), numbers, device)
    reach = reference.radius_angst(model.amplitude_range) + model.shift_range_angst
    images = ParticleImages(table, reach, device, invert_contrast=config.invert_contrast, ignore_ctf=scheme.ignore_ctf)
    if isinstance(network, AmplitudeResNet34) and config.refine and table.angles_deg is None:
        raise InputError(
            "This network (resnet34) predicts amplitudes only, and the particles carry no poses to refine: give particles with "
            "poses, or choose no refinement."
        )
    use = ImageUse(invert_contrast=config.invert_contrast, ignore_ctf=scheme.ignore_ctf, phase_flipped=scheme.phase_flipped)
    check_images(table, reference.expected(config.refine and isinstance(network, AmplitudeResNet34), 2 * table.pixel_size_angst), use)
    aligner = ElasticAligner.build(
        reference, flat_model(images), amplitude_range=model.amplitude_range,
        # the network's answers are as coarse as its pixels, and the first refinement must not look finer than they are
        search_pixel_angst=max(_SEARCH_PIXEL_ANGST, table.pixel_size_angst, scheme.network_pixel_angst), phase_flipped=scheme.phase_flipped,
    )
    if is_first_process():
        print_plans([aligner.plans.coarse, aligner.plans.fine] if config.refine else [aligner.plans.coarse])
    predictor = _Predictor(config, network, scheme, images, model.hypotheses)
    record = RunRecord(config.output, "prediction", digest_config(config, table.files()))
    columns = solve_set(predictor, aligner, images, record, config, rounds=CALIBRATION_ROUNDS if config.refine else 0)
    if columns is None:
        return
    out = Path(config.output)
    notes = {"digest": record.digest, "atoms": reference.n_atoms, "model_digest": model.description["digest"], "refined": config.refine}
    write_alignment(out, table, columns, numbers, notes)
    if config.refine:
        change = np.abs(columns["network_amplitudes"] - columns["amplitudes"])
        curves = {f"mode {number}": change[:, k] for k, number in enumerate(numbers)}
        figure = error_histogram(curves, title="How far the refinement moved the network's amplitudes")
        save_figure(figure, str(out / "figures" / "refinement.png"))
    record.remove()


@dataclass(frozen=True)
class _Predictor:
    """The network's answer for every image, refined when it is asked for."""

    config: ElasticPredictConfig
    network: MultiNetwork | AmplitudeResNet34
    scheme: NetworkInput
    images: ParticleImages
    hypotheses: int

    def columns(self, aligner: ElasticAligner, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Columns of the result table, the network's own answer in ``network_*``."""
        data, ctf = self.images.read(rows)
        start, own = self._start(data, ctf, rows)
        coarse, fine = aligner.observe(data, ctf)
        if not self.config.refine:
            return {**self._as_predicted(aligner, coarse, own, self.images.unusable[rows]), **own}
        return {**refine_hypotheses(aligner, coarse, fine, start, self.config.refine_iterations).columns(self.images.unusable[rows]), **own}

    def solve(self, aligner: ElasticAligner, images: torch.Tensor, ctf: Ctf | None, rows: np.ndarray) -> Refined:
        start, _ = self._start(images, ctf, rows)
        return refine_hypotheses(aligner, *aligner.observe(images, ctf), start, self.config.refine_iterations).best

    @torch.no_grad()
    def _start(self, data: torch.Tensor, ctf: Ctf | None, rows: np.ndarray) -> tuple[Start, dict[str, np.ndarray]]:
        inputs = self.scheme.from_images(data, ctf)
        if isinstance(self.network, AmplitudeResNet34):
            amplitudes = self.network(inputs) * self.network.amplitude_unit
            rotation, shift = self.images.poses(rows)
            alone = torch.ones(len(rows), 1, device=data.device)
            start = Start(rotation=rotation[:, None], shift_angst=shift[:, None], amplitudes=amplitudes[:, None], probability=alone)
            scale = torch.full_like(amplitudes, float("nan"))
        else:
            found = self.network(inputs, min(_CELLS, self.network.cells.shape[0]))
            amplitudes, scale = weighted_amplitudes(found)
            rotation, shift = found.rotation[:, 0], found.shift_angst[:, 0]
            start = distinct_hypotheses(found, self.hypotheses)
        own = to_host({
            "network_amplitudes": amplitudes, "network_amplitude_sigma": scale, "network_rotation": rotation, "network_shift_angst": shift,
            "network_probability": start.probability[:, 0],
        })
        answer = (own[f"network_{name}"].reshape(len(rows), -1) for name in ("amplitudes", "rotation", "shift_angst"))
        bad = np.flatnonzero(~np.isfinite(np.concatenate(list(answer), 1)).all(1))
        if len(bad):
            particle = self.images.table.ids[rows[bad[0]]]
            raise InputError(f"The answer of the network '{self.config.model}' for particle {particle} is not a number: the model is damaged; train it again.")
        return start, own

    def _as_predicted(self, aligner: ElasticAligner, coarse: Observed, own: dict[str, np.ndarray], unusable: np.ndarray) -> dict[str, np.ndarray]:
        """Columns of the result table from the network's answer as it is, with its agreement with the image at low resolution."""
        index = torch.arange(len(coarse.data), device=coarse.data.device)
        names = ("rotation", "shift_angst", "amplitudes", "amplitude_sigma")
        predicted = ElasticPose(**{name: torch.from_numpy(own[f"network_{name}"]).to(index.device) for name in names[:3]})
        judged = refine(aligner.coarse, coarse, index, predicted, iterations=0, plan=aligner.plans.coarse)
        columns = choose_best(aligner, judged, len(index)).columns(unusable)
        columns |= {name: own[f"network_{name}"] for name in names}
        # no step was made that could converge; without poses the amplitudes are all that is known
        poses = isinstance(self.network, MultiNetwork) or self.images.table.angles_deg is not None
        columns["flags"] = columns["flags"] & ~AlignmentFlag.NOT_CONVERGED if poses else columns["flags"] | AlignmentFlag.NOT_CONVERGED
        return columns
