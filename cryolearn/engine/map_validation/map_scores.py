"""All scores of maps against their model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ...common.fsc import HALF_MAP_THRESHOLD
from ..imaging.model_map import model_map
from ..io.maps import Map
from ..io.side_chains import Residues, SideChains, find_residues
from ..io.structures import Structure
from .decoys import FLIPS_DEG, flip_rotamers, shifted_chains
from .density_sampling import finer_factor, sample_finer
from .emringer import CLASSIC_SAMPLES, FINE_SAMPLES, EmringerScore, Votes, classic_votes, emringer, emringer_score, tie_safe_votes
from .input_validation import MapInput
from .map_model_agreement import MODEL_THRESHOLDS, Correlations, box_fsc, correlations, model_mask, resolution_of
from .q_score import q_scores

__all__ = ["MapScores", "score_maps"]


@dataclass(kw_only=True)
class MapScores:
    """Scores of one map.

    Attributes
    ----------
    own_grid
        EMRinger as cctbx has it on the map's file.
    classic, tie_safe, and their votes
        On the grid that Fourier interpolation makes at most 0.5 Å fine.
    q_atoms : (M,) float64
        Q-score of each atom.
    correlations
        With the model's map, cut at ``resolution_angst``.
    curves : dict of str to (n,) FSC
        'model_masked', 'model'; 'halves_masked', 'halves' when there are half maps.
    resolutions_angst : dict
        Of 'model_masked' and 'model' at 0.5 and 0.143 ('model_masked_0.5' ...), of 'halves' at 0.143; None where a curve starts below.
    decoy_emringer, decoy_q
        Mean scores of the shifted and of the flipped models; ``flipped_q`` is the model's own Q-score of the side chains that were flipped.
    """

    own_grid: EmringerScore
    classic: EmringerScore
    tie_safe: EmringerScore
    classic_votes: Votes
    tie_safe_votes: Votes
    q_atoms: NDArray[np.float64]
    correlations: Correlations
    resolution_angst: float
    curves: dict[str, Tensor]
    resolutions_angst: dict[str, float | None]
    decoy_emringer: float | None = None
    decoy_q: float | None = None
    flipped_q: float | None = None

    @property
    def q(self) -> float:
        """Mean Q-score of the atoms inside the map."""
        return float(np.nanmean(self.q_atoms))


def score_maps(
    given: Sequence[MapInput], structure: Structure, chains: SideChains, *, mask: NDArray[np.float32] | None = None, resolution_angst: float = 0.0,
    q_sigma_angst: float = 0.4, decoys: bool = True, report: Callable[[str], None] | None = None,
) -> list[MapScores]:
    """Score maps on one grid against the heavy atoms of a model.

    Parameters
    ----------
    given
        One map or several (before, after) with their half maps; shape, voxel size and origin are the same.
    structure
        Heavy atoms of the model.
    chains
        Side chains of the structure that lie inside the maps.
    mask
        (z, y, x) for the FSC; made around the model when not given.
    resolution_angst
        Where the model's map is cut for the correlations, the same for all maps; 0 takes the first map's half-map FSC at 0.143, or its masked
        FSC with the model at 0.5.
    q_sigma_angst
        Standard deviation in Å of the reference Gaussian of the Q-score.
    decoys
        Also score wrong models, whose side chains are shifted or turned about CA-CB.
    report
        Called with the name of each part that is done.
    """
    done = report or (lambda name: None)
    maps = [item.volume for item in given]
    soft = model_mask(structure, maps[0]) if mask is None else mask
    calculated = _model_map(structure, maps[0])
    curves, resolutions = [], []
    for item in given:
        volume, pair = item.volume, item.halves
        found = {"model_masked": box_fsc(volume.data, calculated, soft), "model": box_fsc(volume.data, calculated)}
        if pair:
            found |= {"halves_masked": box_fsc(pair[0].data, pair[1].data, soft), "halves": box_fsc(pair[0].data, pair[1].data)}
        curves.append(found)
        resolutions.append(_resolutions(found, volume))
    done("Fourier shell correlations")
    cut = resolution_angst or resolutions[0].get("halves_masked_0.143") or resolutions[0]["model_masked_0.5"] or 2 * maps[0].pixel_size_angst
    agreement = [correlations(volume, structure, cut) for volume in maps]
    done("correlations")
    rings = [_votes(volume, chains) for volume in maps]
    done("EMRinger")
    atoms = q_scores(maps, structure.coordinates, q_sigma_angst)
    done("Q-scores")
    scores = []
    for index, volume in enumerate(maps):
        classic, safe = rings[index]
        scores.append(
            MapScores(
                own_grid=emringer(volume, chains),
                classic=emringer_score(classic),
                tie_safe=emringer_score(safe),
                classic_votes=classic,
                tie_safe_votes=safe,
                q_atoms=atoms[index],
                correlations=agreement[index],
                resolution_angst=cut,
                curves=curves[index],
                resolutions_angst=resolutions[index],
            )
        )
    if decoys:
        _score_decoys(maps, structure, find_residues(structure), chains, q_sigma_angst, scores)
        done("decoys")
    return scores


def _model_map(structure: Structure, volume: Map) -> NDArray[np.float32]:
    z, y, x = volume.data.shape
    return model_map(structure, (z, y, x), volume.pixel_size_angst, volume.origin_angst)


def _resolutions(curves: dict[str, Tensor], volume: Map) -> dict[str, float | None]:
    found = {f"{name}_{threshold:g}": resolution_of(curves[name], threshold, volume) for name in ("model_masked", "model") for threshold in MODEL_THRESHOLDS}
    return found | {f"{name}_0.143": resolution_of(curves[name], HALF_MAP_THRESHOLD, volume) for name in ("halves_masked", "halves") if name in curves}


def _votes(volume: Map, chains: SideChains) -> tuple[Votes, Votes]:
    """Classic and tie-safe votes on the finer grid, sampled in one pass."""
    factor, step = finer_factor(volume.pixel_size_angst), FINE_SAMPLES // CLASSIC_SAMPLES
    densities = sample_finer(volume, chains.rings(FINE_SAMPLES), factor)
    return classic_votes(densities[:, step - 1 :: step]), tie_safe_votes(densities)


def _score_decoys(
    maps: Sequence[Map], structure: Structure, residues: Residues, chains: SideChains, q_sigma_angst: float, scores: list[MapScores]
) -> None:
    wrong = shifted_chains(chains)
    points = np.stack([moved.rings(FINE_SAMPLES) for moved in wrong])
    for volume, score in zip(maps, scores):
        densities = sample_finer(volume, points, finer_factor(volume.pixel_size_angst), outside=float(volume.data.mean(dtype=np.float64)))
        score.decoy_emringer = float(np.mean([emringer_score(tie_safe_votes(rings)).score for rings in densities]))
    flipped = []
    rows = np.empty(0, np.int64)
    for angle in FLIPS_DEG:
        turned, rows = flip_rotamers(structure, residues, chains, angle)
        flipped.append(np.nanmean(q_scores(maps, turned.coordinates, q_sigma_angst, rows), axis=1))
    for score, value in zip(scores, np.mean(flipped, axis=0)):
        score.decoy_q, score.flipped_q = float(value), float(np.nanmean(score.q_atoms[rows]))
