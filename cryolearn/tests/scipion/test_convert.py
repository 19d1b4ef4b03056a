"""Sets, files and tables: what goes out comes back, by id, and scipion-em-relion agrees."""

import bz2
import gzip
import os
from collections import OrderedDict

import mrcfile
import numpy as np
import pytest

from .base import ProjectTest  # noqa: F401  (sets Scipion's domain)

from pwem.constants import ALIGN_PROJ
from pwem.objects import (
    Acquisition, Coordinate, CTFModel, Particle, SetOfClassesFlex, SetOfParticles, SetOfParticlesFlex, Transform, Volume,
)
from pyworkflow.object import Integer, Pointer
from pyworkflow.protocol import Protocol

from cryolearn.convert.classes import fillClasses, iterMembers, meanLatents, particlesOf, writeClasses
from cryolearn.convert.flex import appendAligned, appendReduced, appendSubset, modeNumbers, setModeNumbers
from cryolearn.convert.latents import writeLatents
from cryolearn.common.fsc import resolution_of_curve
from cryolearn.convert.fsc import makeFsc
from cryolearn.convert.particles import StackNames, acquisitionContradiction, writeParticles
from cryolearn.convert.poses import posesFromTransforms, rotationFromAngles, transformsFromRelion
from cryolearn.convert.star_particles import StarParticles
from cryolearn.convert.star_rows import opticsOf, withImages, writeStar
from cryolearn.common.tables import read_table, write_table
from cryolearn.convert.tables import rowsById
from cryolearn.convert.volumes import makeVolume, readData, readHeader, writeVolume
from cryolearn.protocols.input_checks import InputChecks

relion31 = pytest.importorskip('relion.convert.convert31')

PIXEL, BOX = 1.7, 16
IDS = [4, 9, 17, 120, 121, 4000000]  # neither from 1 nor in steps of 1


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def makeStack(name='stack.mrcs', count=len(IDS)):
    with mrcfile.new(name, overwrite=True) as mrc:
        mrc.set_data(np.random.default_rng(1).normal(size=(count, BOX, BOX)).astype(np.float32))
        mrc.set_image_stack()
        mrc.voxel_size = PIXEL
    return name


def makeParticles(name='particles.sqlite', stack=None, ids=IDS, ctf=True, poses=True, extras=True):
    """A set as an import makes it: ids that are not consecutive, images in another order than the ids."""
    stack = stack or makeStack()
    rng = np.random.default_rng(2)
    particles = SetOfParticles(filename=name)
    particles.setSamplingRate(PIXEL)
    particles.setAcquisition(Acquisition(voltage=200, sphericalAberration=2.0, amplitudeContrast=0.07, magnification=50000))
    particles.setHasCTF(ctf)
    if poses:
        particles.setAlignmentProj()
    for row, objId in enumerate(ids):
        particle = Particle()
        particle.setObjId(objId)
        particle.setLocation(len(ids) - row, stack)
        if ctf:
            model = CTFModel()
            model.setStandardDefocus(12000 + 100 * row, 11500 + 90 * row, 7.5 * row)
            model.setPhaseShift(30.0)
            particle.setCTF(model)
        if poses:
            matrix = transformsFromRelion(rng.uniform(-180, 180, (1, 3)), rng.uniform(-9, 9, (1, 2)), PIXEL)[0]
            particle.setTransform(Transform(matrix=matrix))
        if extras:
            coordinate = Coordinate()
            coordinate.setPosition(10 * row, 20 * row)
            coordinate.setMicName('mic_%d' % (row % 2))
            particle.setCoordinate(coordinate)
            particle._rlnRandomSubset = Integer(1 + row % 2)
        particles.append(particle)
    particles.write()
    return particles


def assertSameParticles(left, right, digits=1e-5):
    """Same ids, images, CTF and poses."""
    others = {particle.getObjId(): particle.clone() for particle in right}
    assert [particle.getObjId() for particle in left] == sorted(others)
    for particle in left:
        other = others[particle.getObjId()]
        assert particle.getIndex() == other.getIndex()
        assert os.path.basename(particle.getFileName()) == os.path.basename(other.getFileName())
        np.testing.assert_allclose(particle.getCTF().getDefocus(), other.getCTF().getDefocus(), atol=1e-4)
        np.testing.assert_allclose(particle.getCTF().getPhaseShift(), other.getCTF().getPhaseShift(), atol=1e-4)
        np.testing.assert_allclose(particle.getTransform().getMatrix(), other.getTransform().getMatrix(), atol=digits)


