"""Sets filled from another set by bulk inserts: the rows of a file are copied, and only what changes goes through objects.

pyworkflow makes some forty objects for each item that it reads, copies and appends. Here the first item goes that way: it makes the tables, and shows which
columns are those of the source, which are the same for all items, and which change. The others are copied from table to table. A set that this does not
hold for (items of another kind, acquisitions of some items only) is filled item by item.
"""

from __future__ import annotations

from itertools import islice, repeat
from typing import Any, Callable, Iterator, Sequence

import numpy as np
from pyworkflow.object import CsvList, Scalar

CHUNK = 2000  # rows in memory at once
_FIXED = ('id', 'enabled', 'label', 'comment')  # columns that every table has
_NOT_SET = object()


def iterItems(items: Any, rowFilter: Any = None) -> Iterator[Any]:
    """Items of a set of images, or of a class, each with an acquisition of its own; those whose row ``rowFilter`` is true of, where it is given.

    pwem gives an item that says none the very object of its set, into which it then reads the next item.
    """
    for item in items.iterItems(rowFilter=rowFilter):
        if item.getAcquisition() is items.getAcquisition():
            item.setAcquisition(item.getAcquisition().clone())
        yield item


class SetRows:
    """Items of a set, or of a class, as the rows of its table: id, enabled, label, comment, then a column for each of ``labels``.

    Labels are names of attributes, as in ``_ctfModel._defocusU``.
    """

    def __init__(self, items: Any) -> None:
        self._db = items._getMapper().db
        columns = [row for row in self._db.getClassRows() if row['label_property'] != 'self']
        self.labels = [row['label_property'] for row in columns]
        self._columns = [row['column_name'] for row in columns]

    def _select(self, where: str, values: Any) -> Any:
        cursor = self._db.connection.cursor()
        cursor.row_factory = None
        return cursor.execute('SELECT %s FROM %sObjects %s' % (', '.join([*_FIXED, *self._columns]), self._db.tablePrefix, where), values)

    def row(self, objId: int) -> Any:
        """The row of one item."""
        return self._select('WHERE id = ?', (objId,)).fetchone()

    def chunks(self, after: int = -1) -> Iterator[Any]:
        """Lists of rows by id, of items whose id is larger than ``after``."""
        cursor = self._select('WHERE id > ? ORDER BY id', (after,))
        while True:
            rows = cursor.fetchmany(CHUNK)
            if not rows:
                return
            yield rows

    def isRegular(self) -> bool:
        """Does either every item say a value of its acquisition, or none?"""
        names = [name for label, name in zip(self.labels, self._columns) if label.startswith('_acquisition.')]
        counts = ', '.join(['COUNT(*)', *('COUNT(%s)' % name for name in names)])
        total, *said = tuple(self._db.connection.execute('SELECT %s FROM %sObjects' % (counts, self._db.tablePrefix)).fetchone())
        return all(count in (0, total) for count in said)


def columnChunks(items: Any, chosen: Any = None) -> Iterator[Any]:
    """``(ids, cells)`` of chunks of a set's items, or of ``chosen`` ones that have its properties.

    ``cells(label)`` are the values of an attribute as they are stored; None where an item has none.
    """
    if chosen is not None:
        chosen = iter(chosen)
        while True:
            rows = []
            for item in islice(chosen, CHUNK):  # the next one may be the same object with other values
                rows.append(item.getObjDict())
                rows[-1]['id'] = item.getObjId()
            if not rows:
                return
            yield [row['id'] for row in rows], lambda label, rows=rows: [row.get(label) for row in rows]
    elif items.getSize():
        source = SetRows(items)
        places = {label: place for place, label in enumerate(source.labels, start=len(_FIXED))}
        for chunk in source.chunks():
            columns = list(zip(*chunk))
            yield list(columns[0]), lambda label, columns=columns: columns[places[label]] if label in places else [None] * len(columns[0])


