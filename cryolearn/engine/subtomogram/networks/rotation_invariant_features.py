"""The baseline of Xu, Chai et al. 2017: rotation-invariant features of spherical harmonics, and a support vector machine.

On spheres about the centre of the box the density is expanded in spherical harmonics; the length of the coefficients of each degree does not
change when the molecule turns (Kazhdan et al. 2003). The modulus of the Fourier transform does not change when it moves, either.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.special import lpmv
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["DEGREE", "RifSvm", "fit_svm", "rif_features", "rif_length"]

DEGREE = 12
_FOLDS = 3
_PAIRS_AT_ONCE = 1 << 24


def rif_length(box: int, space: str) -> int:
    """Number of features of a box."""
    return (box // 2 - 1) * (DEGREE + 1) * (2 if space == "both" else 1)


def rif_features(volumes: Tensor, space: str = "both") -> Tensor:
    """Lengths of the coefficients of degrees 0 to 12 on spheres of 1 to n / 2 - 1 voxels.

    Parameters
    ----------
    volumes
        (n, z, y, x).
    space
        'real', 'fourier' (modulus of the transform) or 'both'.

    Returns
    -------
    Tensor
        (n, rif_length).
    """
    parts = []
    if space in ("real", "both"):
        parts.append(_expand(volumes))
    if space in ("fourier", "both"):
        transform = torch.fft.fftshift(torch.fft.fftn(volumes, dim=(1, 2, 3), norm="ortho"), dim=(1, 2, 3))
        parts.append(_expand(transform.abs()))
    return torch.cat(parts, 1)


def _expand(volumes: Tensor) -> Tensor:
    box = volumes.shape[-1]
    directions, basis, degree = _spheres(volumes.device)
    radii = torch.arange(1, box // 2, device=volumes.device, dtype=torch.float32)
    points = (radii[:, None, None] * directions + box // 2) * (2 / (box - 1)) - 1
    grid = points.view(1, 1, *points.shape).expand(len(volumes), -1, -1, -1, -1)
    values = functional.grid_sample(volumes[:, None], grid, mode="bilinear", padding_mode="border", align_corners=True)[:, 0, 0]
    power = (values @ basis).square()  # (n, radii, l and m)
    lengths = power.new_zeros((*power.shape[:2], DEGREE + 1)).index_add_(2, degree, power)
    return lengths.sqrt().flatten(1)


def _spheres(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Directions (d, 3; x, y, z), real harmonics (d, (L + 1)^2) times the area that a direction stands for, and the degree of each.

    Gauss-Legendre nodes in cos(theta) and equal steps in phi integrate products up to degree 2 L exactly.
    """
    cosine, weight = np.polynomial.legendre.leggauss(DEGREE + 1)
    phi = 2 * np.pi * np.arange(2 * DEGREE + 2) / (2 * DEGREE + 2)
    theta, phi = (values.ravel() for values in np.meshgrid(np.arccos(cosine), phi, indexing="ij"))
    area = np.repeat(weight, 2 * DEGREE + 2) * np.pi / (DEGREE + 1)
    columns, degrees = [], []
    for degree in range(DEGREE + 1):
        for order in range(degree + 1):
            size = math.sqrt((2 * degree + 1) / (4 * math.pi) * math.factorial(degree - order) / math.factorial(degree + order))
            legendre = size * lpmv(order, degree, np.cos(theta)) * area
            turns = [np.ones_like(phi)] if order == 0 else [math.sqrt(2) * np.cos(order * phi), math.sqrt(2) * np.sin(order * phi)]
            columns += [legendre * turn for turn in turns]
            degrees += [degree] * len(turns)
    directions = np.stack((np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)), 1)
    one, other = (torch.as_tensor(item, dtype=torch.float32, device=device) for item in (directions, np.stack(columns, 1)))
    return one, other, torch.tensor(degrees, device=device)


