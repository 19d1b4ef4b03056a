"""The exact read-out against the paper's, trained on images: same trunk, same images, same optimiser, same number of steps, several seeds.

The paper reads a distance of two features as ``2 acos(cos(f, f'))``, which no features can make right; the exact read-out is
``acos((3 <f, f'> - 1) / 2)``. Both stand here on the paper's trunk, and both on the trunk of this software. Judged on images that the network
has not seen, as read out and after the calibration that both are given, by mean absolute error, by what is left of a plateau, and by the
orientations that are recovered from the distances.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
import torch
from _orientation import DistanceErrors, arguments, judge_distances, judge_orientations, target
from _orientation_data import Imaging, Specimen, paper_specimen
from _results import RESULTS
from _run import merge_table

from cryolearn.engine.orientation.config import DistanceTrainConfig
from cryolearn.engine.orientation.distance_network.distance_calibration import fit_calibration
from cryolearn.engine.orientation.distance_network.distance_readout import ExactReadout, PaperReadout, Readout
from cryolearn.engine.orientation.distance_network.image_statistics import simulated_appearance
from cryolearn.engine.orientation.distance_network.network_exact import RingNetwork
from cryolearn.engine.orientation.distance_network.network_paper import PaperNetwork
from cryolearn.engine.orientation.distance_network.pair_sampling import DistanceWeights, largest_distance
from cryolearn.engine.orientation.distance_network.projected_maps import ProjectedMaps
from cryolearn.engine.orientation.distance_network.training_simulator import ImageSimulator, Samples
from cryolearn.engine.orientation.distance_network.training_task import DistanceTask
from cryolearn.engine.orientation.recovery.recover_from_distances import recover
from cryolearn.engine.orientation.similarity_kernel import SimilarityKernel

BLOCK = 16
TRUNKS = ("paper's trunk", "this software's trunk")
SETTINGS = {  # side of the input of each trunk, seeds, steps of each trunk, blocks of 16 images a step, images to validate and to test on
    "laptop": ((32, 64), (1, 2), (3000, 600), 4, 512, 512),
    "paper": ((128, 64), (1, 2, 3, 4, 5), (25000, 25000), 32, 838, 1650),
}


def make_network(trunk: str, exact: bool, kernel: SimilarityKernel, size: int, radius_px: float) -> torch.nn.Module:
    if trunk == TRUNKS[0]:
        network = PaperNetwork(kernel.dimension if exact else 0)
        for layer in network.modules():  # seven layers without normalisation: smaller values at the start make all images look alike
            if isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear)):
                torch.nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                torch.nn.init.zeros_(layer.bias)
        return network
    return RingNetwork(kernel, size=size, radius_px=radius_px)


def make_optimiser(trunk: str, network: torch.nn.Module, steps: int) -> tuple[torch.optim.Optimizer, Callable[[], None]]:
    """AdamW with a rate that rises and falls to nothing (the paper's trunk learns nothing in few steps of its RMSprop)."""
    rate = 3e-4 if trunk == TRUNKS[0] else 2e-3
    optimiser = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=1e-5)
    return optimiser, torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps).step


def simulator(specimen: Specimen, imaging: Imaging, size: int, kernel: SimilarityKernel, seed: int, device: torch.device) -> tuple[ImageSimulator, float]:
    """Images drawn anew, and the particle's radius in pixels of the network's input."""
    maps = ProjectedMaps([str(specimen.path)], [], box=specimen.box, pixel_size_angst=specimen.pixel, size=size, device=device, seed=1)
    config = DistanceTrainConfig(snr=imaging.snr(specimen.box), ignore_ctf=True)
    appearance = simulated_appearance(config, specimen.box, specimen.pixel, size, maps.power, None)
    draws = ImageSimulator(maps, appearance, None, snr_factor=1.0, shift_range_angst=specimen.pixel, largest_rad=largest_distance(kernel), seed=seed)
    return draws, maps.radius_angst / maps.pixel_angst


@torch.no_grad()
def features(network: torch.nn.Module, samples: Samples) -> torch.Tensor:
    network.eval()
    return torch.cat([network(images)[0] for images in samples.images.split(128)])


def judge(readout: Readout, similarity: torch.Tensor, true: torch.Tensor, validation: tuple[torch.Tensor, torch.Tensor], largest: float,
          ) -> tuple[DistanceErrors, DistanceErrors, torch.Tensor]:
    """Errors as read out and calibrated, and the calibrated distances."""
    known = [values.flatten().cpu().double().numpy() for values in validation]
    calibration = fit_calibration(known[0], np.ones_like(known[0]), known[1], largest)
    calibrated = calibration.apply(similarity.double(), torch.ones_like(similarity.double()))[0]
    raw = readout.distance_rad(similarity)
    pairs = torch.triu_indices(len(true), len(true), 1).unbind()
    errors = [judge_distances(true[pairs].numpy(), found.cpu()[pairs].numpy()) for found in (raw, calibrated)]
    return errors[0], errors[1], calibrated