class RowCopier:
    """Copies rows of a source into the table of a set that has the copy of one item already.

    Parameters
    ----------
    source : SetRows
    output : Set
        The set, or class, with that item appended.
    first : int
        Id of that item, in both.
    changed : collection of str
        Labels whose values :meth:`insert` is given.
    enabled : bool
        Do disabled items stay disabled?
    """

    def __init__(self, source: SetRows, output: Any, first: int, changed: Any, enabled: bool) -> None:
        self._output, self._enabled = output, enabled
        made = SetRows(output)
        before, after = source.row(first), made.row(first)
        places = {label: place for place, label in enumerate(source.labels, start=len(_FIXED))}
        self._cells: list[Any] = [self._cellsOf(label, before[places[label]] if label in places else _NOT_SET, value, places.get(label, -1), changed)
                                  for label, value in zip(made.labels, after[len(_FIXED):])]
        self.isPossible = None not in self._cells and [before[2] or '', before[3] or ''] == list(after[2:4]) and source.isRegular()

    def _cellsOf(self, label: str, before: Any, after: Any, place: int, changed: Any) -> Callable[[Any, Any], Any] | None:
        """What gives the cells of a column, from the source's columns and the changed ones; None when the first item does not tell it."""
        if label in changed:
            return lambda columns, values: values[label]
        if before is _NOT_SET or (label == '_samplingRate' and self._output.getSamplingRate()):  # the set's own holds for all its items
            return lambda columns, values: repeat(after)
        if before == after:
            return lambda columns, values: columns[place]
        if before is None:  # what the item does not say
            return lambda columns, values: [after if cell is None else cell for cell in columns[place]]
        return None

    def insert(self, columns: Any, changed: dict[str, Any]) -> None:
        """Copy rows, given as columns, with the values of the changed labels."""
        ids, enabled, labels, comments = columns[:len(_FIXED)]
        db, output = self._output._getMapper().db, self._output
        head = (ids, [bool(value) for value in enabled] if self._enabled else repeat(True), [text or '' for text in labels], [text or '' for text in comments])
        db.connection.executemany(db.INSERT_OBJECT, zip(*head, *(cells(columns, changed) for cells in self._cells)))
        output._size.set(output._size.get() + len(ids))
        output._idCount = max(output._idCount, max(ids))


class _Changes:
    """Values that ``update`` gives to items, found with one item that it is called on again and again."""

    def __init__(self, item: Any, update: Any, reads: Sequence[str]) -> None:
        self._item, self._update, self._reads = item, update, reads
        if update is None:
            self.labels: list[str] = []
            return
        before: Any = _leaves(item)
        for leaf in before.values():
            leaf._objValue = _NOT_SET
        update(item)
        self.labels = [label for label, leaf in _leaves(item).items() if leaf is not before.get(label) or leaf._objValue is not _NOT_SET or label in reads]

    def values(self, columns: Any, places: dict[str, int]) -> dict[str, Any]:
        """``{label: values}`` of the items of some rows."""
        if self._update is None:
            return {}
        paths, found = [label.split('.') for label in self.labels], []
        for number, objId in enumerate(columns[0]):
            self._item.setObjId(objId)
            for label in self._reads:
                self._set(label, columns[places[label]][number] if label in places else None)
            self._update(self._item)
            found.append([_stored(self._item, path) for path in paths])
        return dict(zip(self.labels, zip(*found)))

    def _set(self, label: str, value: Any) -> None:
        leaf = getattr(self._item, label, None)
        if isinstance(leaf, CsvList):
            leaf.clear()
        if leaf is not None:
            leaf.set(value)


def _leaves(item: Any) -> dict[str, Any]:
    return {label: leaf for label, leaf in item.getMappedDict().items() if isinstance(leaf, Scalar)}


def _stored(item: Any, path: Sequence[str]) -> Any:
    for name in path:
        item = getattr(item, name)
    return item.getObjValue()