class RifSvm(nn.Module):
    """A fitted machine as tensors, so that it is stored and used like a network.

    The arithmetic is that of LIBSVM: one machine for each pair of classes, whose votes and confidences give one value a class.

    Parameters
    ----------
    vectors
        Number of support vectors.
    """

    mean: Tensor
    scale: Tensor
    support: Tensor
    dual: Tensor
    intercept: Tensor
    first: Tensor
    gamma: Tensor

    def __init__(self, classes: int, box: int, vectors: int, space: str = "both", channels: int = 1) -> None:
        super().__init__()
        self.classes, self.space = classes, space
        length, pairs = rif_length(box, space), classes * (classes - 1) // 2
        shapes = {"mean": (length,), "scale": (length,), "support": (vectors, length), "dual": (classes - 1, vectors), "intercept": (pairs,), "gamma": (1,)}
        for name, shape in shapes.items():
            self.register_buffer(name, torch.zeros(shape))
        self.register_buffer("first", torch.zeros(classes + 1, dtype=torch.long))  # support vectors of a class: first[i] to first[i + 1]

    def forward(self, volumes: Tensor) -> tuple[Tensor, Tensor]:
        """(n, 1, box, box, box) -> a value for each class (n, classes), and the same as features."""
        features = (rif_features(volumes[:, 0], self.space) - self.mean) / self.scale
        step = max(1, _PAIRS_AT_ONCE // max(1, len(self.support)))
        values = torch.cat([self.decide(part) for part in features.split(step)])
        return values, values

    def decide(self, features: Tensor) -> Tensor:
        """Values (n, classes) of standardised features (n, f)."""
        kernel = torch.exp(-self.gamma * torch.cdist(features, self.support, compute_mode="donot_use_mm_for_euclid_dist").square())
        bounds = self.first.tolist()
        # what the vectors of class i say against each other class, (n, classes - 1)
        said = [kernel[:, bounds[i] : bounds[i + 1]] @ self.dual[:, bounds[i] : bounds[i + 1]].T for i in range(self.classes)]
        votes, confidence = (kernel.new_zeros((len(features), self.classes)) for _ in range(2))
        pair = 0
        for i in range(self.classes):
            for j in range(i + 1, self.classes):
                value = said[i][:, j - 1] + said[j][:, i] + self.intercept[pair]
                pair += 1
                votes[:, i] += value > 0
                votes[:, j] += value <= 0
                confidence[:, i] += value
                confidence[:, j] -= value
        return votes + confidence / (3 * (confidence.abs() + 1))


def fit_svm(
    features: np.ndarray, labels: np.ndarray, box: int, classes: int, space: str, penalties: list[float], balanced: bool, seed: int
) -> tuple[RifSvm, float]:
    """Fit a machine with a Gaussian kernel to features (n, f) and classes (n,) from 0; returns it with its penalty C.

    The penalty is chosen by cross-validation on these subtomograms alone.
    """
    scaler = StandardScaler().fit(features)
    known = scaler.transform(features)
    weight = "balanced" if balanced else None
    chosen = float(penalties[0])
    fewest = int(np.bincount(labels, minlength=classes).min())
    if len(penalties) > 1 and fewest >= 2:
        folds = StratifiedKFold(min(_FOLDS, fewest), shuffle=True, random_state=seed)
        search = GridSearchCV(SVC(gamma="scale", class_weight=weight), {"C": [float(value) for value in penalties]}, cv=folds, refit=False).fit(known, labels)
        chosen = float(search.best_params_["C"])
    machine = SVC(C=chosen, gamma="scale", class_weight=weight).fit(known, labels)
    made = RifSvm(classes, box, len(machine.support_vectors_), space)
    sign = -1.0 if classes == 2 else 1.0  # scikit-learn turns the only value of two classes round
    values = {
        "mean": scaler.mean_, "scale": scaler.scale_, "support": machine.support_vectors_, "dual": sign * machine.dual_coef_,
        "intercept": sign * machine.intercept_, "gamma": [machine._gamma],
    }
    state = {name: torch.as_tensor(np.asarray(value), dtype=torch.float32) for name, value in values.items()}
    state["first"] = torch.as_tensor(np.concatenate(([0], np.cumsum(machine.n_support_))), dtype=torch.long)
    made.load_state_dict(state)
    return made, chosen
