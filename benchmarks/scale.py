"""How the commands scale: launches of kernels, and what other parts measure; each row is measured by the part that its module is named for."""

from __future__ import annotations

import _scale_launches
from _results import parser, record

PARTS = {"launches": _scale_launches.rows}


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--only", choices=sorted(PARTS), nargs="*", default=sorted(PARTS), help="parts to measure")
    _scale_launches.add_arguments(arguments)
    options = arguments.parse_args()
    for name in options.only:
        for row in PARTS[name](options):
            record("scale", row.what, condition=row.condition, target=row.target, measured=row.measured, holds=row.holds, scale=options.scale)


if __name__ == "__main__":
    main()
