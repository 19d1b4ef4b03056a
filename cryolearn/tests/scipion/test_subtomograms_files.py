"""Subtomograms of Scipion as files and back: poses, tilt ranges, classes, files of every kind, all by id."""

import os

import mrcfile
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .base import ProjectTest  # noqa: F401  (sets Scipion's domain)

from emtable import Table
from pwem.convert.transformations import euler_from_matrix, euler_matrix, translation_from_matrix
from pwem.objects import Transform
from pyworkflow.object import Integer, Pointer, String
from pyworkflow.protocol import Protocol
from tomo.constants import BOTTOM_LEFT_CORNER, TR_RELION
from tomo.objects import (
    Coordinate3D, SetOfClassesSubTomograms, SetOfCoordinates3D, SetOfSubTomograms, SetOfTomograms, SubTomogram, TomoAcquisition, Tomogram,
)

from cryolearn.convert.poses import rotationFromAngles
from cryolearn.convert.subtomogram_sets import appendSubtomograms, fillClasses, makeAverage, setClass, setPose
from cryolearn.convert.subtomogram_star import writeLabelledSets, writeSubtomograms
from cryolearn.convert.subtomograms import checkSet, iterSubtomograms, tiltRange

PIXEL, BOX = 9.2, 8
IDS = [4, 9, 17, 120, 4000000]  # neither from 1 nor in steps of 1
ANGLES = [[10, 20, 30], [-170, 95, 60], [0, 0, 0], [45, 180, 0], [80, 1e-6, -20]]
ORIGINS = [[0, 0, 0], [9.2, -4.6, 2.3], [1, 2, 3], [-8, 0, 5], [0.5, 0.25, -7]]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def volumeFile(name, seed=0, shape=(BOX, BOX, BOX)):
    with mrcfile.new(name, overwrite=True) as mrc:
        mrc.set_data(np.random.default_rng(seed).normal(size=shape).astype(np.float32))
    return name


def tomoMatrix(angles, originAngst):
    """Scipion's matrix of RELION's angles and origin, by pwem's functions."""
    matrix = euler_matrix(*-np.deg2rad(angles), 'szyz')
    matrix[:3, 3] = -np.asarray(originAngst) / PIXEL
    return np.linalg.inv(matrix)


def makeSet(name='subtomograms.sqlite', ids=IDS, poses=True, tilt=(-60, 55), update=None):
    subtomograms = SetOfSubTomograms(filename=name)
    subtomograms.setSamplingRate(PIXEL)
    for row, objId in enumerate(ids):
        item = SubTomogram()
        item.setObjId(objId)
        item.setLocation(0, volumeFile('volume_%d.mrc' % row, row))
        item.setSamplingRate(PIXEL)
        item.setAcquisition(TomoAcquisition(angleMin=tilt[0], angleMax=tilt[1], step=3, voltage=200, sphericalAberration=2.0, amplitudeContrast=0.08))
        if poses:
            item.setTransform(Transform(matrix=tomoMatrix(ANGLES[row], ORIGINS[row])))
        if update:
            update(row, item)
        subtomograms.append(item)
    if poses:
        subtomograms.setAlignment3D()
    subtomograms.write()
    return subtomograms


def rowsOf(star):
    reader = Table.Reader(star, tableName='particles', types={'rlnImageId': int})
    return {row.rlnImageId: row for row in reader}


# -------------------------------------------------------- poses --------------------------------------------------------
def test_poses_are_those_of_tomo_for_relion(folder):
    """What scipion-em-reliontomo writes: tomo's matrix for RELION, inverted, its angles and the shift with the sign turned."""
    subtomograms = makeSet()
    assert writeSubtomograms(subtomograms, 'all.star') == len(IDS)
    rows = rowsOf('all.star')
    assert sorted(rows) == sorted(IDS)
    for item in subtomograms.iterItems():
        row = rows[item.getObjId()]
        relion = item.getTransform(convention=TR_RELION).getMatrix()
        angles = -np.rad2deg(euler_from_matrix(np.linalg.inv(relion), axes='szyz'))
        written = [float(getattr(row, 'rlnAngle' + name)) for name in ('Rot', 'Tilt', 'Psi')]
        np.testing.assert_allclose(rotationFromAngles(written), rotationFromAngles(angles), atol=1e-6)
        origin = [float(getattr(row, 'rlnOrigin%sAngst' % axis)) for axis in 'XYZ']
        np.testing.assert_allclose(origin, -translation_from_matrix(relion) * PIXEL, atol=1e-5)
        place = IDS.index(item.getObjId())
        np.testing.assert_allclose(origin, ORIGINS[place], atol=1e-5)
        np.testing.assert_allclose(rotationFromAngles(written), rotationFromAngles(ANGLES[place]), atol=1e-6)


