"""Parameters of the commands on subtomograms (standard library only)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List

from .. import shared_parameters as shared
from ..config import RunConfig, param
from ..simulate.config import SubtomogramSimulateConfig, SubtomogramSimulation

__all__ = [
    "SubtomogramAverageConfig", "SubtomogramClassifyConfig", "SubtomogramSimulateConfig", "SubtomogramSubdivideConfig", "SubtomogramTrainConfig",
]


@dataclass
class SubtomogramTrainConfig(SubtomogramSimulation, RunConfig):
    """Train a network that tells the class of a subtomogram at any orientation, in spite of noise and missing wedge.

    It learns from labelled subtomograms, or from simulated ones, which are drawn from structures and maps when they are looked at and never stored.

    Writes ``model/`` (``weights.safetensors``, ``model.json``), ``validation.npz`` (result table of the subtomograms kept for validation: true_class, class, confidence,
    novelty, probability, features; numbers from 1, ``class_names`` in its notes), ``confusion.csv`` (counts, true classes in rows), ``classes.csv`` (accuracy of each class),
    ``learning.csv``, ``summary.json``, ``checkpoints/`` and ``figures/``.
    """

    source: str = param("subtomograms", "'subtomograms': labelled ones; 'simulation': drawn from structures and maps as subtomogram-simulate would draw them with the same "
                        "parameters and seed, without storing any.", label="Learn from", choices=("subtomograms", "simulation"))
    subtomograms: str = shared.subtomograms(help="Labelled subtomograms (STAR with rlnClassName and tilt ranges).")
    datadir: str = shared.datadir()
    invert_contrast: bool = shared.invert_contrast(help="Density is black in the subtomograms, as tomograms come.")
    new_each_epoch: bool = param(True, "Simulated subtomograms are others in each epoch, so that none is learned by heart; otherwise those of the first one come again.",
                                 label="New ones in each epoch?")
    network: str = param("residual3d", "'residual3d': residual blocks, an embedding for unknown structures, augmentation (default); 'inception3d' and 'dsrf3d': the networks of "
                         "Xu, Chai et al. 2017; 'rif_svm': rotation-invariant features and a support vector machine.", label="Network",
                         choices=("residual3d", "inception3d", "dsrf3d", "rif_svm"))
    wedge_channel: bool = param(False, "Tell the network which frequencies were measured, as a second channel: for sets of mixed tilt ranges ('residual3d' only).",
                                label="Tell the missing wedge?")
    width: int = param(16, "Channels of the first stage of 'residual3d' (a multiple of 8).", label="Width", low=8, high=256, expert=True)
    embedding: int = param(32, "Length of the embedding of 'residual3d'.", label="Embedding", low=4, high=512, expert=True)
    contrastive_weight: float = param(0.2, "Weight of the supervised contrastive loss of 'residual3d' beside the cross entropy.", label="Contrastive weight", low=0, high=10, expert=True)
    dropout: float = param(-1.0, "Part of the values dropped before the last layer; -1 takes the network's own: 0.3, and 0.7 for 'inception3d', as its authors' code has it (their "
                           "text says 0.3).", label="Dropout", low=-1, high=0.95, expert=True)
    augment: str = param("auto", "Show each subtomogram in the four orientations that keep the missing wedge, and moved: 'auto' for 'residual3d' only; 'yes'; 'no'.",
                         label="Augmentation", choices=("auto", "yes", "no"), expert=True)
    average_turns: bool = param(True, "Answers of 'residual3d' are means over the four orientations that keep the missing wedge: surer, and four times slower.",
                                label="Average orientations?", expert=True)
    augment_shift_px: int = param(2, "Augmentation moves by up to this along each axis.", label="Augmentation shifts", unit="voxels", low=0, high=32, expert=True)
    balance_classes: bool = param(True, "Weight classes such that each counts the same, however many subtomograms it has.", label="Balance classes?")
    validation_fraction: float = param(0.2, "Part of the subtomograms of each class that is kept for validation.", label="Validation fraction", low=0.02, high=0.5)
    epochs: int = param(0, "Times that every subtomogram is shown; 0 takes 20, as the paper does, and for 'residual3d' as many as make 800 steps when the set is small. 'rif_svm' "
                        "needs one.", label="Epochs", low=0, high=100000)
    batch: int = param(0, "Subtomograms of one optimiser step, over all processes (a multiple of 16); 0 takes 64, and for 'residual3d' 16 to 64, by the size of the set.",
                       label="Batch", low=0, high=65536)
    learning_rate: float = shared.learning_rate(help="Largest learning rate; 0 takes the network's own: 0.004, and 0.01 for the paper's networks.")
    weight_decay: float = shared.weight_decay(default=0.01, help="Weight decay of 'residual3d'.")
    rif_space: str = param("both", "Where the features of 'rif_svm' are taken: 'real' space, the modulus of the 'fourier' transform, or 'both'.", label="RIF space",
                           choices=("both", "real", "fourier"), expert=True)
    svm_penalties: List[float] = param([1.0, 10.0, 100.0], "Penalties C of 'rif_svm'; the best one by cross-validation on the training subtomograms is taken.",
                                       label="SVM penalties", low=1e-6, high=1e9, expert=True)
    precision: str = shared.precision()
    cache_mib: int = param(2048, "Memory for subtomograms that were read once; more of them are read again in each epoch.", label="Cache", unit="MiB", low=0, high=10_000_000,
                           affects_result=False, expert=True)
    checkpoint_steps: int = shared.checkpoint_steps()
    seed: int = shared.seed()


@dataclass
class SubtomogramClassifyConfig(RunConfig):
    """Tell the classes of subtomograms by a trained network, and which of them belong to none.

    Writes ``classes.npz`` (result table: class from 1, 0 for rejected; best_class; confidence; novelty; probability; features; true_class where the input is labelled;
    ``class_names`` in its notes, number 1 first), ``classes.csv``, ``subtomograms.star`` (rlnClassNumber, rlnClassName and rlnMaxValueProbDistribution, the confidence),
    ``summary.json`` and ``figures/``. With labelled input also ``confusion.csv``.
    """

    subtomograms: str = shared.subtomograms()
    datadir: str = shared.datadir()
    model: str = param("", "Folder of the trained network.", path=True)
    invert_contrast: bool = shared.invert_contrast(help="Density is black in the subtomograms, as tomograms come; networks know it white.")
    reject_fraction: float = param(0.02, "Subtomograms less like their class than all but this part of the validation subtomograms are rejected as unknown; 0 rejects none.",
                                   label="Reject", low=0, high=0.5)
    least_confidence: float = param(0.0, "Subtomograms whose class is less certain than this are rejected too.", label="Least confidence", low=0, high=1)
    batch: int = shared.subtomogram_batch()
    chunk: int = shared.subtomogram_chunk()


@dataclass
class SubtomogramSubdivideConfig(RunConfig):
    """Divide subtomograms into many groups of like features, so that structures nobody has labelled come together.

    Writes ``clusters.npz`` (result table: class from 1, 0 for what no group took; features; reduced, the two axes of the picture; distance to the group's centre; nearest_class
    of the training and true_class where known), ``clusters.csv`` (size, spread, nearest training class and its distance, and the most frequent label with its part where the
    input is labelled), ``scores.csv``, ``subtomograms.star`` (rlnClassNumber), ``summary.json`` and ``figures/``.
    """

    subtomograms: str = shared.subtomograms()
    datadir: str = shared.datadir()
    model: str = param("", "Folder of the trained network whose features are taken.", path=True)
    invert_contrast: bool = shared.invert_contrast(help="Density is black in the subtomograms, as tomograms come; networks know it white.")
    method: str = param("kmeans", "'kmeans' (mini-batches): the number of groups that is asked for, more than there are structures, as in the paper; 'gmm': Gaussian mixture, as many "
                        "groups as its Bayesian information criterion wants, up to that number; 'hdbscan': dense groups, the rest is left out.", label="Method",
                        choices=("kmeans", "gmm", "hdbscan"))
    clusters: int = param(100, "Number of groups ('kmeans'), or the largest number ('gmm').", label="Number of groups", low=2, high=10000)
    smallest: int = param(10, "Fewest subtomograms of a group of 'hdbscan'.", label="Smallest group", low=2, high=1_000_000, expert=True)
    picture_points: int = param(5000, "Subtomograms that shape the picture of the features (t-SNE, for the eye only); the others are placed beside the most like one.",
                                label="Points of the picture", low=50, high=100000, expert=True)
    batch: int = shared.subtomogram_batch()
    chunk: int = shared.subtomogram_chunk()
    seed: int = shared.seed()


@dataclass
class SubtomogramAverageConfig(RunConfig):
    """Align, classify and average subtomograms under the missing wedge, without a reference.

    The two half sets never meet before the end: each has its own first maps, and only the curve of their agreement (FSC) is shared.
    Writes for each class K (``class_001`` ..., the largest first) ``K.mrc``, ``K_half1.mrc``, ``K_half2.mrc`` and ``K_fsc.csv``; ``subtomograms.star``
    with class, pose, shift and half set of each subtomogram; ``averages.npz`` (columns id, class, score, half), ``classes.csv``, ``summary.json`` and ``figures/``.
    """

    subtomograms: str = shared.subtomograms(help="Subtomograms with their tilt range (STAR).")
    datadir: str = shared.datadir()
    classes: int = param(3, "Number of classes.", label="Number of classes", low=1, high=100)
    each_class: bool = param(False, "Average each class of the input apart (rlnClassName), each into as many classes as asked for.", label="Each input class apart?")
    smallest: int = param(10, "Input classes with fewer subtomograms than this are left out, and named.", label="Smallest input class", low=4, expert=True)
    iterations: int = param(5, "Iterations of alignment, classification and averaging.", label="Iterations", low=1, high=100)
    start: str = param(
        "random", "First maps: 'random' finds them at low resolution, 'alignment' averages the subtomograms as they are aligned in the input, 'reference' takes maps.",
        label="Start from", choices=("random", "alignment", "reference"),
    )
    starts: int = param(2, "Random starts of each half set; the likeliest is kept.", label="Random starts", low=1, high=100, expert=True)
    references: List[str] = param([], "Reference maps (MRC), one for each class, or one for all, whose classes then start apart at random.", label="References", path=True)
    initial_resolution_angst: float = param(0.0, "Low-pass filter of references and of the input's average; 0 takes a sixth of the box.", label="Initial resolution", unit="Å", low=0)
    mask: str = param("", "Mask around the particle (MRC); without it a soft sphere.", path=True)
    mask_radius_angst: float = param(0.0, "Radius of the spherical mask, and of the particle; 0 takes 40 % of the box.", label="Mask radius", unit="Å", low=0)
    shift_range_angst: float = param(0.0, "How far particles may lie from the centre of their subtomogram; 0 takes 10 % of the box.", label="Shift range", unit="Å", low=0)
    angular_step_deg: float = param(15.0, "Step of the search over all rotations; the best are refined from there.", label="Angular step", unit="degrees", low=4, high=45, expert=True)
    local_search: bool = param(False, "Search only around the poses of the input (start: alignment) instead of over all rotations.", label="Local search only?", expert=True)
    finest_step_deg: float = param(1.0, "Last step of the refinement of rotations.", label="Finest step", unit="degrees", low=0.1, high=10, expert=True)
    symmetry: str = shared.symmetry()
    wedge_edge_px: float = param(0.0, "Soft edge of the missing wedge beyond the last tilts; 0 where the subtomograms end sharply.", label="Edge of the wedge", unit="Fourier pixels", low=0, high=5, expert=True)
    coverage_floor: float = param(0.05, "Where fewer than this part of a class's subtomograms have measured, the average fades instead of being blown up.", label="Floor on coverage", low=0.001, high=0.5, expert=True)
    invert_contrast: bool = shared.invert_contrast()
    features: str = param("", "Features of the subtomograms from subtomogram-subdivide (npz with columns id and features), for the distances to the training classes.", path=True)
    known_features: str = param("", "Features of labelled training subtomograms (npz with columns id, features and class) that the distances are counted from.", path=True)
    batch: int = shared.subtomogram_batch(high=4096)
    seed: int = shared.seed()
