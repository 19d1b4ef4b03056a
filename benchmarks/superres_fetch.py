"""Fetch maps and models of a list of EMDB and PDB ids, to learn from or to test on, with plain HTTP.

The list has one entry a line, words apart by spaces: an EMDB id, a PDB id, or both (a map and its model); what follows # is a remark::

    EMD-3488 5NI1
    4AKE

Files come to DIR/maps and DIR/models under the archive's names; those that are there are not fetched again. Before you train on what you fetch, name the models
that you will test on with map-train's --exclude: relatives of theirs are left out by sequence.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import urllib.error
import urllib.request
from pathlib import Path

ARCHIVE = "https://files.wwpdb.org/pub"
_EMDB, _PDB = re.compile(r"EMD-(\d{4,5})", re.IGNORECASE), re.compile(r"[1-9][0-9A-Z]{3}", re.IGNORECASE)
_BLOCK = 1 << 20
_PATIENCE_S = 60.0


def read_list(path: Path) -> list[str]:
    """Ids of a list, each once, as the archive writes them."""
    found: dict[str, None] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        for word in line.split("#")[0].split():
            if match := _EMDB.fullmatch(word):
                found[f"EMD-{match[1]}"] = None
            elif _PDB.fullmatch(word):
                found[word.lower()] = None
            else:
                sys.exit(f"ERROR: '{word}' in line {number} of '{path}' is neither an EMDB id (EMD-3488) nor a PDB id (5NI1).")
    if not found:
        sys.exit(f"ERROR: '{path}' names no ids.")
    return list(found)


def places(name: str, halves: bool) -> list[tuple[str, str]]:
    """Path in the archive, and below the folder of the data, of an id's files."""
    if not name.startswith("EMD-"):
        return [(f"pdb/data/structures/divided/mmCIF/{name[1:3]}/{name}.cif.gz", f"models/{name}.cif.gz")]
    number = name[4:]
    files = [f"map/emd_{number}.map.gz"] + [f"other/emd_{number}_half_map_{half}.map.gz" for half in (1, 2) if halves]
    return [(f"emdb/structures/{name}/{file}", f"maps/{file.split('/')[1]}") for file in files]


def fetch(address: str, path: Path) -> bool:
    """Fetch a file, whole or not at all; False when it was there already."""
    if path.exists():
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        with urllib.request.urlopen(address, timeout=_PATIENCE_S) as answer, open(part, "wb") as handle:
            while block := answer.read(_BLOCK):
                handle.write(block)
    except urllib.error.HTTPError as error:
        sys.exit(f"ERROR: '{address}' answered {error.code} ({error.reason}): is the id right, and has the entry that file?")
    except (urllib.error.URLError, OSError) as error:
        sys.exit(f"ERROR: '{address}' cannot be reached ({getattr(error, 'reason', error)}): this needs a network; name another archive with --archive.")
    os.replace(part, path)
    return True


def main(words: list[str] | None = None) -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("list", type=Path, help="text file of ids")
    made.add_argument("--to", type=Path, default=Path("archive"), help="folder of the data")
    made.add_argument("--halves", action="store_true", help="half maps too")
    made.add_argument("--archive", default=ARCHIVE, help="address of the archive or of a mirror of it")
    options = made.parse_args(words)
    if not options.list.exists():
        sys.exit(f"ERROR: '{options.list}' does not exist.")
    for name in read_list(options.list):
        for source, target in places(name, options.halves):
            new = fetch(f"{options.archive.rstrip('/')}/{source}", options.to / target)
            print(f"{name}: {options.to / target}{'' if new else ' (was there)'}", flush=True)


if __name__ == "__main__":
    main()