angle = st.floats(-180, 180, allow_nan=False, width=32)
length = st.floats(-20, 20, allow_nan=False, width=32)


@given(angle, angle, angle, length, length, length)
@settings(max_examples=50, deadline=None)
def test_an_atom_appears_where_tomo_says(rot, tilt, psi, x, y, z):
    """tomo: subtomogram(r) = reference(M r). So an atom at a in the reference lies at the r with M r = a; RELION: r = A a - origin."""
    matrix = tomoMatrix([rot, tilt, psi], [x * PIXEL, y * PIXEL, z * PIXEL])
    atom = np.array([3., -5., 2.])
    place = np.linalg.solve(matrix, [*atom, 1])[:3]
    np.testing.assert_allclose(place, rotationFromAngles([rot, tilt, psi]) @ atom - [x, y, z], atol=1e-6)


def test_without_poses(folder):
    writeSubtomograms(makeSet(poses=False), 'none.star')
    writeSubtomograms(makeSet('posed.sqlite'), 'left.star', poses=False)
    for star in ('none.star', 'left.star'):
        assert not hasattr(rowsOf(star)[IDS[0]], 'rlnAngleRot')


# -------------------------------------------------------- files --------------------------------------------------------
def test_files_of_their_own_are_named_others_are_written(folder):
    from pwem.emlib.image import ImageHandler
    volumeFile('stack.mrcs', 7, (3 * BOX, BOX, BOX))
    volumeFile('with space.mrc', 8)
    ImageHandler().convert(volumeFile('source.mrc', 9), 'foreign.vol')
    volumeFile('one.mrc', 10)
    places = [(2, 'stack.mrcs'), (0, 'with space.mrc'), (0, 'foreign.vol'), (1, 'one.mrc'), (0, 'one.mrc:mrc')]
    subtomograms = makeSet(update=lambda row, item: item.setLocation(*places[row]))
    writeSubtomograms(subtomograms, 'all.star')
    names = {objId: row.rlnImageName for objId, row in rowsOf('all.star').items()}
    expected = [mrcfile.read('stack.mrcs')[BOX:2 * BOX], mrcfile.read('with space.mrc'), mrcfile.read('source.mrc'), mrcfile.read('one.mrc'),
                mrcfile.read('one.mrc')]
    for objId, data in zip(IDS, expected):
        np.testing.assert_allclose(mrcfile.read(names[objId]), data, atol=1e-6)
        assert ' ' not in names[objId]
    assert names[IDS[3]] == names[IDS[4]] == 'one.mrc'
    assert os.path.islink(names[IDS[1]]) and not os.path.islink(names[IDS[0]])
    with mrcfile.open(names[IDS[0]]) as mrc:
        assert float(mrc.voxel_size.x) == pytest.approx(PIXEL, abs=1e-4)


@pytest.mark.parametrize('place, words', [
    ((0, 'gone.mrc'), "'gone.mrc' of subtomogram 17 does not exist"),
    ((4, 'stack.mrcs'), "holds no volume 4 (of subtomogram 17)"),
    ((0, 'text.hdf'), "'text.hdf' of subtomogram 17 cannot be read"),
])
def test_files_that_cannot_be_used_are_named(folder, place, words):
    volumeFile('stack.mrcs', 7, (3 * BOX, BOX, BOX))
    with open('text.hdf', 'w') as handle:
        handle.write('no volume')
    subtomograms = makeSet(update=lambda row, item: item.setLocation(*place) if row == 2 else None)
    with pytest.raises(ValueError) as refused:
        writeSubtomograms(subtomograms, 'all.star')
    assert words in str(refused.value)


