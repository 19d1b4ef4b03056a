"""Parameters of the commands on map enhancement (standard library only)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List

from .. import shared_parameters as shared
from ..config import RunConfig, param


@dataclass
class MapTrainConfig(RunConfig):
    """Train a network that sharpens maps: from degraded density to the density of an atomic model.

    Writes ``model/`` (``weights.safetensors``, ``model.json``), ``manifest.csv`` (which model was learned from, kept for validation, or left out and why),
    ``validation_fsc.csv``, ``learning.csv``, ``summary.json``, ``checkpoints/`` and ``figures/``.
    """

    structures: List[str] = param([], "Atomic models (PDB or mmCIF) whose density is learned.", path=True)
    exclude: List[str] = param([], "Atomic models that the network will be tested on: relatives of theirs are not learned from.", path=True)
    input_maps: List[str] = param([], "Maps to learn from as they are, in pairs with target_maps; on the same grid.", path=True)
    target_maps: List[str] = param([], "What the input maps should become, in the same order.", path=True)
    coefficients: List[str] = param([], "X-ray map coefficients (MTZ) whose density is degraded in the paper's way.", path=True)
    coefficient_models: List[str] = param([], "Atomic models of the map coefficients, in the same order: they say where the molecule is.", path=True)
    preset: str = param("residual", "'residual': signed density, no normalisation, told the resolution (default); 'paper': the 3D U-Net of Mullick et al.",
                        label="Network", choices=("residual", "paper"))
    degradation: str = param("physics", "'physics': spread of B factors, coloured noise of half maps, solvent, micelle, masks, as cryo-EM maps have them; 'paper': dilation "
                             "by a ball, Gaussian blur and noise, on X-ray density.", label="Degradation", choices=("physics", "paper"))
    voxel_angst: float = param(0.0, "Voxel size that the network works at; 0 takes 0.6 Å for the degradation 'paper', else 0.7 Å when no input is coarser than 2.5 Å, "
                               "else 1 Å.", label="Voxel size", unit="Å", low=0, high=4)
    finest_angst: float = param(2.5, "Finest resolution of the inputs of 'physics'.", label="Finest input", unit="Å", low=1, high=20)
    coarsest_angst: float = param(6.0, "Coarsest resolution of the inputs of 'physics'.", label="Coarsest input", unit="Å", low=1, high=20)
    ball_radius_px: int = param(2, "Radius of the ball that dilates the density, degradation 'paper'.", label="Ball radius", unit="voxels", low=0, high=8, expert=True)
    blur_angst: float = param(1.2, "Standard deviation of the Gaussian blur, degradation 'paper'.", label="Blur", unit="Å", low=0, high=10, expert=True)
    noise_sd: float = param(0.1, "Standard deviation of the noise over that of the blurred density, degradation 'paper'.", label="Noise", low=0, high=10, expert=True)
    patch_px: int = param(0, "Side of the patches (a multiple of 16); 0 takes 48, and 128 for the network 'paper'.", label="Patch", unit="voxels", low=0, high=256, expert=True)
    width: int = param(0, "Channels of the first stage; 0 takes 32, and 64 for the network 'paper'.", label="Width", low=0, high=256, expert=True)
    e_value: float = param(1e-3, "Models with chains that align this well or better (expected number of such chance hits) are relatives: they never stand on both sides.",
                           label="Relatives' E value", low=0, high=10, expert=True)
    validation_fraction: float = shared.validation_fraction(help="Part of the models that is kept for validation.")
    epochs: int = shared.epochs()
    patches_per_epoch: int = param(4000, "Patches of an epoch.", label="Patches per epoch", low=1)
    batch: int = param(8, "Patches of one optimiser step, over all processes.", label="Batch", low=1, high=4096)
    learning_rate: float = shared.learning_rate(help="Largest learning rate; 0 takes the network's own: 0.002, and 0.0002 for 'paper'.")
    weight_decay: float = shared.weight_decay()
    side_chain_weight: float = param(1.0, "How much the absolute error counts within 1.5 Å of side chains, where the backbone's counts 1 (degradation 'physics', not for the "
                                     "network 'paper').", label="Side chains' weight", low=0, high=100, expert=True)
    fine_weight: float = param(1.0, "How much the FSC counts in shells finer than the input's resolution, where the others count 1 (not for the network 'paper').",
                               label="Fine shells' weight", low=0, high=100, expert=True)
    validation_patches: int = param(64, "Patches of the validation set.", label="Validation patches", low=1, high=100000, expert=True)
    precision: str = shared.precision()
    checkpoint_steps: int = shared.checkpoint_steps(default=100)
    seed: int = shared.seed()


@dataclass
class MapEnhanceConfig(RunConfig):
    """Enhance a map with a network, and say how far the result can be trusted.

    The result is for looking and building, not for refinement or deposition. Writes ``enhanced.mrc`` on the input's own grid, ``uncertainty.mrc`` (spread over
    rotations), ``predicted_error.mrc``, ``local_correlation.mrc`` (of the input and the result at the input's resolution), ``confidence.mrc`` (1 minus the false
    discovery rate of the input's density), with half maps ``enhanced_half1.mrc``, ``enhanced_half2.mrc`` and ``fsc.csv``, ``summary.json`` and ``figures/``.
    """

    volume: str = param("", "Map (MRC, CCP4); density white.", path=True)
    half1: str = param("", "First half map: enhanced on its own, so that the correlation of the result with the other raw half map can be told.", path=True)
    half2: str = param("", "Second half map.", path=True)
    model: str = param("", "Folder of the trained map network; empty takes the one that comes with this software.", path=True)
    resolution_angst: float = param(0.0, "Resolution of the map; 0 takes it from the half maps (FSC 0.143 inside the molecule).", label="Resolution", unit="Å", low=0, high=50)
    target_angst: float = param(0.0, "Resolution that is aimed at; 0 takes 0.7 of the input's, but no finer than 1.8 Å and what the network's voxels hold. Finer than that is "
                                "refused.", label="Target resolution", unit="Å", low=0, high=50, expert=True)
    rotations: str = param("4", "Orientations in which the network sees the map; their mean is the result, their spread the uncertainty: 1, 4 (D2), 12 (T) or 24 (O).",
                           label="Orientations", choices=("1", "4", "12", "24"))
    data_consistency: float = param(1.0, "How much the result is held to the data where the half maps agree: 1 by the share of signal in each shell, 0 not at all.",
                                    label="Data consistency", low=0, high=1)
    keep_sharpness: bool = param(True, "The result is no blurrier than the input: shells that the network weakens because it is unsure of them are brought back.",
                                 label="Keep sharpness?", expert=True)
    scale: float = param(0.0, "Spread of the density inside the molecule, in the map's own unit; 0 estimates it from what stands out of the solvent.", label="Scale", low=0,
                         expert=True)
    tile_px: int = param(208, "Side of the tiles in the network's voxels; smaller ones need less memory and more time.", label="Tile", unit="voxels", low=32, high=512,
                         expert=True)
    local_window_angst: float = param(6.0, "Standard deviation of the Gaussian window of the local correlation.", label="Local window", unit="Å", low=1, high=100, expert=True)
