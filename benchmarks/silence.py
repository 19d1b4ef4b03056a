"""Nothing wrong in silence: bad inputs, and what else a run must say; each row is measured by the part that its module is named for."""

from __future__ import annotations

import _silence_bad_inputs
import _silence_neighbours
import _silence_protocols
from _results import parser, record_rows

PARTS = {"bad-inputs": _silence_bad_inputs.rows, "neighbours": _silence_neighbours.rows, "protocols": _silence_protocols.rows}


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--only", choices=sorted(PARTS), nargs="*", default=sorted(PARTS), help="parts to measure")
    options = arguments.parse_args()
    for name in options.only:
        record_rows("silence", PARTS[name](options.work.resolve() / "silence"), options.scale)


if __name__ == "__main__":
    main()