def starRows(path):
    star = StarParticles(path)
    return star, dict(star)


# ------------------------------------------------------ particles ------------------------------------------------------
def test_star_equals_that_of_scipion_em_relion(folder):
    particles = makeParticles()
    assert writeParticles(particles, 'ours.star') == len(IDS)
    relion31.Writer().writeSetOfParticles(particles, 'theirs.star')
    (ours, our), (theirs, their) = starRows('ours.star'), starRows('theirs.star')
    assert sorted(our) == sorted(their) == sorted(IDS)
    assert (ours.box, ours.pixelSize) == (theirs.box, theirs.pixelSize) == (BOX, PIXEL)
    for objId in IDS:
        for label in ('rlnAngleRot', 'rlnAngleTilt', 'rlnAnglePsi', 'rlnOriginXAngst', 'rlnOriginYAngst', 'rlnDefocusU', 'rlnDefocusV',
                      'rlnDefocusAngle', 'rlnPhaseShift', 'rlnCoordinateX', 'rlnCoordinateY', 'rlnRandomSubset', 'rlnOpticsGroup'):
            assert getattr(our[objId], label) == pytest.approx(getattr(their[objId], label), abs=2e-6), label
        assert our[objId].rlnImageName.split('@')[1] == their[objId].rlnImageName.split('@')[1]
        assert int(our[objId].rlnImageName.split('@')[0]) == int(their[objId].rlnImageName.split('@')[0])
        assert our[objId].rlnMicrographName == their[objId].rlnMicrographName
    for label in ('rlnVoltage', 'rlnSphericalAberration', 'rlnAmplitudeContrast'):
        assert getattr(ours.optics[0], label) == getattr(theirs.optics[0], label)


def test_scipion_em_relion_reads_our_star(folder):
    particles = makeParticles()
    writeParticles(particles, 'ours.star')
    read = SetOfParticles(filename='read.sqlite')
    relion31.Reader().readSetOfParticles('ours.star', read, alignType=ALIGN_PROJ)
    read.write()
    assertSameParticles(particles, read)
    assert read.getAcquisition().getVoltage() == 200
    assert read.getSamplingRate() == PIXEL


def test_star_roundtrip(folder):
    particles = makeParticles()
    writeParticles(particles, 'ours.star')
    star = StarParticles('ours.star')
    read = SetOfParticlesFlex(filename='read.sqlite')
    star.setProperties(read)
    for objId, row in star:
        particle = read.ITEM_TYPE()
        star.fill(particle, row)
        particle.setObjId(objId)
        read.append(particle)
    read.write()
    assertSameParticles(particles, read)
    assert read.hasCTF() and read.hasAlignmentProj() and read.getXDim() == BOX
    assert [particle.getAttributeValue('_rlnRandomSubset') for particle in read] == [1, 2, 1, 2, 1, 2]
    assert read.getFirstItem().getCoordinate().getMicName() == 'mic_0'


def test_optics_groups_of_an_import_survive(folder):
    """Two optics groups kept by an import are written again, with the set's own pixel size."""
    particles = makeParticles()
    groups = relion31.OpticsGroups.create(rlnVoltage=200.0, rlnSphericalAberration=2.0, rlnAmplitudeContrast=0.07)
    second = groups.first()._replace(rlnOpticsGroup=2, rlnOpticsGroupName='second', rlnVoltage=300.0)
    groups.add(second)
    groups.toImages(particles)
    copy = SetOfParticles(filename='copy.sqlite')
    copy.copyInfo(particles)
    for particle in particles:
        particle._rlnOpticsGroup = Integer(1 + particle.getObjId() % 2)
        copy.append(particle)
    copy.write()
    writeParticles(copy, 'ours.star')
    star, rows = starRows('ours.star')
    assert [row.rlnVoltage for row in star.optics] == [200.0, 300.0]
    assert [row.rlnImagePixelSize for row in star.optics] == [PIXEL, PIXEL]
    assert {objId: row.rlnOpticsGroup for objId, row in rows.items()} == {objId: 1 + objId % 2 for objId in IDS}


