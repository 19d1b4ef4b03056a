"""How the commands scale: launches of kernels, and sets of many items; each row is measured by the part that its module is named for."""

from __future__ import annotations

import _scale_launches
import _scale_particles
from _results import parser, record_rows

PARTS = {
    "launches": lambda options: record_rows("scale", _scale_launches.rows(options), options.scale),
    "particles": _scale_particles.particles, "subtomograms": _scale_particles.subtomograms,
}


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--only", choices=sorted(PARTS), nargs="*", default=sorted(PARTS), help="parts to measure")
    arguments.add_argument("--sizes", type=int, nargs="*", help="particles, subtomograms: numbers of items, instead of those of the scale")
    _scale_launches.add_arguments(arguments)
    options = arguments.parse_args()
    for name in options.only:
        PARTS[name](options)


if __name__ == "__main__":
    main()
