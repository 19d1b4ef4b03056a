"""Command ``normal-modes``: elastic network models through ProDy, ranked by collectivity."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import prody
from scipy.spatial import cKDTree
from threadpoolctl import threadpool_limits

from ...common.modes import collectivity
from ..config import check_config, require
from ..cpu import cpu_threads
from ..exceptions import InputError
from ..figures import mode_table, save_figure
from ..io.mode_formats import write_mode_table, write_mode_texts, write_nmd
from ..io.modes import Modes, write_modes
from ..io.structures import Structure, atom_sigmas, atom_weights, write_fitting
from ..io.summary import ModesSummary, write_summary
from .config import NormalModesConfig
from .modes.atom_selection import atoms_by_kind, loose_nodes, rigid_blocks, select_atoms

__all__ = ["RIGID_MODES", "collectivity", "collectivity_score", "compute_modes", "fix_signs", "relative_cutoff", "run"]

RIGID_MODES = 6
_FEWEST_ATOMS = 10


def run(config: NormalModesConfig) -> None:
    """Compute the modes of a structure and write them in the formats that the other commands and programs read."""
    check_config(config)
    require(config, "structure")
    prody.confProDy(verbosity="none")
    structure, atoms = select_atoms(config.structure, config.selection)
    _check_weights(structure, config)
    out = Path(config.output)
    out.mkdir(parents=True, exist_ok=True)
    cutoff = config.cutoff_angst
    if config.cutoff_mode == "relative":
        cutoff = relative_cutoff(atoms.getCoords(), config.cutoff_percent)
    with threadpool_limits(cpu_threads(config.threads), "blas"):  # eigenvectors of one matrix of thousands of rows
        values, vectors = compute_modes(atoms, config.method, cutoff, config.residues_per_block, config.number)
    vectors = fix_signs(vectors)
    share = collectivity(vectors)
    modes = Modes(
        coordinates=atoms.getCoords(), origin_angst=atoms.getCoords().mean(0), weights=atom_weights(structure),
        sigma_angst=atom_sigmas(structure), eigenvectors=vectors, eigenvalues=values,
        mode_numbers=np.arange(1, len(values) + 1), collectivity=share, score=collectivity_score(share),
    )
    write_fitting(str(out / "structure"), structure)
    write_modes(str(out / "modes.npz"), modes)
    write_mode_texts(str(out / "modes"), modes)
    write_nmd(str(out / "modes.nmd"), modes, structure)
    selected = share >= config.collectivity_threshold
    selected[:RIGID_MODES] = False
    write_mode_table(str(out / "modes.csv"), modes, selected)
    inner = slice(RIGID_MODES, None)
    figure = mode_table(modes.mode_numbers[inner], share[inner], modes.score[inner], selected[inner])
    save_figure(figure, str(out / "figures" / "modes.png"))
    write_summary(out, ModesSummary(atoms=len(atoms), modes=len(values), cutoff_angst=round(float(cutoff), 3), selected=int(selected.sum())))
    print(f"{len(values)} modes of {len(atoms)} atoms, cutoff {cutoff:.2f} Å, {int(selected.sum())} above the collectivity threshold")


def compute_modes(
    atoms: prody.AtomGroup, method: str, cutoff_angst: float, residues_per_block: int, number: int
) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues (K,) for a unit spring and unit-norm eigenvectors (K, N, 3), the six rigid modes first.

    ``rtb``: uniform springs between all atoms within the cutoff, rotation-translation of blocks (Tama et al. 2000).
    ``anm_ca``: C-alpha anisotropic network, each residue's atoms move with its C-alpha.
    """
    nodes, blocks = atoms, None
    if method == "rtb":
        blocks = rigid_blocks(atoms, residues_per_block)
        model = prody.RTB()
        model.buildHessian(atoms.getCoords(), blocks, cutoff=cutoff_angst)
        largest = 6 * int(blocks.max() + 1)
        _refuse_too_many(number, largest, "blocks: take fewer residues a block or fewer modes")
        model.calcModes(_asked_for(number, largest), zeros=True)
    else:
        nodes = atoms.select("name CA and not ion")  # an ion of that name is calcium
        if nodes is None or len(nodes) < _FEWEST_ATOMS:
            count = 0 if nodes is None else len(nodes)
            raise InputError(f"The selection has {count} C-alpha atoms, too few for method 'anm_ca': use 'rtb'. It holds {atoms_by_kind(atoms)}.")
        without = ~np.isin(atoms.getResindices(), nodes.getResindices())
        if without.any():
            raise InputError(
                f"{int(without.sum())} of the {len(atoms)} selected atoms belong to residues without C-alpha, which method 'anm_ca' cannot move: "
                f"{atoms_by_kind(atoms, without)}. Leave them out of the selection (such as 'protein and not hydrogen') or use method 'rtb'."
            )
        model = prody.ANM()
        model.buildHessian(nodes, cutoff=cutoff_angst)
        _refuse_too_many(number, 3 * len(nodes), "C-alpha atoms")
        model.calcModes(_asked_for(number, 3 * len(nodes)), zeros=True)
        model, _ = prody.extendModel(model, nodes, atoms)
    values, vectors = model.getEigvals()[:number], model.getEigvecs().T.reshape(len(model.getEigvals()), -1, 3)[:number]
    # 10 modes of a network in two parts are all free: the springs of a node are the scale then
    if len(values) > RIGID_MODES and values[RIGID_MODES] < max(1e-6 * values[-1], 1e-8 * _stiffness(nodes.getCoords(), cutoff_angst)):
        raise InputError(_falls_apart(nodes, cutoff_angst, blocks, atoms_by_kind(atoms)))
    return values, vectors / np.linalg.norm(vectors, axis=(1, 2), keepdims=True)