def test_what_items_say_of_their_acquisition_wins(folder):
    """Sets joined in Scipion: each distinct voltage and box of items is an optics group."""
    particles = makeParticles(extras=False)
    with mrcfile.new('large.mrcs', overwrite=True) as mrc:
        mrc.set_data(np.zeros((len(IDS), 20, 20), np.float32))
        mrc.set_image_stack()
    joined = SetOfParticles(filename='joined.sqlite')
    joined.copyInfo(particles)
    for particle in particles:
        voltage = 200 + 100 * (particle.getObjId() % 2)
        particle.setAcquisition(Acquisition(voltage=voltage, sphericalAberration=2.0, amplitudeContrast=0.07, magnification=50000))
        if particle.getObjId() == 120:
            particle.setLocation(particle.getLocation()[0], 'large.mrcs')
        joined.append(particle)
    joined.write()
    writeParticles(joined, 'ours.star')
    writeParticles(particles, 'before.star')
    (star, rows), (_, before) = starRows('ours.star'), starRows('before.star')
    found = {objId: star.optics[[group.rlnOpticsGroup for group in star.optics].index(row.rlnOpticsGroup)] for objId, row in rows.items()}
    assert len(star.optics) == 3
    for objId, group in found.items():
        assert (group.rlnVoltage, group.rlnImageSize) == (200 + 100 * (objId % 2), 20 if objId == 120 else BOX)
        assert rows[objId].rlnOriginXAngst == before[objId].rlnOriginXAngst


def withGroups(particles, filename, numbers=True, **columns):
    """A copy of particles whose import kept an optics group for each value of the columns, to which they belong in turns."""
    count = len(next(iter(columns.values())))
    groups = None
    for number in range(count):
        values = dict(rlnVoltage=200.0, rlnSphericalAberration=2.0, rlnAmplitudeContrast=0.07, rlnImagePixelSize=PIXEL, rlnImageSize=BOX)
        values.update({label: value[number] for label, value in columns.items()})
        if groups is None:
            groups = relion31.OpticsGroups.create(**values)
        else:
            groups.add(groups.first()._replace(rlnOpticsGroup=number + 1, rlnOpticsGroupName='group%d' % (number + 1), **values))
    copy = SetOfParticles(filename=filename)
    copy.copyInfo(particles)
    groups.toImages(copy)
    copy.getAcquisition().setVoltage(groups.first().rlnVoltage)
    for particle in particles:
        particle.setAcquisition(copy.getAcquisition().clone())
        if numbers:
            particle._rlnOpticsGroup = Integer(1 + particle.getObjId() % count)
        copy.append(particle)
    copy.write()
    return copy


def test_particles_that_do_not_say_their_optics_group(folder):
    """scipion-em-relion's import drops the group of a particle: harmless where groups are alike, else refused by the names of what differs."""
    particles = makeParticles(extras=False)
    writeParticles(withGroups(particles, 'alike.sqlite', numbers=False, rlnBeamTiltX=[0.5, 0.5], rlnMtfFileName=['a.star', 'b.star']),
                   'alike.star')
    star, rows = starRows('alike.star')
    assert {row.rlnOpticsGroup for row in rows.values()} == {1} and star.optics[0].rlnBeamTiltX == 0.5
    with pytest.raises(ValueError, match='2 optics groups that differ in rlnBeamTiltX'):
        writeParticles(withGroups(particles, 'differ.sqlite', numbers=False, rlnBeamTiltX=[0.5, 0.0]), 'differ.star')


def test_an_acquisition_against_the_optics_groups_is_said(folder):
    """The form of an import, or a later edit, says another microscope than the STAR file whose groups were kept: these are used, and it is said."""
    particles = withGroups(makeParticles(extras=False), 'groups.sqlite', rlnVoltage=[200.0, 300.0])
    assert acquisitionContradiction(particles) == ''
    particles.getAcquisition().setVoltage(120)
    assert ('says voltage 120 kV, Cs 2 mm, amplitude contrast 0.07, but the optics groups that its import kept say voltage 200 kV, Cs 2 mm, '
            'amplitude contrast 0.07 or voltage 300 kV') in acquisitionContradiction(particles)
    writeParticles(particles, 'ours.star')
    assert [row.rlnVoltage for row in starRows('ours.star')[0].optics] == [200.0, 300.0]


