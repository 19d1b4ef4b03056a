"""The atom table of an mmCIF file as gemmi reads it: columns that other programs leave out are made from those that say the same."""

from __future__ import annotations

import gemmi

from .polymer_elements import polymer_element

__all__ = ["read_cif"]

_PLACES = ("Cartn_x", "Cartn_y", "Cartn_z")
# column: the one that says the same where it is absent, and the value without either
_SUBSTITUTES = {
    "label_atom_id": ("auth_atom_id", ""), "label_comp_id": ("auth_comp_id", ""), "label_asym_id": ("auth_asym_id", "A"),
    "auth_asym_id": ("label_asym_id", "A"), "auth_seq_id": ("label_seq_id", ""), "label_alt_id": ("", "."), "id": ("", "."), "type_symbol": ("", "?"),
}
_UNKNOWN = ("?", ".", "")


def read_cif(text: str) -> tuple[gemmi.Structure, int, int]:
    """Read the first data block that has atoms.

    Returns
    -------
    structure whose serial numbers are the places in the file, atoms of its first model, number of models

    Raises
    ------
    ValueError
        when a column that everything needs is absent.
    """
    document = gemmi.cif.read_string(text)
    block = next((block for block in document if _loop(block) is not None), document[0])
    loop = _loop(block)
    if loop is not None:
        _complete(loop)
    table = block.find("_atom_site.", ["id", "type_symbol", "label_atom_id", "label_comp_id", "?pdbx_PDB_model_num"])
    models = set()
    first, expected = None, 0
    for number, row in enumerate(table, 1):
        model = row.str(4) if row.has(4) else "1"
        first = model if first is None else first
        models.add(model)
        expected += model == first
        row[0] = str(number)
        if row[1] in _UNKNOWN:
            row[1] = polymer_element(row.str(2), row.str(3)) or "X"
    return gemmi.make_structure_from_block(block), expected, len(models)


def _loop(block: gemmi.cif.Block) -> gemmi.cif.Loop | None:
    """Loop of the atom table, by whichever of its columns there is."""
    for name in ("id", *_PLACES):
        column = block.find_loop(f"_atom_site.{name}")
        if column:
            return column.get_loop()
    return None


def _complete(loop: gemmi.cif.Loop) -> None:
    present = [tag.split(".", 1)[1] for tag in loop.tags]
    absent = next((name for name in _PLACES if name not in present), None)
    if absent is not None:
        raise ValueError(f"it has no column _atom_site.{absent}")
    for name, (other, value) in _SUBSTITUTES.items():
        if name in present:
            continue
        if other not in present and not value:
            raise ValueError(f"it has no column _atom_site.{name}" + (f" or _atom_site.{other}" if other else ""))
        loop.add_columns([f"_atom_site.{name}"], value or "?")
        if other in present:
            target, source = len(loop.tags) - 1, loop.tags.index(f"_atom_site.{other}")
            for row in range(loop.length()):
                loop[row, target] = loop[row, source]