def appendCopies(
    source: Any, output: Any, itemOf: Any, update: Any = None, keep: Any = None, reads: Sequence[str] = (), enabled: bool = False
) -> set[int]:
    """Append copies of a set's items, by bulk inserts where the first item shows how.

    Parameters
    ----------
    source, output : Set
        ``output`` is new and empty, and has its properties.
    itemOf : callable
        ``itemOf(item)`` is a copy of an item of the source, with its id.
    update : callable, optional
        ``update(copy)`` changes a copy by its id: the same attributes of every item. It may ask for those of ``reads``, no others.
    keep : set of int, optional
        Ids of the items to take.
    reads : sequence of str
        Attributes that ``update`` asks for, or does not change in every item.
    enabled : bool
        Do the copies of disabled items stay disabled?

    Returns
    -------
    set of int
        Ids of ``keep`` that the source does not have.
    """
    wanted = None if keep is None else {int(value) for value in keep}
    first = None
    for item in iterItems(source):
        if wanted is None or item.getObjId() in wanted:
            first = item.getObjId()
            output.append(_copy(item, itemOf, update))
            break
    if first is None:
        return wanted or set()
    if wanted is not None:
        wanted.discard(first)
    rows = SetRows(source)
    changes = _Changes(itemOf(source[first]), update, reads)
    copier = RowCopier(rows, output, first, changes.labels, enabled)
    if not copier.isPossible:
        _appendOthers(source, output, first, wanted, lambda item: _copy(item, itemOf, update))
        return wanted or set()
    places = {label: place for place, label in enumerate(rows.labels, start=len(_FIXED))}
    for chunk in rows.chunks(after=first):
        if wanted is not None:
            chunk = [row for row in chunk if row[0] in wanted]
            wanted.difference_update(row[0] for row in chunk)
        if chunk:
            columns = list(zip(*chunk))
            copier.insert(columns, changes.values(columns, places))
    return wanted or set()


def _copy(item: Any, itemOf: Any, update: Any) -> Any:
    copy = itemOf(item)
    if update is not None:
        update(copy)
    return copy


def _appendOthers(source: Any, output: Any, first: int, wanted: set[int] | None, copyOf: Any) -> None:
    """Append copies of the items after the first one, one by one."""
    for item in iterItems(source):
        if item.getObjId() > first and (wanted is None or item.getObjId() in wanted):
            if wanted is not None:
                wanted.discard(item.getObjId())
            output.append(copyOf(item))


def distribute(source: Any, classes: Any, numbersOf: Any, classify: Any) -> None:
    """Fill new classes with copies of a set's items that differ from them by their class only, by bulk inserts.

    Parameters
    ----------
    source : Set
    classes : SetOfClasses
    numbersOf : callable
        Numbers (n,) of the classes of rows, given as columns ``id``, ``enabled`` and ``_classId`` (None where the source has none); those of class 0 are
        in none.
    classify : callable
        ``classify(wanted)`` puts the items whose id ``wanted`` is true of into their classes by pyworkflow's own means, and returns ``{number: class}``.
    """
    rows = SetRows(source)
    own = len(_FIXED) + rows.labels.index('_classId') if '_classId' in rows.labels else 0

    def chunks() -> Iterator[Any]:
        for chunk in rows.chunks():
            yield chunk, numbersOf([row[0] for row in chunk], [row[1] for row in chunk], [row[own] if own else None for row in chunk])

    firsts: dict[int, int] = {}
    for chunk, numbers in chunks():
        for number, place in zip(*np.unique(numbers, return_index=True)):
            firsts.setdefault(int(number), chunk[place][0])
    firsts.pop(0, None)
    ids = set(firsts.values())
    made = classify(ids.__contains__)
    copiers = {number: RowCopier(rows, made[number], first, ['_classId'], False) for number, first in firsts.items()}
    if not all(copier.isPossible for copier in copiers.values()):
        classify(lambda objId: objId not in ids)
        return
    for chunk, numbers in chunks():
        for number in set(np.unique(numbers).tolist()) - {0}:
            members = [row for row, of in zip(chunk, numbers) if of == number and row[0] not in ids]
            if members:
                copiers[number].insert(list(zip(*members)), {'_classId': repeat(number)})
    for item in made.values():
        classes.update(item)