def test_sets_joined_in_scipion_keep_their_optics(folder):
    """Groups of two imports that have the same numbers and different voltages and tilts, as the join protocol puts them together."""
    first = withGroups(makeParticles('first.sqlite', extras=False), 'one.sqlite', rlnVoltage=[200.0, 300.0], rlnBeamTiltX=[0.0, 0.5])
    second = withGroups(makeParticles('second.sqlite', extras=False), 'two.sqlite', rlnVoltage=[120.0, 300.0], rlnBeamTiltX=[0.25, -0.5])
    joined = SetOfParticles(filename='joined.sqlite')
    joined.copyInfo(first)
    for particles in (first, second):
        for particle in particles:
            copy = Particle()
            copy.copy(particle, copyId=False)
            copy._source = Integer(particle.getObjId() + (1000 if particles is second else 0))
            joined.append(copy)
    joined.write()
    source = {particle.getObjId(): particle._source.get() for particle in joined}
    writeParticles(joined, 'joined.star')
    star, rows = starRows('joined.star')
    groups = {group.rlnOpticsGroup: group for group in star.optics}
    said = {(200.0, 0.0): (1, 0), (300.0, 0.5): (1, 1), (120.0, 0.25): (2, 0), (300.0, -0.5): (2, 1)}
    for objId, row in rows.items():
        group, number = groups[row.rlnOpticsGroup], source[objId]
        original = number - 1000 if number > 1000 and number - 1000 in IDS else number
        assert said[group.rlnVoltage, group.rlnBeamTiltX] == (1 if original == number else 2, original % 2)


def test_pixel_sizes_that_an_import_kept(folder):
    """A set gives its own sampling rate to all items: the groups' are right where the set's is one of them and the boxes agree, else the set is refused."""
    particles = makeParticles(extras=False)
    writeParticles(particles, 'before.star')
    before = starRows('before.star')[1]
    writeParticles(withGroups(particles, 'mixed.sqlite', rlnImagePixelSize=[PIXEL, 1.25 * PIXEL]), 'mixed.star')
    star, rows = starRows('mixed.star')
    pixels = {group.rlnOpticsGroup: group.rlnImagePixelSize for group in star.optics}
    for objId, row in rows.items():
        assert pixels[row.rlnOpticsGroup] == pytest.approx(PIXEL * (1.25 if objId % 2 else 1))
        assert row.rlnOriginXAngst == before[objId].rlnOriginXAngst  # poses are in pixels of the set
    with pytest.raises(ValueError, match='pixel sizes of .* which images were resampled is not known'):
        writeParticles(withGroups(particles, 'scaled.sqlite', rlnImagePixelSize=[2 * PIXEL, 2.5 * PIXEL]), 'scaled.star')


def test_a_ctf_without_an_acquisition_is_refused(folder):
    particles = makeParticles(extras=False)
    assert InputChecks._validateParticles(particles, ctf=True) == []
    bare = SetOfParticles(filename='bare.sqlite')
    bare.copyInfo(particles)
    bare.setAcquisition(Acquisition())
    for particle in particles:
        particle.setAcquisition(None)
        bare.append(particle)
    bare.write()
    assert 'no acquisition' in ' '.join(InputChecks._validateParticles(bare, ctf=True))
    assert InputChecks._validateParticles(bare) == []


def test_set_without_ctf_or_poses(folder):
    particles = makeParticles(ctf=False, poses=False, extras=False)
    writeParticles(particles, 'ours.star')
    star = StarParticles('ours.star')
    assert not star.hasCtf and not star.hasPoses


def test_empty_set_is_refused(folder):
    particles = SetOfParticles(filename='empty.sqlite')
    particles.setSamplingRate(PIXEL)
    particles.setAcquisition(Acquisition(voltage=300, sphericalAberration=2.7, amplitudeContrast=0.1))
    particles._firstDim.set((BOX, BOX, 1))
    with pytest.raises(ValueError, match='empty'):
        writeParticles(particles, 'empty.star')


