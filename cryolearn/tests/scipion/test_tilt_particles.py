"""Tilt-series particles of scipion-em-reliontomo: the engine reads what RELION says, whatever subset they come in; three methods and what follows."""

import os
from pathlib import Path

import numpy as np
import pytest

from .base import ProjectTest, structureFile

pytest.importorskip('reliontomo.objects')
torch = pytest.importorskip('torch')

from pwem.protocols import ProtImportPdb, ProtUnionSet  # noqa: E402
from pyworkflow.object import Pointer  # noqa: E402
from reliontomo.convert import readSetOfPseudoSubtomograms  # noqa: E402
from reliontomo.objects import RelionSetOfPseudoSubtomograms  # noqa: E402
from tomo.objects import Coordinate3D, SetOfCoordinates3D  # noqa: E402

from cryolearn.convert.particles import writeParticles  # noqa: E402
from cryolearn.convert.subtomograms import checkSet  # noqa: E402
from cryolearn.convert.tilt_particles import isTiltSeries, particleClasses, tiltErrors  # noqa: E402
from cryolearn.engine.io.maps import read_map  # noqa: E402
from cryolearn.engine.io.star import read_particles  # noqa: E402
from cryolearn.engine.io.star_text import read_star, write_star  # noqa: E402
from cryolearn.protocols import (  # noqa: E402
    CryoLearnProtClusterLandscape, CryoLearnProtElasticAlign, CryoLearnProtGaussianHeterogeneity, CryoLearnProtNormalModes, CryoLearnProtReconstruct,
    CryoLearnProtRecoverOrientations,
)
from cryolearn.tests.engine.imaging_cases import gaussian_model  # noqa: E402
from cryolearn.tests.engine.tilt_cases import SERIES_PIXEL, write_case  # noqa: E402

BOX, PIXEL, COUNT = 32, 4.0, 24
MODEL = gaussian_model(22, 6.0)


def relionSet(folder, name='set.sqlite', positions=None, names=True, style='relion', run=None):
    """A set as the imports of scipion-em-reliontomo make it; its coordinates become an output of ``run``."""
    positions = MODEL.positions.expand(COUNT, -1, -1) if positions is None else positions
    write_case(folder, positions, MODEL.weights, MODEL.sigma, box=BOX, pixel=PIXEL, noise=1.0, style=style)
    star = str(folder / 'particles.star')
    blocks = read_star(star)
    if names:
        blocks['particles']['rlnTomoParticleName'] = np.array(['TS_1/%d' % row for row in range(1, len(positions) + 1)], dtype=object)
    blocks['particles']['rlnImageName'] = np.array(
        [os.path.relpath(str(folder / image)) for image in blocks['particles']['rlnImageName']], dtype=object)  # from the project's folder
    write_star(star, blocks)
    coordinates = SetOfCoordinates3D(filename=os.path.join(os.path.dirname(name), 'coordinates.sqlite'))
    for _ in positions:
        coordinates.append(Coordinate3D())
    particles = RelionSetOfPseudoSubtomograms(filename=name)
    particles.setTsSamplingRate(SERIES_PIXEL)
    particles.setRelionBinning(PIXEL / SERIES_PIXEL)
    particles.setSamplingRate(PIXEL)
    particles.setBoxSize(BOX)
    particles.setAre2dStacks(True)
    if run is not None:
        run._defineOutputs(outputCoordinates=coordinates)
    particles.setCoordinates3D(coordinates if run is None else Pointer(value=run, extended='outputCoordinates'))
    particles.filesMaster = os.path.relpath(str(folder / 'optimisation_set.star'))
    readSetOfPseudoSubtomograms(particles)
    particles.write()
    return particles


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tableOf(path):
    return read_particles(path, tilt_series=True)


@pytest.mark.parametrize('style', ['relion', 'warp'])
@pytest.mark.parametrize('names', [True, False])
def test_the_engine_reads_what_the_files_of_relion_say(folder, style, names):
    particles = relionSet(folder, names=names, style=style)
    (folder / 'extra').mkdir()
    assert isTiltSeries(particles) and tiltErrors(particles, alignment=True) == []
    assert writeParticles(particles, 'extra/input_particles.star') == COUNT
    found, wanted = tableOf('extra/input_particles.star'), tableOf('particles.star')
    assert found.tilts.particle_ids.tolist() == wanted.tilts.particle_ids.tolist()
    for name in ('angles_deg', 'origin_angst'):
        np.testing.assert_allclose(getattr(found, name), getattr(wanted, name), atol=1e-6)
    np.testing.assert_array_equal(found.tilts.dose, wanted.tilts.dose)
    np.testing.assert_allclose(found.ctf.defocus_u, wanted.ctf.defocus_u)


