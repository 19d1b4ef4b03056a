"""What the engine found out about the classes of subtomograms: result tables by id, and tables of classes."""

from __future__ import annotations

import csv
import os
from typing import Any

import numpy as np

from ..common.tables import read_table, write_table
from .tables import ResultTable

TRUTH_TABLE, VALIDATION_TABLE, CLASSES_TABLE, CLUSTERS_TABLE = 'truth.npz', 'validation.npz', 'classes.npz', 'clusters.npz'
CLASSES_REPORT, CLUSTERS_REPORT, CONFUSION = 'classes.csv', 'clusters.csv', 'confusion.csv'
KNOWN_FEATURES = 'known_features.npz'


class ClassTable(ResultTable):
    """Classes of subtomograms by their ids; ``names`` are those of the classes, number 1 first."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.names = list(self.meta.get('class_names') or [])

    def classOf(self, item: Any) -> int:
        """Number of the class of a subtomogram, 0 for none."""
        return int(self.value(item, 'class'))

    def nameOf(self, number: int) -> Any:
        return self.names[number - 1] if 0 < number <= len(self.names) else 'class %d' % number


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
