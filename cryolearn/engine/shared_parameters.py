"""Parameters that several commands have, each worded once (standard library only).

A command's dataclass calls them in its own order; what differs there is given by name: ``batch: int = shared.image_batch(default=256)``.
"""

from __future__ import annotations

from functools import partial

from .config import param

# input
particles = partial(param, default="", help="Particles (STAR of RELION, or .cs of cryoSPARC).", path=True)
images_or_tilts = partial(
    particles, help="Particles (STAR of RELION, or .cs of cryoSPARC), or tilt-series particles of RELION 5 or WarpTools (their optimisation set or STAR).",
)
datadir = partial(
    param, default="", help="Folder in which image files are looked up first, by their names in the particle file or the last parts of these: for images that "
    "were moved.", label="Folder of the images", path=True, affects_result=False, expert=True,
)
subtomograms = partial(param, default="", help="Subtomograms (STAR with tilt ranges).", path=True)
modes = partial(param, default="", help="Normal modes (modes.npz).", path=True)
mode_numbers = partial(param, default=[7, 8, 9], label="Modes")
symmetry = partial(param, default="C1", help="Point group: Cn, Dn, T, O or I.", label="Symmetry")

# images
invert_contrast = partial(param, default=False, help="Particles are black on white.", label="Invert contrast?")
phase_flipped = partial(param, default=False, help="The images are phase flipped already.", label="Phase flipped?")
ignore_ctf = partial(param, default=False, help="The images carry no CTF.", label="Ignore CTF?", expert=True)

# work
seed = partial(param, default=1, help="Seed.", low=0, high=2e9, expert=True)
image_batch = partial(param, default=64, help="Images in memory at a time.", label="Batch", low=1, high=65536, affects_result=False, expert=True)
subtomogram_batch = partial(image_batch, help="Subtomograms in memory at a time.")
image_chunk = partial(
    param, default=256, help="Images between two records on disk; killed work goes on after the last one.", low=1, affects_result=False, expert=True,
)
subtomogram_chunk = partial(image_chunk, default=1024, help="Subtomograms between two records on disk; killed work goes on after the last one.")

# training
epochs = partial(param, default=20, help="Epochs.", label="Epochs", low=1, high=100000)
training_batch = partial(param, default=128, help="Images of one optimiser step, over all processes.", label="Batch", low=1, high=65536)
learning_rate = partial(param, default=0.0, label="Learning rate", low=0, high=1)
weight_decay = partial(param, default=1e-5, help="Weight decay (not for 'paper').", label="Weight decay", low=0, high=1, expert=True)
validation_fraction = partial(param, default=0.1, label="Validation fraction", low=0.01, high=0.5, expert=True)
precision = partial(
    param, default="auto", help="'auto' multiplies in bfloat16 where the hardware is fast at it, 'bf16' always, '32' never.", label="Precision",
    choices=("auto", "bf16", "32"), expert=True,
)
checkpoint_steps = partial(
    param, default=200, help="Steps between checkpoints; killed work goes on after the last one.", label="Steps between checkpoints", low=1,
    affects_result=False, expert=True,
)
