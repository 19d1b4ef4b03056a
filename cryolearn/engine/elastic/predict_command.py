"""Command ``elastic-predict``: pose, shift and mode amplitudes of particle images from a trained network, refined.

Memory does not grow with the set: the network, one batch of images and one batch of Jacobians are all that is held.
"""

from __future__ import annotations

from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...common.flags import AlignmentFlag
from ...common.limits import same_pixel_size
from ..config import check_config, digest_config, digest_file, require
from ..device import select_device
from ..exceptions import InputError
from ..figures import error_histogram, save_figure
from ..io.models import load_model
from ..io.modes import read_modes
from ..io.records import RunRecord
from ..io.star import ParticleTable, read_particles
from ..training.network_input import NetworkInput
from ..training.particle_images import ParticleImages
from .alignment.aligner import ElasticAligner, ImageModel, choose_best
from .alignment.levenberg_marquardt import ElasticPose, Observed, Refined, refine
from .alignment.noise_and_gain import calibrate, flat_model, read_calibration, write_calibration
from .config import ElasticPredictConfig
from .modes.deformable_reference import ElasticReference
from .network.architectures import AmplitudeResNet34, MultiNetwork
from .network.refine_hypotheses import Start, distinct_hypotheses, refine_hypotheses
from .network.training_task import weighted_amplitudes
from .report.write_results import write_alignment
from .train_command import build_network

_CALIBRATION_ROUNDS = 2
_SEARCH_PIXEL_ANGST = 4.0
_CELLS = 32  # most probable cells that hypotheses are chosen from


def run(config: ElasticPredictConfig) -> None:
    """Predict a particle set; killed work goes on after its last chunk, several processes share the chunks."""
    check_config(config)
    require(config, "particles", "model")
    device = select_device(config)
    weights, description = load_model(config.model)
    table = read_particles(config.particles)
    check_model(config.model, description, table)
    numbers = [int(number) for number in description["mode_numbers"]]
    modes = str(Path(config.model) / "modes.npz")
    reference = ElasticReference.from_modes(read_modes(modes), numbers, device)
    scheme = NetworkInput.from_dict(description["input"])
    network = build_network(description["architecture"], description["arguments"])
    network.load_state_dict(weights)
    network.to(device).eval()
    reach = reference.radius_angst(description["amplitude_range"]) + description["shift_range_angst"]
    images = ParticleImages(table, reach, device, invert_contrast=config.invert_contrast, ignore_ctf=scheme.ignore_ctf)
    if isinstance(network, AmplitudeResNet34) and config.refine and table.angles_deg is None:
        raise InputError(
            "This network (resnet34) predicts amplitudes only, and the particles carry no poses to refine: give particles with "
            "poses, or choose no refinement."
        )
    predictor = _Predictor(config, network, scheme, images, reference, description)
    out = Path(config.output)
    digest = digest_config(config, tuple(table.image_file))
    record = RunRecord(out, "prediction", digest)
    calibration = record.once("calibration.npz", lambda path: write_calibration(path, predictor.calibrate()))
    predictor = predictor.calibrated(read_calibration(calibration, images))
    columns = record.in_chunks(table.ids, config.chunk, predictor.columns, "prediction", config.batch)
    if columns is None:
        return
    meta = {"digest": digest, "box": table.box, "pixel_size_angst": table.pixel_size_angst, "atoms": reference.n_atoms}
    meta |= {"model_digest": description["digest"], "refined": config.refine}
    write_alignment(out, table, columns, meta, numbers)
    if config.refine:
        change = np.abs(columns["network_amplitudes"] - columns["amplitudes"])
        curves = {f"mode {number}": change[:, k] for k, number in enumerate(numbers)}
        figure = error_histogram(curves, title="How far the refinement moved the network's amplitudes")
        save_figure(figure, str(out / "figures" / "refinement.png"))
    record.remove()


def check_model(folder: str, description: dict[str, Any], table: ParticleTable) -> None:
    """Refuse particles that the network was not trained for, and a model whose modes are not its own.

    Raises
    ------
    InputError
        naming what differs, with both values.
    """
    missing = [name for name in ("architecture", "arguments", "input", "mode_numbers", "box", "pixel_size_angst", "reference") if name not in description]
    if missing:
        raise InputError(f"'{folder}' is not an elastic network: its model.json has no '{missing[0]}'.")
    if table.box != description["box"]:
        raise InputError(
            f"The particles have a box of {table.box} px, but the network was trained for {description['box']} px: give particles of "
            "that box, or train another network."
        )
    pixel = float(description["pixel_size_angst"])
    if not same_pixel_size(table.pixel_size_angst, pixel):
        raise InputError(
            f"The particles have {table.pixel_size_angst:g} Å/px, but the network was trained for {pixel:g} Å/px: give particles of that "
            "pixel size, or train another network."
        )
    modes = Path(folder) / "modes.npz"
    if not modes.exists():
        raise InputError(f"The model '{folder}' has lost its modes.npz: train it again, or copy the modes that it was trained with.")
    found = digest_file(str(modes))
    if found != description["reference"]:
        raise InputError(
            f"The modes.npz in the model '{folder}' have the digest {found}, but the network was trained with those of "
            f"{description['reference']}: put the right modes back."
        )