def test_what_cannot_be_written_leaves_the_old_file(folder):
    """The STAR file and the map that the engine reads are written whole or not at all."""
    particles, volume = makeParticles(), Volume(location=makeStack('map.mrc', BOX))
    volume.setSamplingRate(PIXEL)
    with open('out.star', 'w') as star, open('out.mrc', 'w') as mrc:
        star.write('old')
        mrc.write('old')
    before = sorted(os.listdir(folder))

    class Unreadable(Particle):
        def getLocation(self):
            raise RuntimeError('unreadable')

    def items():
        yield next(particles.iterItems())
        yield Unreadable()
    with pytest.raises(RuntimeError, match='unreadable'):
        writeParticles(particles, 'out.star', items=items())
    volume.getOrigin = lambda force: None
    with pytest.raises(AttributeError):
        writeVolume(volume, 'out.mrc')
    assert sorted(os.listdir(folder)) == before
    for name in ('out.star', 'out.mrc'):
        with open(name) as handle:
            assert handle.read() == 'old'


def test_text_cannot_add_rows_or_blocks(folder):
    """Group names of an odd import: blanks, quotes, line breaks; in the set and in its optics groups."""
    names = ['plain', 'a b', '#c', "it's", 'x\n000001@stack.mrcs 9', '\ndata_optics']
    rows = [(OrderedDict(rlnImageId=row + 1, rlnImageName='%06d@stack.mrcs' % (row + 1), rlnOpticsGroup=1, rlnGroupName=name), None)
            for row, name in enumerate(names)]
    optics = withImages(opticsOf(Acquisition(voltage=200, sphericalAberration=2.0, amplitudeContrast=0.07)), makeParticles(), 2)
    optics['rlnOpticsGroupName'] = 'first group\n'
    assert writeStar('p.star', [optics], rows, PIXEL, 2, 'set') == len(names)
    found = StarParticles('p.star')
    assert [row.rlnGroupName for _, row in found] == ['plain', 'a b', '#c', "it's", 'x 000001@stack.mrcs 9', ' data_optics']
    assert found.optics[0].rlnOpticsGroupName == 'first group ' and '"first group "' in found.acquisition().opticsGroupInfo.get()


def test_stack_with_a_space_and_stack_of_another_format(folder):
    os.mkdir('my data')
    spaced = makeStack('my data/a stack.mrcs')
    writeParticles(makeParticles('a.sqlite', spaced), 'a.star', stackFolder='.')
    name = starRows('a.star')[1][IDS[0]].rlnImageName
    assert ' ' not in name and os.path.samefile(name.split('@')[1], spaced)

    from pwem.emlib.image import ImageHandler
    ImageHandler().convertStack(makeStack(), 'spider.stk')
    writeParticles(makeParticles('b.sqlite', 'spider.stk'), 'b.star', stackFolder='.')
    index, name = starRows('b.star')[1][IDS[0]].rlnImageName.split('@')
    with mrcfile.mmap(name) as converted, mrcfile.mmap('stack.mrcs') as original:
        np.testing.assert_allclose(converted.data[int(index) - 1], original.data[len(IDS) - 1], atol=1e-6)


@pytest.mark.parametrize('ending, module', [('.gz', gzip), ('.bz2', bz2)])
def test_compressed_maps_are_read_and_stacks_are_refused(folder, ending, module):
    for name in ('map.mrc', makeStack()):
        if name == 'map.mrc':
            with mrcfile.new(name) as mrc:
                mrc.set_data(np.arange(4 ** 3, dtype=np.float32).reshape(4, 4, 4))
        with open(name, 'rb') as plain, module.open(name + ending, 'wb') as packed:
            packed.write(plain.read())
    volume = Volume()
    volume.setLocation('map.mrc' + ending)
    np.testing.assert_array_equal(readData(volume), np.arange(4 ** 3).reshape(4, 4, 4))
    with pytest.raises(ValueError, match="stack.mrcs%s' is compressed.*unpack it" % ending):
        StackNames('.')((1, 'stack.mrcs' + ending))