# ------------------------------------------------------ tilt range -----------------------------------------------------
def test_tilt_range_of_item_or_set(folder):
    subtomograms = makeSet()
    assert tiltRange(subtomograms.getFirstItem(), subtomograms) == (-60, 55)
    other = makeSet('other.sqlite', tilt=(None, None))
    assert tiltRange(other.getFirstItem(), other) is None
    other.setAcquisition(TomoAcquisition(angleMin=-40, angleMax=41))
    assert tiltRange(other.getFirstItem(), other) == (-40, 41)
    assert checkSet(other) == []
    assert checkSet(subtomograms) == []


def test_bad_sets_are_refused_by_name(folder):
    """Missing or impossible tilt range, mixed sampling, an empty set: a sentence that names the item."""
    def change(row, item):
        if row == 2:
            item.getAcquisition().setAngleMax(None)
    sentence, = checkSet(makeSet('a.sqlite', update=change))
    assert 'Subtomogram 17' in sentence and 'no tilt range' in sentence
    sentence, = checkSet(makeSet('b.sqlite', tilt=(60, -60)))
    assert 'Subtomogram 4' in sentence and '60 to -60' in sentence
    mixed = makeSet('c.sqlite')
    mixed.setSamplingRate(4.6)
    sentence, = checkSet(mixed)
    assert 'Subtomogram 4' in sentence and '9.2 Å/px' in sentence and '4.6 Å/px' in sentence
    with pytest.raises(ValueError, match='Subtomogram 4 .*9.2'):
        writeSubtomograms(mixed, 'all.star')
    assert 'empty' in checkSet(makeSet('d.sqlite', ids=[]))[0]
    with pytest.raises(ValueError, match='empty'):
        writeSubtomograms(makeSet('e.sqlite', ids=[]), 'all.star')


# ------------------------------------------------------- classes -------------------------------------------------------
def named(row, item):
    setClass(item, 1 + row % 2, 'ribosome 70S' if row % 2 == 0 else 'ATPase', 0.5)


def classesOf(subtomograms, name='classes.sqlite', numberOf=SubTomogram.getClassId, **options):
    protocol = Protocol()
    protocol.output = subtomograms
    classes = SetOfClassesSubTomograms(filename=name)
    classes.setImages(Pointer(value=protocol, extended='output'))
    fillClasses(classes, numberOf, **options)
    classes.write()
    return classes


def test_class_names_are_written(folder):
    subtomograms = makeSet(update=named)
    writeSubtomograms(subtomograms, 'all.star', classes=True)
    names = {objId: row.rlnClassName for objId, row in rowsOf('all.star').items()}
    assert [names[objId] for objId in IDS] == ['ribosome_70S', 'ATPase', 'ribosome_70S', 'ATPase', 'ribosome_70S']
    groups = classesOf(subtomograms, nameOf={1: 'one', 2: 'two'}.get)
    assert writeSubtomograms(groups, 'groups.star', classes=True) == len(IDS)
    assert {objId: row.rlnClassName for objId, row in rowsOf('groups.star').items()} == dict(zip(IDS, ['one', 'two'] * 3))


def test_classes_that_cannot_be_told_are_refused(folder):
    with pytest.raises(ValueError, match="Subtomogram 4 .* has no class"):
        writeSubtomograms(makeSet('none.sqlite'), 'all.star', classes=True)
    two = makeSet('two.sqlite', update=lambda row, item: setClass(item, 1 + row % 2, 'a b' if row % 2 else 'a_b'))
    with pytest.raises(ValueError, match="'a b' and 'a_b'"):
        writeSubtomograms(two, 'all.star', classes=True)


