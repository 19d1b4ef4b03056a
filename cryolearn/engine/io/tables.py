"""Result tables of :mod:`cryolearn.common.tables`, for the engine."""

from ...common.tables import Columns, join, read_table, write_table

__all__ = ["Columns", "join", "read_table", "write_table"]