# ------------------------------------------------------ landscapes -----------------------------------------------------
def makeTable(ids, name='alignment.npz'):
    """A result table whose rows are in another order than the set's."""
    rng = np.random.default_rng(5)
    order = rng.permutation(len(ids))
    columns = dict(
        id=np.array(ids, dtype=np.int64)[order], amplitudes=rng.normal(size=(len(ids), 3)) * 100,
        rotation=rotationFromAngles(rng.uniform(-180, 180, (len(ids), 3))), shift_angst=rng.normal(size=(len(ids), 2)),
        correlation=rng.uniform(size=len(ids)), margin=rng.uniform(size=len(ids)), pose_sigma_deg=rng.uniform(size=len(ids)),
        flags=rng.integers(0, 16, len(ids)).astype(np.int32))
    write_table(name, columns, {'mode_numbers': [7, 8, 11]})
    return columns


def test_alignment_is_joined_by_id(folder):
    particles = makeParticles()
    columns = makeTable(IDS + [5, 6])  # more rows than particles: a subset of what was aligned
    output = SetOfParticlesFlex(filename='flex.sqlite')
    appendAligned(particles, output, 'alignment.npz')
    output.write()
    rows = rowsById(columns['id'])
    assert modeNumbers(output) == [7, 8, 11] and output.hasCTF() and output.hasAlignmentProj()
    for item in output:
        row = rows[item.getObjId()]
        np.testing.assert_allclose(item.getZFlex(), columns['amplitudes'][row])
        rotation, shift = posesFromTransforms(item.getTransform().getMatrix(), PIXEL)
        np.testing.assert_allclose(rotation, columns['rotation'][row], atol=1e-10)
        np.testing.assert_allclose(shift[:2], columns['shift_angst'][row], atol=1e-10)
        assert item.getAttributeValue('_elasticFlags') == columns['flags'][row]
        assert item.getAttributeValue('_elasticCorrelation') == pytest.approx(columns['correlation'][row])
    writeLatents(output, 'back.npz', BOX)
    back, meta = read_table('back.npz')
    assert back['id'].tolist() == IDS and meta == {'mode_numbers': [7, 8, 11], 'pixel_size_angst': PIXEL, 'box': BOX}
    for name in ('amplitudes', 'rotation', 'shift_angst', 'flags', 'correlation'):
        np.testing.assert_allclose(back[name], columns[name][[rows[objId] for objId in IDS]], atol=1e-10)


def test_engine_reads_our_tables(folder):
    engine = pytest.importorskip('cryolearn.engine.io.tables')
    makeTable(IDS)
    columns, meta = engine.read_table('alignment.npz')
    assert sorted(columns['id']) == sorted(IDS) and meta['mode_numbers'] == [7, 8, 11]


def test_missing_row_names_the_particle(folder):
    makeTable(IDS[:-1])
    with pytest.raises(ValueError, match=str(IDS[-1])):
        appendAligned(makeParticles(), SetOfParticlesFlex(filename='flex.sqlite'), 'alignment.npz')


def makeFlex(name='flex.sqlite'):
    makeTable(IDS)
    output = SetOfParticlesFlex(filename=name)
    appendAligned(makeParticles(), output, 'alignment.npz')
    output.write()
    return output


def test_subset_and_reduced_coordinates(folder):
    flex = makeFlex()
    subset = SetOfParticlesFlex(filename='subset.sqlite')
    appendSubset(flex, subset, [17, 4000000])
    subset.write()
    assert [item.getObjId() for item in subset] == [17, 4000000]
    with pytest.raises(ValueError, match='Particle 18 '):
        appendSubset(flex, SetOfParticlesFlex(filename='none.sqlite'), [17, 18])
    reduced = SetOfParticlesFlex(filename='reduced.sqlite')
    appendReduced(flex, reduced, {objId: (float(objId), -1.0) for objId in IDS})
    reduced.write()
    for before, after in zip(flex, reduced):
        np.testing.assert_allclose(after.getZRed(), [after.getObjId(), -1.0])
        np.testing.assert_allclose(after.getZFlex(), before.getZFlex())
    writeLatents(reduced, 'reduced.npz')
    np.testing.assert_allclose(read_table('reduced.npz')[0]['reduced'][:, 0], IDS)