def test_members_of_two_classes_and_disabled_ones(folder):
    groups = classesOf(makeSet(update=named))
    assert sorted(item.getObjId() for item, _, _ in iterSubtomograms(groups)) == IDS
    assert {number for _, number, _ in iterSubtomograms(groups)} == {1, 2}
    double = SetOfClassesSubTomograms(filename='double.sqlite')
    double.setImages(groups.getImagesPointer())
    for number in (1, 2):
        group = groups.ITEM_TYPE(objId=number)
        group.copyInfo(groups.getImages())
        double.append(group)
        group.append(groups.getImages().getFirstItem())
        double.update(group)
    double.write()
    with pytest.raises(ValueError, match='Subtomogram 4 is in classes 1 and 2'):
        list(iterSubtomograms(double))


def test_several_sets_are_classes_of_their_own(folder):
    """Ids that repeat are numbered anew; what has a class keeps it."""
    one, two = makeSet('one.sqlite', poses=False), makeSet('two.sqlite', ids=[4, 9], update=named)
    assert writeLabelledSets([(one, 'from the lab'), (two, 'unused')], 'all.star') == 7
    rows = rowsOf('all.star')
    assert sorted(rows) == list(range(1, 8))
    assert [rows[number].rlnClassName for number in range(1, 8)] == ['from_the_lab'] * 5 + ['ribosome_70S', 'ATPase']
    assert not hasattr(rows[7], 'rlnAngleRot')
    two.setSamplingRate(4.6)
    with pytest.raises(ValueError, match="'second' has 4.6 Å/px, but 'first' has 9.2 Å/px"):
        writeLabelledSets([(one, 'first'), (two, 'second')], 'all.star')


# -------------------------------------------------------- sets ---------------------------------------------------------
def extractedSet():
    """Subtomograms as an extraction leaves them: coordinates in a tomogram of another sampling rate."""
    tomograms = SetOfTomograms(filename='tomograms.sqlite')
    tomograms.setSamplingRate(PIXEL / 2)
    tomogram = Tomogram()
    tomogram.setTsId('TS_1')
    tomogram.setSamplingRate(PIXEL / 2)
    tomogram.setFileName(volumeFile('tomogram.mrc', 3, (32, 32, 32)))
    tomogram.setOrigin(Transform())
    tomogram.setAcquisition(TomoAcquisition(angleMin=-60, angleMax=55))
    tomograms.append(tomogram)
    tomograms.write()
    protocol = Protocol()
    protocol.tomograms = tomograms
    coordinates = SetOfCoordinates3D(filename='coordinates.sqlite')
    coordinates.setPrecedents(tomograms)
    coordinates.setSamplingRate(PIXEL / 2)
    coordinates.write()
    protocol.coordinates = coordinates

    def place(row, item):
        coordinate = Coordinate3D()
        coordinate.setVolume(tomogram)
        coordinate.setPosition(10 + row, 12, 14, BOTTOM_LEFT_CORNER)
        coordinate.setGroupId(row)
        item.setCoordinate3D(coordinate)
        item.setVolName('TS_1')
        item._rlnRandomSubset = Integer(1 + row % 2)
        item._note = String('note %d' % row)
    subtomograms = makeSet('extracted.sqlite', update=place)
    subtomograms.setCoordinates3D(Pointer(value=protocol, extended='coordinates'))
    subtomograms.write()
    return subtomograms, protocol


def test_everything_of_an_extracted_set_is_carried_over(folder):
    source, _ = extractedSet()
    writeSubtomograms(source, 'all.star')
    assert [int(row.rlnRandomSubset) for row in rowsOf('all.star').values()] == [1, 2, 1, 2, 1]
    output = SetOfSubTomograms(filename='output.sqlite')
    appendSubtomograms(source, output, update=lambda item: setClass(item, 2, 'x', 0.25))
    output.write()
    assert output.hasCoordinates3D() and output.hasAlignment3D() and output.getSamplingRate() == PIXEL
    kept = {item.getObjId(): item.clone() for item in source.iterItems()}
    positions = {item.getObjId(): item.getCoordinate3D().getPosition(BOTTOM_LEFT_CORNER) for item in source.iterSubtomos()}
    assert positions[9] == pytest.approx((11, 12, 14))
    for item in output.iterSubtomos():
        before = kept[item.getObjId()]
        np.testing.assert_array_equal(item.getTransform().getMatrix(), before.getTransform().getMatrix())
        assert item.getCoordinate3D().getPosition(BOTTOM_LEFT_CORNER) == positions[item.getObjId()]
        assert item.getCoordinate3D().getGroupId() == IDS.index(item.getObjId())
        assert item._note.get() == before._note.get() and item.getVolName() == 'TS_1'
        assert (item.getClassId(), item._className.get(), item._classConfidence.get()) == (2, 'x', 0.25)


