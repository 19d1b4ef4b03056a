"""Optics groups of a set of particles: what items say of their acquisition wins over the set."""

from __future__ import annotations

import io
from collections import OrderedDict
from typing import Any

from emtable import Table

from .star_rows import opticsOf, withImages

_MICROSCOPE = (('rlnVoltage', 'getVoltage'), ('rlnSphericalAberration', 'getSphericalAberration'), ('rlnAmplitudeContrast', 'getAmplitudeContrast'))


class OpticsGroups:
    """A group for each distinct acquisition, pixel size and box of the items of a set.

    ``rows`` holds the groups as columns of data_optics; calling with a particle gives the number of its group, adding a group where there is none.

    Parameters
    ----------
    properties : SetOfParticles
    types : dict
        Type of each column of optics groups that an import kept as text.
    """

    def __init__(self, properties: Any, types: Any) -> None:
        self._properties, self._types = properties, types
        self._known: dict[Any, int] = {}
        self._ofText: dict[str, Any] = {}
        self._boxes: dict[str, int] = {}
        self._box, self._pixel = int(properties.getXDim()), float(properties.getSamplingRate())
        acquisition = properties.getAcquisition()
        self._ofSet = tuple(getattr(acquisition, name)() for _, name in _MICROSCOPE)
        self._acquisition, self._text = acquisition, acquisition.getAttributeValue('opticsGroupInfo') or ''
        self.rows = [withImages(OrderedDict(group), properties, 2) for group in self._groups(self._text).values()] or [
            withImages(opticsOf(acquisition), properties, 2)]

    def __call__(self, particle: Any) -> int:
        """Number of the group of a particle."""
        number = int(particle.getAttributeValue('_rlnOpticsGroup', 1))
        own = particle.getAcquisition() if particle.hasAcquisition() else None
        values = tuple(None if own is None else getattr(own, name)() for _, name in _MICROSCOPE)
        if values == self._ofSet:
            values = (None,) * len(values)  # a copy of the set's, which the groups that an import kept go before
        text = (own.getAttributeValue('opticsGroupInfo') if own is not None else None) or self._text
        pixel = float(particle.getSamplingRate() or self._pixel)
        key = number, values, text, pixel, self._boxOf(particle)
        if key not in self._known:
            self._known[key] = self._numberOf(*key)
        return self._known[key]

    def _numberOf(self, number: int, values: Any, text: str, pixel: float, box: int) -> int:
        """Number of a group with these properties: one that is there, else a new one."""
        group = OrderedDict(self._groups(text).get(number) or opticsOf(self._acquisition))
        withImages(group, self._properties, 2)
        group.update({label: value for (label, _), value in zip(_MICROSCOPE, values) if value is not None})
        group.update(rlnImagePixelSize=pixel, rlnImageSize=box)
        taken = {row['rlnOpticsGroup'] for row in self.rows}
        for row in self.rows:
            if {**row, 'rlnOpticsGroup': 0, 'rlnOpticsGroupName': ''} == {**group, 'rlnOpticsGroup': 0, 'rlnOpticsGroupName': ''} and (
                    row['rlnOpticsGroup'] == number or number not in taken or text != self._text):
                return row['rlnOpticsGroup']
        first = self.rows[0]
        if not self._known and len(self.rows) == 1 and first['rlnOpticsGroup'] == number:
            self.rows[:] = []  # the set's own group, which no item has
        else:
            number = number if number not in taken else max(taken) + 1
        group.update(rlnOpticsGroup=number, rlnOpticsGroupName='opticsGroup%d' % number if self.rows else group['rlnOpticsGroupName'])
        self.rows.append(group)
        return number

    def _groups(self, text: str) -> Any:
        """Groups by number of the text that an import kept in an acquisition."""
        if text not in self._ofText:
            table = Table()
            if text:
                table.readStar(io.StringIO(text), tableName='optics', types=self._types)
            self._ofText[text] = {row.rlnOpticsGroup: row._asdict() for row in table} if text else {}
        return self._ofText[text]

    def _boxOf(self, particle: Any) -> int:
        """Side of an image, read once from the file of each; that of the set where it cannot be."""
        name = particle.getFileName()
        if name not in self._boxes:
            try:
                self._boxes[name] = int(particle.getDim()[0])
            except Exception:
                self._boxes[name] = self._box
        return self._boxes[name]