class _Predictor:
    """Columns of the result table for given rows of a set."""

    def __init__(
        self, config: ElasticPredictConfig, network: MultiNetwork | AmplitudeResNet34, scheme: NetworkInput, images: ParticleImages,
        reference: ElasticReference, description: dict[str, Any],
    ) -> None:
        self._config, self._network, self._scheme, self._images = config, network, scheme, images
        self._hypotheses = int(description["hypotheses"])
        self._aligner = ElasticAligner.build(
            reference, flat_model(images), amplitude_range=description["amplitude_range"],
            # the network's answers are as coarse as its pixels, and the first refinement must not look finer than they are
            search_pixel_angst=max(_SEARCH_PIXEL_ANGST, images.table.pixel_size_angst, scheme.network_pixel_angst), phase_flipped=scheme.phase_flipped,
        )

    def columns(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Columns of the result table, the network's own answer in ``network_*``."""
        data, ctf = self._images.read(rows)
        start, own = self._start(data, ctf, rows)
        coarse, fine = self._aligner.observe(data, ctf)
        if not self._config.refine:
            return {**self._as_predicted(coarse, own), **own}
        return {**refine_hypotheses(self._aligner, coarse, fine, start, self._config.refine_iterations).columns(), **own}

    @torch.no_grad()
    def _start(self, data: torch.Tensor, ctf: Any, rows: np.ndarray) -> tuple[Start, dict[str, np.ndarray]]:
        inputs = self._scheme.from_images(data, ctf)
        if isinstance(self._network, AmplitudeResNet34):
            amplitudes = self._network(inputs) * self._network.amplitude_unit
            rotation, shift = self._images.poses(rows)
            alone = torch.ones(len(rows), 1, device=data.device)
            start = Start(rotation=rotation[:, None], shift_angst=shift[:, None], amplitudes=amplitudes[:, None], probability=alone)
            scale = torch.full_like(amplitudes, float("nan"))
        else:
            cells = min(_CELLS, self._network.cells.shape[0])
            found = self._network(inputs, cells)
            amplitudes, scale = weighted_amplitudes(found)
            rotation, shift = found.rotation[:, 0], found.shift_angst[:, 0]
            start = distinct_hypotheses(found, self._hypotheses)
        own = {"amplitudes": amplitudes, "amplitude_sigma": scale, "rotation": rotation, "shift_angst": shift, "probability": start.probability[:, 0]}
        return start, {f"network_{name}": values.cpu().numpy() for name, values in own.items()}

    def calibrate(self) -> ImageModel:
        """Noise spectrum and radial gain of the set, from a sample that is predicted and refined for the purpose."""
        def solve(aligner: ElasticAligner, data: torch.Tensor, ctf: Any, rows: np.ndarray) -> Refined:
            start, _ = self._start(data, ctf, rows)
            return refine_hypotheses(aligner, *aligner.observe(data, ctf), start, self._config.refine_iterations).best

        return calibrate(self._aligner, self._images, solve, _CALIBRATION_ROUNDS if self._config.refine else 0, self._config.batch)

    def calibrated(self, image_model: ImageModel) -> _Predictor:
        """The same predictor for images of this noise and gain."""
        other = copy(self)
        other._aligner = self._aligner.with_image_model(image_model)
        return other

    def _as_predicted(self, coarse: Observed, own: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Columns of the result table from the network's answer as it is, with its agreement with the image at low resolution."""
        index = torch.arange(len(coarse.data), device=coarse.data.device)
        names = ("rotation", "shift_angst", "amplitudes", "amplitude_sigma")
        predicted = ElasticPose(**{name: torch.from_numpy(own[f"network_{name}"]).to(index.device) for name in names[:3]})
        judged = refine(self._aligner.coarse, coarse, index, predicted, iterations=0, problems_at_once=32)
        columns = choose_best(self._aligner, judged, len(index)).columns()
        columns |= {name: own[f"network_{name}"] for name in names}
        # no step was made that could converge; without poses the amplitudes are all that is known
        poses = isinstance(self._network, MultiNetwork) or self._images.table.angles_deg is not None
        columns["flags"] = columns["flags"] & ~AlignmentFlag.NOT_CONVERGED if poses else columns["flags"] | AlignmentFlag.NOT_CONVERGED
        return columns