def test_particle_without_latent_vector_is_named(folder):
    particles = SetOfParticlesFlex(filename='flex.sqlite')
    particles.setSamplingRate(PIXEL)
    item = particles.ITEM_TYPE()
    item.setObjId(33)
    item.setLocation(1, makeStack())
    particles.append(item)
    setModeNumbers(particles, [7])
    with pytest.raises(ValueError, match='Particle 33 '):
        writeLatents(particles, 'latents.npz')


# ------------------------------------------------------- classes -------------------------------------------------------
def test_classes_by_id(folder):
    flex = makeFlex()
    protocol = Protocol()
    protocol.outputParticles = flex
    write_table('clusters.npz', {'id': np.array(IDS[::-1]), 'class': np.array([2, 2, 0, 1, 1, 1])})
    classes = SetOfClassesFlex(filename='classes.sqlite')
    classes.setImages(Pointer(value=protocol, extended='outputParticles'))
    fillClasses(classes, 'clusters.npz', {2: lambda representative: representative.setZFlex([1.0, 2.0, 3.0])})
    classes.write()
    members = {particle.getObjId(): number for number, particle in iterMembers(classes)}
    assert members == {4000000: 2, 121: 2, 17: 1, 9: 1, 4: 1}
    noted = {}
    assert [particle.getObjId() for particle in particlesOf(classes, noted)] == list(members)
    assert noted == members
    expected = {objId: item.getZFlex() for objId, item in ((item.getObjId(), item.clone()) for item in flex)}
    means = meanLatents(classes)
    np.testing.assert_allclose(means[2], (expected[4000000] + expected[121]) / 2)
    np.testing.assert_allclose(classes[2].getRepresentative().getZFlex(), [1, 2, 3])
    writeClasses(members, 'back.npz')
    back, _ = read_table('back.npz')
    assert dict(zip(back['id'].tolist(), back['class'].tolist())) == members


# --------------------------------------------------------- maps --------------------------------------------------------
def test_volume_header_is_what_scipion_knows(folder):
    data = np.random.default_rng(0).normal(size=(8, 8, 8)).astype(np.float32)
    with mrcfile.new('map.mrc') as mrc:
        mrc.set_data(data)
        mrc.voxel_size = 1.0
    volume = Volume()
    volume.setLocation('map.mrc')
    volume.setSamplingRate(2.5)  # corrected in Scipion, not in the file
    origin = Transform()
    origin.setShifts(-3, 4.5, 10)
    volume.setOrigin(origin)
    writeVolume(volume, 'out.mrc')
    pixelSize, corner = readHeader('out.mrc')
    assert pixelSize == pytest.approx(2.5) and corner == pytest.approx((-3, 4.5, 10))
    back = makeVolume('out.mrc')
    assert back.getSamplingRate() == pytest.approx(2.5) and tuple(back.getOrigin().getShifts()) == pytest.approx((-3, 4.5, 10))
    np.testing.assert_array_equal(readData(back), data)
    with pytest.raises(ValueError, match='absent.mrc'):
        makeVolume('out.mrc', ['out.mrc', 'absent.mrc'])


@pytest.mark.parametrize('curve, expected', [
    ([1.0, 0.9, 0.5, 0.1], 1 / (0.3 + 0.1 * (0.5 - 0.143) / 0.4)),  # first crossing, linear
    ([1.0, 0.9, 0.8, 0.7], 1 / 0.4),  # no crossing: the last shell, never beyond
    ([0.1, 0.9, 0.8, 0.7], None),  # first shell below
    ([1.0, 0.1, 0.9, 0.0], 1 / (0.1 + 0.1 * 0.857 / 0.9)),  # the first of two crossings
])
def test_resolution_is_guarded(curve, expected):
    found = resolution_of_curve([0.1, 0.2, 0.3, 0.4], curve)
    assert found == (None if expected is None else pytest.approx(expected))


def test_fsc_object(folder):
    with open('fsc.csv', 'w') as handle:
        handle.write('shell,frequency_inv_angst,resolution_angst,fsc,fsc_unmasked\n1,0.1,10,1.0,1.0\n2,0.2,5,0.2,0.1\n')
    x, y = makeFsc('fsc.csv').getData()
    assert [float(value) for value in x] == [0.1, 0.2] and [float(value) for value in y] == [1.0, 0.2]
