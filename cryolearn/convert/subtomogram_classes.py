"""What the engine found out about the classes of subtomograms: result tables by id, and tables of classes."""

from __future__ import annotations

import csv
import os
from typing import Any

import numpy as np

from ..common.tables import read_table, write_table
from .tables import rowOf, rowsById

TRUTH_TABLE, VALIDATION_TABLE, CLASSES_TABLE, CLUSTERS_TABLE = 'truth.npz', 'validation.npz', 'classes.npz', 'clusters.npz'
CLASSES_REPORT, CLUSTERS_REPORT, CONFUSION = 'classes.csv', 'clusters.csv', 'confusion.csv'
KNOWN_FEATURES = 'known_features.npz'


class ClassTable:
    """Classes of subtomograms by their ids.

    Attributes
    ----------
    columns : dict of arrays
    names : list of str
        Of the classes, number 1 first.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self.columns, self.meta = read_table(path)
        self.names = list(self.meta.get('class_names') or [])
        self._rows = rowsById(self.columns['id'])

    def __len__(self) -> int:
        return len(self.columns['id'])

    def classOf(self, item: Any) -> int:
        """Number of the class of a subtomogram, 0 for none."""
        return int(self.value(item, 'class'))

    def value(self, item: Any, column: Any) -> Any:
        """Value of a column for a subtomogram; None when the table has no such column."""
        if column not in self.columns:
            return None
        return self.columns[column][self.rowOf(item)].item()

    def rowOf(self, item: Any) -> Any:
        """Row of a subtomogram in the table."""
        return rowOf(self._rows, item.getObjId(), self._path)

    def nameOf(self, number: int) -> Any:
        return self.names[number - 1] if 0 < number <= len(self.names) else 'class %d' % number


def readRows(path: str) -> list[Any]:
    """Rows of a CSV file as dictionaries; numbers are numbers, what is empty is None."""
    with open(path, newline='') as handle:
        return [{name: _value(text) for name, text in row.items()} for row in csv.DictReader(line for line in handle if not line.startswith('#'))]


def _value(text: str) -> Any:
    if text is None or text == '':
        return None
    try:
        number = float(text)
    except ValueError:
        return text
    return None if number != number else number


def readConfusion(path: str) -> Any:
    """Counts of a confusion table: ``(names of rows, names of columns, counts (n, m))``."""
    with open(path, newline='') as handle:
        rows = list(csv.reader(line for line in handle if not line.startswith('#')))
    return [row[0] for row in rows[1:]], rows[0][1:], np.array([[float(value) for value in row[1:]] for row in rows[1:]])


def writeKnownFeatures(model: Any, path: str) -> Any:
    """Features of the labelled subtomograms that a network was validated on, with their true classes, for distances from them.

    Returns the path, or '' when the network's own table is not there any more.
    """
    source = os.path.join(os.path.dirname(model.getFolder().rstrip('/')), VALIDATION_TABLE)
    if not os.path.exists(source):
        return ''
    columns, meta = read_table(source)
    write_table(path, {'id': columns['id'], 'features': columns['features'], 'true_class': columns['true_class']}, {'class_names': meta.get('class_names')})
    return path