def _stiffness(coordinates: np.ndarray, cutoff_angst: float) -> float:
    """Mean diagonal element of a network's Hessian for a unit spring: a third of a node's neighbours."""
    tree = cKDTree(coordinates)
    return float(tree.count_neighbors(tree, cutoff_angst) - len(coordinates)) / (3 * len(coordinates))


def _check_weights(structure: Structure, config: NormalModesConfig) -> None:
    """Refuse atoms none of which scatters."""
    if not atom_weights(structure).any():
        raise InputError(f"All atoms that '{config.selection}' selects have occupancy 0 in '{config.structure}': correct the occupancies.")


def _falls_apart(nodes: prody.AtomGroup, cutoff_angst: float, blocks: np.ndarray | None, selected: str) -> str:
    """Which atoms make an elastic network fall apart."""
    loose = loose_nodes(nodes.getCoords(), cutoff_angst, blocks)
    where = ""
    if loose.any():
        where = f"{int(loose.sum())} of its {len(nodes)} nodes are apart from the rest or held by fewer than three neighbours: {atoms_by_kind(nodes, loose)} "
        first = nodes[int(np.flatnonzero(loose)[0])]
        where += f"(first: {first.getName()} of {first.getResname()} {first.getChid()}/{first.getResnum()}). "
    return (
        f"The elastic network falls apart (more than six modes cost nothing) with a cutoff of {cutoff_angst:.2f} Å. {where}The selection holds {selected}: "
        "select one connected molecule or take a larger cutoff."
    )


def _refuse_too_many(number: int, largest: int, what: str) -> None:
    if number > largest:
        raise InputError(f"Parameter number is {number}, but the model has only {largest} modes from its {what}.")


def _asked_for(number: int, largest: int) -> int | None:
    """What ProDy is asked for: it wants six modes more than ``number``; where there are none, all."""
    return number if number + RIGID_MODES <= largest else None


def relative_cutoff(coordinates: np.ndarray, percent: float) -> float:
    """Distance (Å) below which ``percent`` of all atom pairs within 25 Å, ranked per atom by distance to its 20 nearest, lie."""
    neighbours = min(20, len(coordinates) - 1)
    distance, _ = cKDTree(coordinates).query(coordinates, k=neighbours + 1)
    return float(np.percentile(distance[:, 1:], percent))


def fix_signs(vectors: np.ndarray) -> np.ndarray:
    """Give each mode (K, N, 3) a definite sign: the sum of the cubes of its components is positive.

    Eigenvectors are defined up to sign; amplitudes are comparable between runs only with a rule. The cube is odd and
    smooth, so rounding cannot flip it except for a mode that is symmetric anyway.
    """
    cubes = (vectors**3).sum(axis=(1, 2))
    return vectors * np.where(cubes < 0, -1.0, 1.0)[:, None, None]


def collectivity_score(share: np.ndarray) -> np.ndarray:
    """Scipion's score of non-rigid modes, low is good: (rank by collectivity + mode number) / (2 number of modes)."""
    count = len(share)
    score = np.zeros(count)
    inner = share[RIGID_MODES:]
    rank = np.empty(len(inner))
    rank[np.argsort(-inner)] = np.arange(1, len(inner) + 1)
    score[RIGID_MODES:] = (rank + np.arange(1, len(inner) + 1)) / (2 * max(len(inner), 1))
    return score
