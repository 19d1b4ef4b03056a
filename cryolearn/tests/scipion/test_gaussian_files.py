"""Files of the Gaussian method as Scipion's side reads them, against the engine's own readers and by hand."""

import json
import os

import numpy as np
import pytest

from .base import ProjectTest  # noqa: F401  (sets Scipion's domain)

from pwem.objects import SetOfParticlesFlex, SetOfPrincipalComponents

from cryolearn.convert.flex import ERROR_ATTRIBUTE, appendConformations, latentLength, latentNames, modeNumbers, motionFile, setModeNumbers
from cryolearn.convert.latents import writeLatents
from cryolearn.convert.gaussians import readLabels, readStates, stateLatents
from cryolearn.convert.motions import describeMotion, fillMotions, motionsFolder
from cryolearn.common.axis_labels import axis_label
from cryolearn.common.tables import read_table, write_table
from cryolearn.engine.io.motions import MotionModel, write_motion
from cryolearn.engine.io.pseudo_atoms import gaussian_structure, write_pseudo_atoms
from cryolearn.viewers.backbone import readModelsAndWeights
from cryolearn.viewers.landscape_data import Landscape
from cryolearn.viewers.landscape_window import startAxes

from .test_convert import IDS, PIXEL, makeParticles

GAUSSIANS = 7


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def makeMotion(path='motion.npz', basis='polynomial', fields=2, **meta):
    rng = np.random.default_rng(1)
    layers = [(rng.normal(size=(5, 3)), np.zeros(5)), (rng.normal(size=(fields, 5)), np.zeros(fields))] if basis == 'network' else []
    model = MotionModel(positions_angst=rng.normal(size=(GAUSSIANS, 3)), weights=np.ones(GAUSSIANS), sigma_angst=np.ones(GAUSSIANS),
                        displacement=rng.normal(size=(fields, GAUSSIANS, 3)),
                        weight_change=np.zeros((fields, GAUSSIANS)), basis=basis, layers=layers, meta=dict(meta))
    write_motion(path, model)
    return model


@pytest.mark.parametrize('basis', ['linear', 'polynomial', 'periodic', 'states', 'network'])
def testDescriptionAgreesWithTheEngine(folder, basis):
    model = makeMotion(basis=basis, fields=4)
    found = describeMotion('motion.npz')
    assert (found['basis'], found['latents'], found['gaussians'], found['fields']) == (basis, model.latent_dim, GAUSSIANS, 4)
    assert latentNames('motion.npz') == ['latent %d' % number for number in range(1, model.latent_dim + 1)]
    assert latentNames('motion.npz', 3 * model.latent_dim)[-1] == 'latent %d, subunit 3' % model.latent_dim


def testMotionThatIsGoneOrSomethingElseIsNamed(folder):
    with pytest.raises(ValueError, match="'gone.npz' is not there any more"):
        describeMotion('gone.npz')
    write_table('other.npz', {'id': np.arange(3)})
    with pytest.raises(ValueError, match="'other.npz' is not a motion model"):
        describeMotion('other.npz')
    assert latentNames('gone.npz') == []


def makeResult(latents=1, poses=True):
    """A result table in another order than the set, with errors that are told by the id."""
    order = np.array(IDS)[::-1]
    turns = np.tile(np.eye(3), (len(IDS), 1, 1))
    table = {'id': order, 'amplitudes': order[:, None] / 1e7 * np.arange(1, latents + 1), 'amplitude_sigma': order[:, None] / 1e8 * np.ones(latents),
             'gain': order / 1e3, 'log_likelihood': -order / 1e2, 'flags': (order % 4).astype(np.int32), 'half': 1 + order % 2, 'rotation': turns,
             'shift_angst': np.stack([order / 1e6, -order / 1e6], axis=1)}
    write_table('conformations.npz', table)


