"""Other seeds in every Python process of a test run, and a list of the tests that train or search.

``house_robustness.py`` has every interpreter of the environment execute this file at its start, so that engines started by tests, by Scipion and by SLURM
are reached too. ``CRYOLEARN_TEST_SEED`` (a number other than 0) is added to whatever seeds a generator of NumPy or PyTorch; ``CRYOLEARN_TEST_TRACE`` names
a file to which each test is written that calls one of ``SEARCHES``.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

_E = "cryolearn.engine."
SEARCHES: dict[str, tuple[str, ...]] = {
    _E + "training.trainer": ("train",),
    _E + "imaging.volume_gaussians": ("fit_gaussians",),
    _E + "alignment.local_search": ("search_lattice", "refine_continuously"),
    _E + "elastic.alignment.global_search": ("TemplateBank.search",),
    _E + "elastic.alignment.levenberg_marquardt": ("refine",),
    _E + "gaussian.trajectory.trajectory_em": ("fit_curve",),
    _E + "gaussian.trajectory.multi_start": ("search_curve",),
    _E + "gaussian.linear.probabilistic_pca": ("fit_linear",),
    _E + "gaussian.linear.line_search": ("scan_motion",),
    _E + "gaussian.linear.eigen_motions": ("find_eigen_motions",),
    _E + "gaussian.autoencoder.training": ("fit_autoencoder",),
    _E + "gaussian.poses.pose_search": ("refine_poses",),
    _E + "orientation.recovery.recover_from_distances": ("recover",),
    _E + "orientation.recovery.gauss_newton": ("polish",),
    _E + "orientation.recovery.detector_frame": ("find_gauge",),
    _E + "orientation.frame_alignment": ("align_o4", "align_physical"),
    _E + "orientation.refinement.projection_matching": ("match",),
    _E + "orientation.refinement.random_starts": ("start_from_nothing",),
    _E + "subtomogram.averaging.averaging_iterations": ("Rounds.run",),
    _E + "subtomogram.averaging.initial_maps": ("first_maps",),
    _E + "subtomogram.averaging.correlation_search": ("refine",),
    _E + "subtomogram.partition.clustering": ("divide",),
    _E + "subtomogram.networks.rotation_invariant_features": ("fit_svm",),
    _E + "landscape.clustering": ("partition",),
}
_SHIFT, _TRACE = int(os.environ.get("CRYOLEARN_TEST_SEED", "0")), os.environ.get("CRYOLEARN_TEST_TRACE", "")
_STRIDE = 104729  # seeds of a test that differ by one stay apart from those of the next shift


def shifted(seed: Any) -> Any:
    """Another seed of the same kind."""
    import numpy as np

    if isinstance(seed, (int, np.integer)):
        return int(seed) + _STRIDE * _SHIFT
    if isinstance(seed, (list, tuple, np.ndarray)):
        return [*seed, _SHIFT]
    if isinstance(seed, np.random.SeedSequence):
        return np.random.SeedSequence(shifted(seed.entropy), spawn_key=seed.spawn_key)
    return seed


def _shift_numpy(module: ModuleType) -> None:
    own = module.default_rng
    module.default_rng = lambda seed=None: own(shifted(seed))  # type: ignore[attr-defined]


def _shift_torch(module: ModuleType) -> None:
    generator, manual_seed = module.Generator, module.manual_seed

    class Generator(generator):  # type: ignore[misc, valid-type]
        def manual_seed(self, seed: int) -> Any:
            super().manual_seed(int(shifted(seed)) & (2**63 - 1))
            return self

    module.Generator = Generator  # type: ignore[attr-defined]
    module.manual_seed = lambda seed: manual_seed(int(shifted(seed)) & (2**63 - 1))  # type: ignore[attr-defined]


def _traced(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def noted(*arguments: Any, **named: Any) -> Any:
        with open(_TRACE, "a") as handle:
            handle.write(os.environ.get("PYTEST_CURRENT_TEST", "") + "\n")
        return function(*arguments, **named)

    return noted


def _trace(module: ModuleType) -> None:
    for path in SEARCHES[module.__name__]:
        *owners, name = path.split(".")
        owner: Any = functools.reduce(getattr, owners, module)
        setattr(owner, name, _traced(getattr(owner, name)))


class _After(importlib.abc.MetaPathFinder):
    """Runs a function on a module right behind its import."""

    def __init__(self, then: dict[str, Callable[[ModuleType], None]]) -> None:
        self.then = then

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name not in self.then:
            return None
        change = self.then.pop(name)
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_change(module: ModuleType) -> None:
            execute(module)
            change(module)

        spec.loader.exec_module = execute_and_change  # type: ignore[method-assign]
        return spec


def install() -> None:
    """Take effect in this process."""
    import importlib.util  # noqa: F401

    then: dict[str, Callable[[ModuleType], None]] = {}
    if _SHIFT:
        then |= {"numpy.random": _shift_numpy, "torch": _shift_torch}
    if _TRACE:
        then |= dict.fromkeys(SEARCHES, _trace)
    if then:
        sys.meta_path.insert(0, _After(then))
