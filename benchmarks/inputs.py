"""Inputs that people bring: each row of the table is measured by the part that its module is named for."""

from __future__ import annotations

from pathlib import Path

import _inputs_first_images
import _inputs_group_rows
import _inputs_optics
import _inputs_public
import _inputs_public_particles
import _inputs_public_structures
import _inputs_structures
import _inputs_tilts
from _results import parser, record_rows

PARTS = {
    "aberrations": _inputs_optics.aberrations, "premultiplied-elastic": _inputs_optics.elastic, "premultiplied-gaussian": _inputs_optics.gaussian,
    "groups-reconstruct": _inputs_group_rows.reconstruct, "groups-elastic": _inputs_group_rows.elastic, "groups-gaussian": _inputs_group_rows.gaussian,
    "magnification-elastic": _inputs_group_rows.magnification,
    "first-images": _inputs_first_images.first_images,
    "public": lambda folder: [*_inputs_public.rows(folder / "particles", _inputs_public_particles.cases),
                              *_inputs_public.rows(folder / "structures", _inputs_public_structures.cases)],
    "structures": lambda _: _inputs_structures.structure_rows(), "ribosome": lambda _: _inputs_structures.ribosome_rows(),
}


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--only", choices=[*sorted(PARTS), "tilts"], nargs="*", default=[*sorted(PARTS), "tilts"], help="parts to measure")
    arguments.add_argument("--ribosome-tilts", type=Path, help="folder of the 40 real ribosomes, as of foundation_ribosome_tilts.py")
    options = arguments.parse_args()
    parts = {**PARTS, "tilts": lambda work: _inputs_tilts.tilts(work, options.ribosome_tilts)}
    for name in options.only:
        record_rows("inputs", parts[name](options.work.resolve() / "inputs" / name), options.scale)


if __name__ == "__main__":
    main()