def makeSet(latents=1, refined=False, units=1):
    particles = makeParticles()
    setModeNumbers(particles, [7, 8])  # of an elastic alignment before
    makeResult(latents)
    makeMotion(fields=latents // units, basis='linear')
    output = SetOfParticlesFlex(filename='output.sqlite', progName='CryoLearn')
    labels = {objId: {'cryolearnWeight': 0.5, 'cryolearnClass': 1 + objId % 2} for objId in IDS}
    appendConformations(particles, output, 'conformations.npz', 'motion.npz', labels, refined)
    return particles, output


def testConformationsAreJoinedById(folder):
    particles, output = makeSet(latents=2)
    assert [item.getObjId() for item in output] == IDS
    for before, item in zip(particles, output):
        objId = item.getObjId()
        np.testing.assert_allclose([float(value) for value in item._zFlex], [objId / 1e7, 2 * objId / 1e7])
        assert item.getAttributeValue(ERROR_ATTRIBUTE % 2) == pytest.approx(objId / 1e8)
        assert (item.getAttributeValue('_gaussianFlags'), item.getAttributeValue('_cryolearnClass')) == (objId % 4, 1 + objId % 2)
        np.testing.assert_array_equal(item.getTransform().getMatrix(), before.getTransform().getMatrix())
    assert (modeNumbers(output), motionFile(output), latentLength(output)) == ([], 'motion.npz', 2)


def testRefinedPosesAreTaken(folder):
    _, output = makeSet(refined=True)
    for item in output:
        matrix = np.linalg.inv(item.getTransform().getMatrix())
        np.testing.assert_allclose(matrix[:3, :3], np.eye(3), atol=1e-12)
        np.testing.assert_allclose(matrix[:2, 3] * PIXEL, [item.getObjId() / 1e6, -item.getObjId() / 1e6], atol=1e-9)


def testMissingParticleIsNamed(folder):
    makeResult()
    makeMotion(fields=1)
    particles = makeParticles(ids=IDS[:-1] + [5000000])
    with pytest.raises(ValueError, match='Particle 5000000 of the input has no row'):
        appendConformations(particles, SetOfParticlesFlex(filename='output.sqlite'), 'conformations.npz', 'motion.npz')


def testLatentsGoOutWithTheirErrorsAndBack(folder):
    _, output = makeSet(latents=2)
    writeLatents(output, 'landscape.npz')
    columns, meta = read_table('landscape.npz')
    np.testing.assert_array_equal(columns['id'], IDS)
    np.testing.assert_allclose(columns['amplitude_sigma'], np.array(IDS)[:, None] / 1e8 * [1, 1])
    np.testing.assert_array_equal(columns['flags'], np.array(IDS) % 4)
    assert meta['latent_names'] == ['latent 1', 'latent 2'] and meta['mode_numbers'] == []


def testSubunitsBecomeRows(folder):
    _, output = makeSet(latents=6, units=3)
    writeLatents(output, 'landscape.npz')
    assert read_table('landscape.npz')[1]['latent_names'][3] == 'latent 2, subunit 2'
    writeLatents(output, 'landscape.npz', subunit=2)
    columns, meta = read_table('landscape.npz')
    assert meta['latent_names'] == ['latent 1', 'latent 2']
    assert columns['amplitudes'].shape == columns['amplitude_sigma'].shape == (3 * len(IDS), 2)
    np.testing.assert_allclose(columns['amplitudes'][4], np.array([3, 4]) * IDS[1] / 1e7)  # the second subunit of the second particle
    assert len(set(columns['id'].tolist())) == 3 * len(IDS)


def testEigenMotionsOfPositionsAndOfAmplitudes(folder):
    makeMotion()
    for size in (3, 1):
        vector = np.zeros((2, GAUSSIANS, size))
        vector[0, :, 0], vector[1, 2, 0] = GAUSSIANS ** -0.5, 1
        write_table('eigen_motions.npz', {'id': np.array([1, 2]), 'vector': vector, 'std_angst': np.array([5., 2]), 'explained': np.array([.5, .1]),
                                         'null': np.array([.2, .2]), 'significant': np.array([True, False])})
        motions = SetOfPrincipalComponents(filename='motions_%d.sqlite' % size)
        files = fillMotions(motions, '.')
        assert [os.path.exists(name) for name in files] == [True, True]
        enabled = [item.isEnabled() for item in motions]  # a clone does not say
        first, second = [item.clone() for item in motions]
        assert np.loadtxt(first.getModeFile()).shape == ((GAUSSIANS, 3) if size == 3 else (GAUSSIANS,))
        assert enabled == [True, False]
        assert first.getCollectivity() == pytest.approx(1) and second.getCollectivity() == pytest.approx(1 / GAUSSIANS)
        assert second.getAttributeValue('_explainedNull') == pytest.approx(.2)


def testFolderBehindEigenMotions(folder):
    makeMotion()
    motions = SetOfPrincipalComponents(filename='motions.sqlite')
    assert motionsFolder(motions) is None  # an empty set


def testLabelsAreReadFromTheStar(folder):
    with open('particles.star', 'w') as handle:
        handle.write('data_particles\n\nloop_\n_rlnImageId #1\n_cryolearnWeight #2\n_cryolearnLatent1 #3\n_cryolearnClass #4\n9 0.25 0.1 2\n4 1.0 0.3 1\n')
    assert readLabels('particles.star') == {9: {'cryolearnWeight': 0.25, 'cryolearnClass': 2}, 4: {'cryolearnWeight': 1.0, 'cryolearnClass': 1}}


def testStatesAndTheirLatents(folder):
    assert readStates('.') == []
    os.makedirs('maps')
    with open('maps/reconstructions.json', 'w') as handle:
        json.dump({'reconstructions': [{'name': 'map_001', 'latent': [0.5, 1]}, {'name': 'map_002', 'latent': 2}]}, handle)
    assert [stateLatents(entry) for entry in readStates('.')] == [[0.5, 1.0], [2.0]]


@pytest.mark.parametrize('ending', ['.pdb', '.cif'])
def testGaussianModelsAreReadFromBothFormats(folder, ending):
    rng = np.random.default_rng(2)
    places = rng.uniform(-50, 50, (2, GAUSSIANS, 3))
    weights = rng.uniform(0.5, 2, (2, GAUSSIANS))
    structures = []
    for place, weight in zip(places, weights):
        structure = gaussian_structure(place, weight, np.ones(GAUSSIANS))
        structures.append(structure)
    write_pseudo_atoms('trajectory', *structures)
    models, occupancies, backbone = readModelsAndWeights('trajectory' + ending)
    np.testing.assert_allclose(np.stack(models), places, atol=2e-3)
    np.testing.assert_allclose(np.stack(occupancies), [weight / weight.mean() for weight in weights], atol=0.01)
    assert len(backbone.rows) == GAUSSIANS and not backbone.linked.any()


def testLatentsAreCalledByTheirNames():
    meta = {'latent_names': ['hinge', 'twist']}
    assert axis_label('amplitudes:1', meta) == 'twist'
    assert axis_label('amplitude_sigma:0', meta) == 'error bar of hinge'
    assert axis_label('amplitudes:0', {'mode_numbers': [7]}) == 'amplitude of mode 7'


def testALandscapeWithOneLatentShowsIt():
    columns = {'id': np.arange(4), 'amplitudes': np.arange(4.)[:, None], 'reduced': -np.arange(4.)[:, None], 'gain': np.array([3., 1, 2, 5]),
               'state_weight': np.random.default_rng(0).random((4, 21))}
    landscape = Landscape(columns, {'latent_names': ['place']})
    assert startAxes(landscape) == ('place', 'gain over the rigid model (log-likelihood)')
    assert len(landscape.axes) == 3  # the 21 columns of the posterior are no axes
