"""Inputs that people bring: each row of the table is measured by the part that its module is named for."""

from __future__ import annotations

import _inputs_optics
import _inputs_public
import _inputs_public_particles
import _inputs_public_structures
import _inputs_structures
from _results import parser, record

PARTS = {
    "aberrations": _inputs_optics.aberrations, "premultiplied-elastic": _inputs_optics.elastic, "premultiplied-gaussian": _inputs_optics.gaussian,
    "public": lambda folder: [*_inputs_public.rows(folder / "particles", _inputs_public_particles.cases),
                              *_inputs_public.rows(folder / "structures", _inputs_public_structures.cases)],
    "structures": lambda _: _inputs_structures.structure_rows(), "ribosome": lambda _: _inputs_structures.ribosome_rows(),
}


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--only", choices=sorted(PARTS), nargs="*", default=sorted(PARTS), help="parts to measure")
    options = arguments.parse_args()
    for name in options.only:
        for row in PARTS[name](options.work.resolve() / "inputs" / name):
            record("inputs", row.what, condition=row.condition, target=row.target, measured=row.measured, holds=row.holds, scale=options.scale)


if __name__ == "__main__":
    main()
