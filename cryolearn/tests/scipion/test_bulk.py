"""Sets that are filled by bulk inserts are, column by column, those that pyworkflow's append makes."""

import contextlib
import os
import sqlite3

import numpy as np
import pytest

from .base import ProjectTest  # noqa: F401  (sets Scipion's domain)

from pwem.objects import SetOfClassesFlex, SetOfParticles, SetOfParticlesFlex
from pyworkflow.object import Float, Integer, Pointer, Set, String
from pyworkflow.protocol import Protocol
from tomo.objects import SetOfClassesSubTomograms, SetOfSubTomograms, TomoAcquisition

from cryolearn.common.tables import write_table
from cryolearn.convert import bulk, classes, flex, orientations, subtomogram_sets
from cryolearn.convert.poses import posesFromTransforms, rotationFromAngles
from cryolearn.convert.star_particles import StarParticles
from cryolearn.convert.star_rows import ANGLE_LABELS

from . import test_subtomograms_files as subtomograms
from .test_convert import makeParticles, makeTable
from .test_gaussian_files import makeMotion

IDS = [4, 9, 17, 120, 121, 122, 300, 4000000]
PIXEL = 1.7


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bulk, 'CHUNK', 3)
    return tmp_path


def contents(path):
    """``{table: (columns, rows)}`` of a database, without the times of its items."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        found = {}
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type='table' AND name NOT LIKE 'sqlite_%' ORDER BY name"):
            columns = [(row[1], row[2]) for row in connection.execute('PRAGMA table_info(%s)' % name) if row[1] != 'creation']
            order = 'key' if name == 'Properties' else 'id'
            found[name] = columns, connection.execute('SELECT %s FROM %s ORDER BY %s' % (', '.join(column for column, _ in columns), name, order)).fetchall()
        return found


def item_by_item(monkeypatch):
    """Let pyworkflow append every item."""
    monkeypatch.setattr(bulk.RowCopier, 'isPossible', property(lambda self: False, lambda self, value: None), raising=False)
    for module in (classes, subtomogram_sets):
        monkeypatch.setattr(module, 'distribute', lambda source, classes, numbersOf, classify: classify(lambda objId: True))


def assertSame(make, SetClass, monkeypatch, inBulk=True):
    """``make(output)`` fills both; ``inBulk`` only the first of a set or class goes through append."""
    counts = {'bulk': 0, 'append': 0}
    insert = Set._insertItem
    for name in counts:
        def counted(self, item, name=name):
            counts[name] += 1
            insert(self, item)
        with monkeypatch.context() as patch:
            if name == 'append':
                item_by_item(patch)
            patch.setattr(Set, '_insertItem', counted)
            output = SetClass(filename='set.sqlite')
            make(output)
            output.write()
            output.close()
        os.replace('set.sqlite', name + '.sqlite')
    left, right = contents('bulk.sqlite'), contents('append.sqlite')
    assert list(left) == list(right)
    for name, (columns, rows) in left.items():
        assert (columns, len(rows)) == (right[name][0], len(right[name][1])), name
        for row, other in zip(rows, right[name][1]):
            assert [] == [(name, row[0], column, one, two) for (column, _), one, two in zip(columns, row, other) if one != two]
    assert len(left['Objects'][1]) > 1
    assert (counts['bulk'] < counts['append']) == inBulk
    return SetClass(filename='bulk.sqlite')


def particleSet(name='particles.sqlite', **options):
    """Particles as imports make them: one without a phase shift, one disabled, one with a label."""
    particles = makeParticles(name, ids=IDS, **options)
    changed = {9: lambda item: item.setEnabled(False), 17: lambda item: item.getCTF().setPhaseShift(None), 120: lambda item: item.setObjLabel('a "b" c'),
               122: lambda item: item.getCoordinate().setMicName("it's, 1")}
    for objId, change in changed.items():
        item = particles[objId].clone(copyEnable=True)
        change(item)
        particles.update(item)
    particles.write()
    return particles


def flexSet(name='flex.sqlite'):
    makeTable(IDS)
    output = SetOfParticlesFlex(filename=name)
    flex.appendAligned(particleSet(), output, 'alignment.npz')
    for objId in (17, 4000000):
        item = output[objId].clone()
        item.setEnabled(False)
        output.update(item)
    output.write()
    return output


def conformations():
    order = np.array(IDS)[::-1]
    write_table('conformations.npz', {
        'id': order, 'amplitudes': order[:, None] / [1e7, 3e7], 'amplitude_sigma': order[:, None] / [1e8, 7e8], 'gain': np.float32(order / 1e3),
        'log_likelihood': -order / 1e2, 'flags': (order % 4).astype(np.int32), 'half': 1 + order % 2,
        'rotation': rotationFromAngles(np.random.default_rng(0).uniform(-180, 180, (len(IDS), 3))),
        'shift_angst': np.stack([order / 1e6, -order / 1e6], axis=1)})
    makeMotion(fields=2, basis='linear')
    return {objId: {'cryolearnWeight': 0.5 * objId, 'cryolearnClass': 1 + objId % 2} for objId in IDS}


def test_aligned_particles(monkeypatch):
    makeTable(IDS + [5, 6])
    source = particleSet()
    read = assertSame(lambda output: flex.appendAligned(source, output, 'alignment.npz'), SetOfParticlesFlex, monkeypatch)
    assert read.getSize() == len(IDS) and read[17].getCTF().getPhaseShift() is None and read[120].getObjLabel() == 'a "b" c'
    assert read.getFirstItem().getDim()


def test_reduced_coordinates_of_some(monkeypatch):
    """Particles that have none keep what they have."""
    source, reduced = flexSet(), {objId: (objId / 3, -1e-9) for objId in IDS if objId != 120}
    assertSame(lambda output: flex.appendReduced(source, output, reduced), SetOfParticlesFlex, monkeypatch)
    os.rename('bulk.sqlite', 'again.sqlite')
    again = SetOfParticlesFlex(filename='again.sqlite')
    again.loadAllProperties()
    read = assertSame(lambda output: flex.appendReduced(again, output, {120: [7., 8.], 121: [1., 2.]}), SetOfParticlesFlex, monkeypatch)
    np.testing.assert_array_equal(read[120].getZRed(), [7, 8])


def test_subsets(monkeypatch):
    source = flexSet()
    assertSame(lambda output: flex.appendSubset(source, output, [9, 17, 122, 300]), SetOfParticlesFlex, monkeypatch)


@pytest.mark.parametrize('halves', [True, False, 'some'])
@pytest.mark.parametrize('refined', [True, False])
def test_conformations(halves, refined, monkeypatch):
    labels, source = conformations(), particleSet(extras=bool(halves)) if halves else makeParticles(ids=IDS, extras=False)
    if halves == 'some':
        item = source[121].clone()
        item._rlnRandomSubset.set(None)
        source.update(item)
    read = assertSame(lambda output: flex.appendConformations(source, output, 'conformations.npz', 'motion.npz', labels, refined), SetOfParticlesFlex,
                      monkeypatch)
    assert read[121]._rlnRandomSubset.get() == (1 + IDS.index(121) % 2 if halves is True else 2)
    assert read[4000000]._cryolearnWeight.get() == 2e6


def test_orientations(monkeypatch):
    source = flexSet()
    rng = np.random.default_rng(3)
    confidence = rng.uniform(size=len(IDS)).astype(np.float32)
    confidence[3] = np.nan
    poses = {'id': np.array(IDS), 'rotation': rotationFromAngles(rng.uniform(-180, 180, (len(IDS), 3))), 'shift_angst': rng.normal(size=(len(IDS), 2))}
    write_table('orientations.npz', {**poses, 'confidence': confidence, 'residual_rad': confidence, 'half': 1 + np.array(IDS) % 2})
    read = assertSame(lambda output: orientations.appendRecovered(source, output, 'orientations.npz'), SetOfParticles, monkeypatch)
    assert read[120].getAttributeValue('_orientationConfidence') is None and not read[17].isEnabled()
    write_table('errors.npz', {**poses, 'error_rad': confidence, 'physical_rad': confidence})
    assertSame(lambda output: orientations.appendCompared(source, output, 'errors.npz'), SetOfParticles, monkeypatch)


def imagesOf(items, new):
    protocol = Protocol()
    protocol.output = items
    new.setImages(Pointer(value=protocol, extended='output'))
    return new


def test_classes_of_particles(monkeypatch):
    source = flexSet()  # two are disabled, and are in no class
    write_table('clusters.npz', {'id': np.array(IDS[::-1]), 'class': np.array([2, 2, 0, 1, 2, 1, 1, 3])})
    means = {2: lambda representative: representative.setZFlex([1.0, 2.0, 3.0])}
    read = assertSame(lambda output: classes.fillClasses(imagesOf(source, output), 'clusters.npz', means), SetOfClassesFlex, monkeypatch)
    assert {group.getObjId(): [item.getObjId() for item in group] for group in read.iterItems()} == {1: [9, 121], 2: [120, 300], 3: [4]}
    assert [group.getSize() for group in read.iterItems()] == [2, 2, 1]


def subtomogramSet(name='subtomograms.sqlite', tilts=(), **options):
    """A set of subtomograms; of some items the tilt range is that of ``tilts``."""
    monotone = dict(zip(subtomograms.IDS, tilts))

    def note(row, item):
        item._note = String('note %d' % row)
        item._rlnRandomSubset = Integer(1 + row % 2)
        item.setClassId(1 + row % 2)
        if item.getObjId() in monotone:
            low, high = monotone[item.getObjId()]
            item.setAcquisition(TomoAcquisition(angleMin=low, angleMax=high, voltage=200))
    made = subtomograms.makeSet(name, update=note, **options)
    made.setAcquisition(TomoAcquisition(angleMin=-40, angleMax=41, step=2, voltage=200, sphericalAberration=2.0, amplitudeContrast=0.08, magnification=10000))
    made.write()
    return made


NO_TILT = (None, None)  # of items that say another tilt step than their set, which then counts: they are copied one by one


@pytest.mark.parametrize('tilt', [(-60, 55), NO_TILT])
def test_subtomograms(tilt, monkeypatch):
    source, names = subtomogramSet(tilt=tilt), ['a', 'b b', "c'"]

    def update(item):
        number = item.getObjId() % 3
        subtomogram_sets.setClass(item, number, names[number], None if number == 5 else number / 7)
        subtomogram_sets.setPose(item, np.diag([1, 1, 1, 1]) * item.getObjId())
        item._novelty = Float(float('nan') if number else 1.)
    assertSame(lambda output: subtomogram_sets.appendSubtomograms(source, output, update, aligned=True), SetOfSubTomograms, monkeypatch, tilt != NO_TILT)
    assertSame(lambda output: subtomogram_sets.appendSubtomograms(source, output), SetOfSubTomograms, monkeypatch, tilt != NO_TILT)
    assertSame(lambda output: subtomogram_sets.appendSubtomograms(source, output, keep=[9, 17, 4000000]), SetOfSubTomograms, monkeypatch, tilt != NO_TILT)


@pytest.mark.parametrize('tilt', [(-60, 55), NO_TILT])
@pytest.mark.parametrize('numberOf, sizes', [(lambda item: item.getClassId(), [3, 2]), (lambda item: item.getObjId() % 3, [2, 1])])
def test_classes_of_subtomograms(tilt, numberOf, sizes, monkeypatch):
    source = subtomogramSet(tilt=tilt)
    read = assertSame(lambda output: subtomogram_sets.fillClasses(imagesOf(source, output), numberOf, {1: 'one', 2: 'two'}.get),
                      SetOfClassesSubTomograms, monkeypatch, tilt != NO_TILT)
    assert [group.getSize() for group in read.iterItems()] == sizes


def test_sets_whose_items_say_different_things_are_filled_item_by_item(monkeypatch):
    """Only some items say their tilt range: the others have that of the set, in the set and in classes."""
    source = subtomogramSet(tilts=[(-50, 50), (-50, 50)], tilt=(None, None))
    output = SetOfSubTomograms(filename='output.sqlite')
    subtomogram_sets.appendSubtomograms(source, output)
    assert [item.getAcquisition().getAngleMax() for item in output.iterItems()] == [50, 50, 41, 41, 41]
    new = imagesOf(source, SetOfClassesSubTomograms(filename='classes.sqlite'))
    subtomogram_sets.fillClasses(new, lambda item: item.getClassId())
    new.write()
    assert {group.getObjId(): [item.getAcquisition().getAngleMax() for item in group.iterItems()] for group in new.iterItems()} == {
        1: [50, 41, 41], 2: [50, 41]}
    assert [group.getSize() for group in new.iterItems()] == [3, 2]


def test_classes_of_particles_with_different_acquisitions(monkeypatch):
    source = flexSet()
    item = source[300].clone()
    item.getAcquisition().setAmplitudeContrast(None)
    source.update(item)
    source.write()
    write_table('clusters.npz', {'id': np.array(IDS), 'class': np.arange(len(IDS)) % 2 + 1})
    new = imagesOf(source, SetOfClassesFlex(filename='classes.sqlite'))
    classes.fillClasses(new, 'clusters.npz', {})
    new.write()
    assert [group.getSize() for group in new.iterItems()] == [3, 3]
    assert {group.getObjId(): [item.getObjId() for item in group] for group in new.iterItems()} == {1: [4, 121, 300], 2: [9, 120, 122]}


def test_scipion_copies_joins_and_writes_what_was_filled(monkeypatch):
    """What the protocols of subsets and unions do with sets, and scipion-em-relion's STAR."""
    makeTable(IDS)
    source = particleSet()
    output = SetOfParticlesFlex(filename='bulk.sqlite')
    flex.appendAligned(source, output, 'alignment.npz')
    output.write()
    read = SetOfParticlesFlex(filename='bulk.sqlite')
    read.loadAllProperties()
    part = read.createCopy('.', prefix='part', copyInfo=True, copyItems=True, rowFilter=lambda row: row['id'] > 100)
    part.write()
    assert [item.getObjId() for item in part] == [120, 121, 122, 300, 4000000] and part[120].getObjLabel() == 'a "b" c'
    for attribute in ('_zFlex', '_elasticCorrelation', '_transform', '_ctfModel', '_acquisition'):
        assert getattr(part[300], attribute).equalAttributes(getattr(read[300].clone(), attribute)), attribute
    both = SetOfParticlesFlex(filename='both.sqlite')
    both.copyInfo(read)
    for items in (read, part):
        for item in items:
            item = item.clone()
            item.cleanObjId()
            both.append(item)
    both.write()
    assert both.getSize() == len(IDS) + 5 and both.getXDim() == read.getXDim() == source.getXDim()
    relion31 = pytest.importorskip('relion.convert.convert31')
    relion31.Writer().writeSetOfParticles(read, 'relion.star')
    rows = dict(StarParticles('relion.star'))
    assert list(rows) == IDS
    angles = [[getattr(rows[objId], label) for label in ANGLE_LABELS] for objId in IDS]
    np.testing.assert_allclose(rotationFromAngles(angles), posesFromTransforms([item.getTransform().getMatrix() for item in read], PIXEL)[0], atol=1e-5)