def test_subsets_are_written_by_name(folder):
    particles = relionSet(folder)
    chosen = [item.clone() for item in particles.iterItems() if item.getObjId() % 5 == 2]
    assert writeParticles(particles, 'subset.star', items=chosen, poses=False) == len(chosen)
    found = tableOf('subset.star')
    assert sorted(set(found.tilts.particle_ids.tolist())) == [2, 7, 12, 17, 22] and found.angles_deg is None


def test_what_cannot_be_used_is_refused_by_name(folder):
    particles = relionSet(folder)
    stranger = particles.getFirstItem().clone()
    stranger._relionParticleName.set('TS_9/1')
    with pytest.raises(ValueError, match="does not have the tilt-series particle 1 of the set"):
        writeParticles(particles, 'out.star', items=[stranger])
    assert not os.path.exists('out.star')
    assert 'cut from reconstructed tomograms' in checkSet(particles)[0]
    particles.setAre2dStacks(False)
    assert 'extract them as 2D stacks' in tiltErrors(particles, alignment=False)[0]
    particles.setAre2dStacks(True)
    blocks = read_star('particles.star')
    del blocks['particles']['rlnAngleRot']
    write_star('particles.star', blocks)
    assert 'have no poses' in tiltErrors(particles, alignment=True)[0]
    os.remove('tomograms.star')
    assert "'tomograms.star'" in tiltErrors(particles, alignment=False)[0]


class TestTiltParticles(ProjectTest):
    """From scipion-em-reliontomo through reconstruct, Gaussian heterogeneity, elastic alignment and what follows them."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        source = cls.launch(ProtImportPdb, inputPdbData=ProtImportPdb.IMPORT_FROM_FILES, pdbFile=structureFile())  # any run, to have the particles
        stretch = MODEL.positions * torch.tensor([1.0, -1.0, 0.5])
        moved = MODEL.positions + torch.linspace(-0.2, 0.2, COUNT)[:, None, None] * stretch
        source._defineOutputs(outputParticles=relionSet(Path(source._getExtraPath()).absolute(), source._getPath('particles.sqlite'), moved, run=source))
        cls.particles = source.outputParticles
        cls.map = cls.launch(CryoLearnProtReconstruct, inputSet=cls.particles)
        cls.gaussian = cls.launch(
            CryoLearnProtGaussianHeterogeneity, inputParticles=cls.particles, inputVolume=cls.map.outputVolume, number=40, nullRuns=1, maps=0, rounds=1)

    def likeTheModel(self, volume):
        """Correlation of a map with the model that the images were made of."""
        found = torch.from_numpy(read_map(volume.getFileName()).data.copy())
        return float(torch.corrcoef(torch.stack([found.flatten(), MODEL.volume(BOX, PIXEL).flatten()]))[0, 1])

    def test_each_tilt_is_inserted_into_the_map(self):
        self.assertGreater(self.likeTheModel(self.map.outputVolume), 0.85)  # the motion blurs it

    def test_conformations_are_clustered_and_reconstructed_from_all_tilts(self):
        particles = self.gaussian.outputParticles
        self.assertEqual([item.getObjId() for item in particles.iterItems()], list(range(1, COUNT + 1)))
        clusters = self.launch(CryoLearnProtClusterLandscape, inputParticles=particles, clusters=2)
        maps = self.launch(CryoLearnProtReconstruct, inputSet=clusters.outputClasses)
        for volume in maps.outputVolumes.iterItems():
            self.assertGreater(self.likeTheModel(volume), 0.8)
        written = tableOf(maps._getExtraPath('input_particles.star'))
        self.assertEqual(len(written), len(tableOf(self.map._getExtraPath('input_particles.star'))))  # every tilt of every particle

    def test_elastic_alignment_keeps_the_particles_and_their_joined_subsets(self):
        modes = self.launch(CryoLearnProtNormalModes, inputStructure=self.gaussian.outputGaussians, number=8, cutoffAngst=30).outputModes
        values = dict(inputParticles=self.particles, inputModes=modes, modeNumbers='7', amplitudeRange=20, searchPixelAngst=5, candidates=2)
        self.assertIn('choose the start "local"', self.errors((CryoLearnProtElasticAlign, values))[0])
        run = self.launch(CryoLearnProtElasticAlign, start=1, **values)
        table = tableOf(run._getExtraPath('particles.star'))
        self.assertEqual(sorted(set(table.tilts.particle_ids.tolist())), list(range(1, COUNT + 1)))
        joined = self.launch(ProtUnionSet, inputSets=[run.outputParticles, self.gaussian.outputParticles])
        writeParticles(joined.outputSet, 'joined.star')
        self.assertEqual(len(tableOf('joined.star')), 2 * len(table))

    def test_methods_of_single_images_refuse_them(self):
        for particles in (self.particles, self.gaussian.outputParticles):
            errors = self.errors((CryoLearnProtRecoverOrientations, dict(inputParticles=particles)))
            self.assertIn('are tilt series, which this protocol does not take', errors[0])
        self.assertIn('RelionSetOfPseudoSubtomograms', particleClasses('SetOfParticles'))