def experiment(options: argparse.Namespace, trunk: str, exact: bool, imaging: Imaging, seed: int) -> dict[str, object]:
    """Train one network and judge it."""
    sizes, _, steps, blocks, known, tested = SETTINGS[options.scale]
    size = sizes[TRUNKS.index(trunk)]
    device = torch.device("cuda" if options.use_gpu else "cpu")
    specimen = paper_specimen(options, "5j0n")
    kernel = SimilarityKernel("C1")
    source, radius_px = simulator(specimen, imaging, size, kernel, seed, device)
    torch.manual_seed(seed)
    network = make_network(trunk, exact, kernel, size, radius_px).to(device)
    readout: Readout = ExactReadout(kernel) if exact else PaperReadout()
    largest = largest_distance(kernel)
    task = DistanceTask(network, source, kernel, readout, DistanceWeights(kernel, largest, BLOCK))
    total = steps[TRUNKS.index(trunk)]
    optimiser, schedule = make_optimiser(trunk, network, total)
    for step in range(total):
        optimiser.zero_grad()
        loss = task.training_loss([(step * blocks + number, BLOCK) for number in range(blocks)])
        loss.backward()
        optimiser.step()
        schedule()
        if (step + 1) % max(1, total // 10) == 0:
            print(f"{trunk}, {'exact' if exact else 'paper'} read-out, seed {seed}: step {step + 1} of {total}, loss {float(loss.detach()):.4f}", flush=True)
    unseen, _ = simulator(specimen, imaging, size, kernel, 1000 + seed, device)
    first = total * blocks + 1  # numbers of blocks that training has not drawn
    found = []
    for count, offset in ((known, 0), (tested, 100_000)):
        samples = unseen.draw([(first + offset + number, 1) for number in range(count)])  # single images: uniform on SO(3)
        feature = features(network, samples)
        true = kernel.distance_rad(samples.rotation[:, None].cpu().double(), samples.rotation[None].cpu().double())
        found.append(((feature @ feature.T).cpu(), true, samples.rotation.cpu().double()))
    off = ~torch.eye(known, dtype=torch.bool)
    raw, calibrated, distance = judge(readout, found[1][0], found[1][1], (found[0][0][off], found[0][1][off]), largest)
    recovered = recover(distance.numpy(), np.arange(tested), None, kernel, 25, seed)
    errors = judge_orientations(found[1][2].numpy(), recovered.rotations, "C1")
    row = {
        "trunk": trunk, "readout": "exact" if exact else "paper", "noise": imaging.noise, "seed": seed, "mae": raw.mae_uniform, "far": raw.far,
        "slope": raw.slope, "mae_calibrated": calibrated.mae_uniform, "slope_calibrated": calibrated.slope, "error_or": errors.o4_mean,
        "scale": options.scale,
    }
    print(row, flush=True)
    merge_table(RESULTS / "orientation_readout.csv", [row], ("trunk", "readout", "noise", "seed", "scale"))
    return row


def record_trunk(options: argparse.Namespace, trunk: str, noise: float, rows: list[dict[str, object]]) -> None:
    sizes, _, steps, blocks, _, tested = SETTINGS[options.scale]
    size = sizes[TRUNKS.index(trunk)]

    def values(readout: str, name: str) -> list[float]:
        return [float(row[name]) for row in rows if row["readout"] == readout]  # type: ignore[arg-type]

    images = steps[TRUNKS.index(trunk)] * blocks * BLOCK
    condition = f"5j0n, {trunk}, input {size} px, noise {noise:g}, {images} images drawn anew, {len(values('exact', 'mae'))} seeds, {tested} unseen images"
    for name, what in (("mae", "distance MAE as read out"), ("mae_calibrated", "distance MAE after calibration"), ("error_or", "E_OR from the distances")):
        mine, theirs = values("exact", name), values("paper", name)
        text = f"{np.mean(mine):.3f} ({', '.join(f'{x:.3f}' for x in mine)}) rad; paper's {np.mean(theirs):.3f} ({', '.join(f'{x:.3f}' for x in theirs)})"
        target(options, f"exact read-out against the paper's: {what}", condition, "below the paper's", text, float(np.mean(mine)) < float(np.mean(theirs)))
    slope, other = values("exact", "slope"), values("paper", "slope")
    target(options, "exact read-out against the paper's: slope at the far end", condition, "> 0.5 (1 no plateau, 0 plateau)",
           f"{np.mean(slope):.2f}; paper's {np.mean(other):.2f}, whose mean distance there is {np.mean(values('paper', 'far')):.2f} rad",
           float(np.mean(slope)) > 0.5)


def main() -> None:
    options = arguments(__doc__ or "")
    for trunk in TRUNKS:
        for noise in (0.0, 16.0):
            if options.only and trunk not in options.only and f"{trunk}, noise {noise:g}" not in options.only:
                continue
            rows = [experiment(options, trunk, exact, Imaging(noise), seed) for seed in SETTINGS[options.scale][1] for exact in (True, False)]
            record_trunk(options, trunk, noise, rows)


if __name__ == "__main__":
    main()
