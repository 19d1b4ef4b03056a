"""Optics groups of a set of particles: what items say of their acquisition wins over the set."""

from __future__ import annotations

import io
from collections import OrderedDict
from typing import Any

from emtable import Table

from ..common.limits import LARGEST_BOX_PX
from ..common.limits import same_pixel_size as samePixelSize
from .star_rows import opticsOf, withImages

# Columns by which groups differ for the engine; names, MTF files and the micrographs' pixel size change no result.
_PHYSICS = frozenset((
    'rlnVoltage', 'rlnSphericalAberration', 'rlnAmplitudeContrast', 'rlnImagePixelSize', 'rlnImageSize', 'rlnBeamTiltX', 'rlnBeamTiltY', 'rlnOddZernike',
    'rlnEvenZernike', 'rlnMagMat00', 'rlnMagMat01', 'rlnMagMat10', 'rlnMagMat11', 'rlnCtfDataArePhaseFlipped', 'rlnCtfDataAreCtfPremultiplied'))
_MICROSCOPE = (('rlnVoltage', 'getVoltage'), ('rlnSphericalAberration', 'getSphericalAberration'), ('rlnAmplitudeContrast', 'getAmplitudeContrast'))
_UNITS = {'rlnVoltage': 'voltage %g kV', 'rlnSphericalAberration': 'Cs %g mm', 'rlnAmplitudeContrast': 'amplitude contrast %g'}


class OpticsGroups:
    """A group for each distinct acquisition, pixel size and box of the items of a set.

    ``rows`` holds the groups as columns of data_optics; calling with a particle gives the number of its group, adding a group where there is none.
    ``poseUnits`` is the Å of a pixel of the poses by group: sets give all items their own sampling rate, whatever the images' pixel size.

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
        self.poseUnits: dict[int, float] = {}
        self._box, self._pixel = int(properties.getXDim()), float(properties.getSamplingRate())
        acquisition = properties.getAcquisition()
        self._ofSet = tuple(getattr(acquisition, name)() for _, name in _MICROSCOPE)
        self._acquisition, self._text = acquisition, acquisition.getAttributeValue('opticsGroupInfo') or ''
        self.rows = [withImages(OrderedDict(group), properties, 2) for group in self._groups(self._text).values()] or [
            withImages(opticsOf(acquisition), properties, 2)]

    def __call__(self, particle: Any) -> int:
        """Number of the group of a particle.

        Raises
        ------
        ValueError
            when the groups that an import kept differ, and the particle does not say which is its own or their pixel sizes contradict the set's.
        """
        own = particle.getAcquisition() if particle.hasAcquisition() else None
        values = tuple(None if own is None else getattr(own, name)() for _, name in _MICROSCOPE)
        text = (own.getAttributeValue('opticsGroupInfo') if own is not None else None) or self._text
        if values == self._ofFirst(text) or (text == self._text and values == self._ofSet):
            values = (None,) * len(values)  # a copy of the set's that the particle came in, which the groups that an import kept go before
        pixel = float(particle.getSamplingRate() or self._pixel)
        number = particle.getAttributeValue('_rlnOpticsGroup')
        key = None if number is None else int(number), values, text, pixel, self._boxOf(particle)
        if key not in self._known:
            number = self._keptNumber(key[0], text, particle)
            self._known[key] = self._numberOf(number, values, text, self._pixelOf(number, text, pixel, key[-1]), key[-1])
            self.poseUnits[self._known[key]] = pixel
        return self._known[key]

    def contradiction(self) -> str:
        """A sentence where the set's acquisition is not that of any optics group which an import kept, and which go before it; empty where there is none."""
        said = {label: value for (label, _), value in zip(_MICROSCOPE, self._ofSet) if value is not None}
        kept = [{label: group[label] for label in said if group.get(label) is not None} for group in self._groups(self._text).values()]
        if not kept or any(all(abs(said[label] - value) <= 1e-4 * max(abs(value), 1.) for label, value in group.items()) for group in kept):
            return ''
        return 'The set of particles says %s, but the optics groups that its import kept say %s: the optics groups were used.' % (
            _microscope(said), ' or '.join(sorted({_microscope(group) for group in kept})))

    def _ofFirst(self, text: str) -> Any:
        """Microscope of the first group that an import kept, which is what it gave its set."""
        first: Any = next(iter(self._groups(text).values()), {})
        return tuple(first.get(label) for label, _ in _MICROSCOPE)

    def _keptNumber(self, number: int | None, text: str, particle: Any) -> int:
        """Number among the groups that an import kept; where the particle names none, that of the only one, or of any if all are alike."""
        groups = self._groups(text)
        if number in groups or not groups:
            return 1 if number is None else number
        differ = sorted({label for group in groups.values() for label, value in group.items()
                         if label in _PHYSICS and any(other.get(label) != value for other in groups.values())})
        if differ:
            raise ValueError(
                'The particles come from %d optics groups that differ in %s, but particle %s does not say which is its own (imports of scipion-em-relion drop '
                'rlnOpticsGroup): import the particles of each optics group from a STAR file of its own, and join the sets.'
                % (len(groups), ', '.join(differ), particle.getObjId()))
        return min(groups)

    def _pixelOf(self, number: int, text: str, pixel: float, box: int) -> float:
        """Pixel size of the images of a group.

        A set gives its own sampling rate to every item, also where an import kept groups of several pixel sizes. These are right as long as the set's is one
        of them and the images have the box that their group says; a set that was resampled as a whole has one pixel size.
        """
        groups = self._groups(text)
        kept = sorted({group['rlnImagePixelSize'] for group in groups.values() if group.get('rlnImagePixelSize')})
        if len(kept) < 2:
            return pixel
        if not any(samePixelSize(pixel, size) for size in kept) or groups[number].get('rlnImageSize', box) != box:
            raise ValueError(
                'The optics groups of the particles have pixel sizes of %s Å, and their set has one of %g Å for all: which images were resampled is not known. '
                'Join sets of one pixel size each.' % (', '.join('%g' % size for size in kept), pixel))
        return groups[number].get('rlnImagePixelSize') or pixel

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
                found = int(particle.getDim()[0])
            except Exception:
                found = 0
            self._boxes[name] = found if 1 < found <= LARGEST_BOX_PX else self._box  # the engine names files that are no images
        return self._boxes[name]


def _microscope(values: Any) -> str:
    return ', '.join(_UNITS[label] % value for label, value in values.items())