def test_acquisition_is_on_items_and_set(folder):
    source = makeSet(tilt=(None, None))
    source.setAcquisition(TomoAcquisition(angleMin=-40, angleMax=41, step=2, voltage=200, sphericalAberration=2.0, amplitudeContrast=0.08))
    assert writeSubtomograms(source, 'all.star') == len(IDS)
    for name, input_, tilt, step in (('a', source, (-40, 41), 2), ('b', makeSet('own.sqlite'), (-60, 55), 3)):
        output = SetOfSubTomograms(filename=name + '.sqlite')
        appendSubtomograms(input_, output)
        output.write()
        output.close()
        for acquisition in [output.getAcquisition(), *[item.getAcquisition() for item in output.iterItems()]]:
            assert isinstance(acquisition, TomoAcquisition)
            assert (acquisition.getAngleMin(), acquisition.getAngleMax()) == tilt
        first = output.getFirstItem().getAcquisition()
        assert (first.getStep(), first.getSphericalAberration(), first.getVoltage(), first.getAmplitudeContrast()) == (step, 2.0, 200, 0.08)


def test_alignment_is_said_not_guessed(folder):
    """The first item's pose is the identity, from which tomo would conclude that nothing is aligned, and the other way round."""
    source = makeSet(poses=False)
    output = SetOfSubTomograms(filename='posed.sqlite')
    appendSubtomograms(source, output, update=lambda item: setPose(item, np.eye(4)), aligned=True)
    assert output.hasAlignment3D()
    for group in classesOf(output, numberOf=lambda item: 1 + item.getObjId() % 2).iterItems():
        assert group.hasAlignment3D()
    plain = SetOfSubTomograms(filename='plain.sqlite')
    appendSubtomograms(makeSet('posed2.sqlite'), plain, aligned=False)
    assert not plain.hasAlignment()


def test_a_part_of_a_set(folder):
    source = makeSet()
    output = SetOfSubTomograms(filename='part.sqlite')
    appendSubtomograms(source, output, keep=[120, 9])
    assert [item.getObjId() for item in output.iterItems()] == [9, 120]
    with pytest.raises(ValueError, match='Subtomogram 5 was selected'):
        appendSubtomograms(source, SetOfSubTomograms(filename='wrong.sqlite'), keep=[9, 5])


def test_classes_and_their_averages(folder):
    def classed(row, item):
        named(row, item)
        if row == 4:
            item.setClassId(0)
    source = makeSet(update=classed)
    for name in ('average.mrc', 'half1.mrc', 'half2.mrc'):
        volumeFile(name)

    def average(number):
        return makeAverage('average.mrc', source, ['half1.mrc', 'half2.mrc']) if number == 1 else None
    groups = classesOf(source, nameOf=lambda number: 'kind %d' % number, representativeOf=average)
    groups.close()
    found = {group.getObjId(): (group.getObjLabel(), sorted(group.getIdSet()), group.hasAlignment3D(), group.getSamplingRate())
             for group in groups.iterItems()}
    assert found == {1: ('kind 1', [4, 17], True, PIXEL), 2: ('kind 2', [9, 120], True, PIXEL)}
    first = groups[1]
    assert first.getRepresentative().getFileName() == 'average.mrc'
    assert first.getRepresentative().getHalfMaps() == 'half1.mrc,half2.mrc'
    assert first.getRepresentative().getSamplingRate() == PIXEL
    for group in groups.iterItems():
        for item in group:
            assert item.getClassId() == group.getObjId()
            assert item.getAcquisition().getAngleMax() == 55
            assert item.hasTransform()
