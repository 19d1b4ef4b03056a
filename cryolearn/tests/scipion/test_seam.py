"""The seam between Scipion and the engine, seen from Scipion: interpreter, environment, GPUs, forms, digests, errors."""

import json
import os
import stat
import sys
import tempfile
import unittest
from subprocess import CalledProcessError
from unittest import mock

import pyworkflow as pw

pw.Config.setDomain('pwem')

from pwem.objects import Particle, SetOfParticles
from pyworkflow.protocol import params
from scipion.install.funcs import Environment

import cryolearn.plugin as seam
from cryolearn import Plugin, __version__, engine_install
from cryolearn.constants import CRYOLEARN_ENV_ACTIVATION, CRYOLEARN_HOME, ENGINE_READY
from cryolearn.engine.commands import COMMANDS
from cryolearn.engine.config import check_config, fields_of
from cryolearn.engine.elastic.config import ElasticAlignConfig, NormalModesConfig
from cryolearn.engine.imaging.config import ReconstructConfig
from cryolearn.engine_install import findPython
from cryolearn.protocols.engine_run import EngineError
from cryolearn.protocols.protocol_base import CryoLearnProtBase, EngineStep

from .base import ProjectTest

BAD_MODES = 'resname XYZ'


class TestPlugin(unittest.TestCase):
    """Which interpreter runs the engine, and in what environment."""

    @classmethod
    def setUpClass(cls):
        cls.plugins = pw.Config.getDomain().getPlugins()

    def withVars(self, **values):
        patch = mock.patch.dict(Plugin._vars, values)
        patch.start()
        self.addCleanup(patch.stop)

    def testPluginIsFoundThroughItsEntryPoint(self):
        plugin = self.plugins['cryolearn']._pluginInstance
        self.assertEqual('cryolearn', plugin.getName())
        self.assertTrue(os.path.isfile(os.path.join(plugin.getPluginDir(), self.plugins['cryolearn']._logo)))
        self.assertEqual(__version__, plugin.getActiveVersion())

    def testInterpreterIsTheFirstThatHolds(self):
        with tempfile.TemporaryDirectory() as home:
            open(os.path.join(home, ENGINE_READY), 'w').close()
            self.withVars(**{CRYOLEARN_ENV_ACTIVATION: '. /some/env/bin/activate &&', CRYOLEARN_HOME: home})
            self.assertEqual('. /some/env/bin/activate && python -m cryolearn.engine', Plugin.getEngineProgram())
            self.withVars(**{CRYOLEARN_ENV_ACTIVATION: ''})
            self.assertEqual('%s/env/bin/python -m cryolearn.engine' % home, Plugin.getEngineProgram())
            os.remove(os.path.join(home, ENGINE_READY))
            with mock.patch.object(seam, '_missingHere', lambda: ''):
                self.assertEqual('%s -m cryolearn.engine' % sys.executable, Plugin.getEngineProgram())
            with mock.patch.object(seam, '_missingHere', lambda: 'it has no torch'):
                text = ' '.join(Plugin.validateInstallation())
                for said in ('installb cryolearn', CRYOLEARN_ENV_ACTIVATION + ' = ', home, 'no torch'):
                    self.assertIn(said, text)
                self.assertRaises(RuntimeError, Plugin.getEngineProgram)

    def testTheEnvironmentOfTheEngineIsClean(self):
        dirty = {'PYTHONPATH': '/x', 'PYTHONUSERBASE': '/x', 'LD_LIBRARY_PATH': '/x', 'PYTHONHOME': '/x', 'KEPT': 'yes'}
        with mock.patch.dict(os.environ, dirty):
            environ = Plugin.getEnviron()
            self.assertEqual('1', environ['PYTHONNOUSERSITE'])
            self.withVars(**{CRYOLEARN_ENV_ACTIVATION: 'module load pytorch'})  # may rest on packages in the user's home
            self.assertNotIn('PYTHONNOUSERSITE', Plugin.getEnviron())
        self.assertEqual('yes', environ['KEPT'])
        for name in dirty:
            self.assertEqual(name == 'KEPT', name in environ, name)

    def testAnEngineOfAnotherVersionOrNoneAtAllIsNamed(self):
        with tempfile.TemporaryDirectory() as folder:
            python = os.path.join(folder, 'python')
            for answer, said in (('{"cryolearn": "0.0.1"}', '0.0.1'), ('nonsense', 'does not start')):
                with open(python, 'w') as handle:
                    handle.write("#!/bin/sh\necho '%s'\n" % answer)
                os.chmod(python, stat.S_IRWXU)
                seam._answers.clear()
                self.withVars(**{CRYOLEARN_ENV_ACTIVATION: 'PATH=%s:$PATH' % folder})
                self.assertIn(said, ' '.join(Plugin.validateEngine()))
        seam._answers.clear()

    def testAFailedCheckIsNotRememberedForEver(self):
        """What works is asked once; what fails is asked again after a minute, so that a mended environment is found without starting Scipion anew."""
        seam._answers.clear()
        with mock.patch.object(seam, '_freshAnswer', side_effect=[{'error': 'no torch'}, {'cryolearn': '1'}]) as asked, \
                mock.patch.object(seam.time, 'monotonic') as clock:
            for now, found, times in ((1000, 'error', 1), (1030, 'error', 1), (1100, 'cryolearn', 2), (9000, 'cryolearn', 2)):
                clock.return_value = float(now)
                self.assertIn(found, seam._askEngine('python', '--versions'))
                self.assertEqual(times, asked.call_count)
        seam._answers.clear()

    def testTheRecipeIsOnlyARecipe(self):
        """Defining the binaries starts nothing; with conda configured the command uses it, else it makes a venv."""
        commands = {}
        for conda in ('', 'eval "$(conda shell.posix hook)" &&'):
            with mock.patch.object(pw.Config, 'CONDA_ACTIVATION_CMD', conda), mock.patch('subprocess.Popen') as popen:
                env = Environment()
                Plugin.defineBinaries(env)
                self.assertFalse(popen.called)
            self.assertEqual(['cryolearn'], [name for name in env.getPackages() if name == 'cryolearn'])
            commands[conda] = str(env.getTarget('cryolearn-%s' % __version__).getCommands())
        texts = list(commands.values())
        self.assertNotIn('--conda', texts[0])
        self.assertIn('cryolearn.engine_install', texts[0])
        self.assertIn('--conda', texts[1])

    def testTheNewestPythonThatTheEngineSupportsIsFound(self):
        with tempfile.TemporaryDirectory() as folder:
            for name, version in (('python3.10', '3.10'), ('python3.11', '3.11'), ('python3.12', '3.12'), ('python3.99', '3.99')):
                path = os.path.join(folder, name)
                with open(path, 'w') as handle:
                    handle.write('#!/bin/sh\necho %s\n' % version)
                os.chmod(path, stat.S_IRWXU)
            names = sorted(os.path.join(folder, name) for name in os.listdir(folder))
            self.assertEqual(os.path.join(folder, 'python3.12'), findPython(names))
            self.assertIsNone(findPython(names[:1]))


class ProtSeam(CryoLearnProtBase):
    """A protocol with one engine step, for these tests."""

    _label = 'seam test'

    def _defineParams(self, form):
        self._defineGpuParams(form)
        form.addSection(label='Input')
        self.addEngineParams(form, NormalModesConfig, 'selection', 'number', 'method', 'cutoff_angst')
        self.addEngineParams(form, ElasticAlignConfig, 'mode_numbers')
        form.addParallelSection(threads=1, mpi=0)


class TestBase(ProjectTest):
    """Forms, digests and errors of the base protocol."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        pw.Config.getDomain().getProtocols()
        ProtSeam._package = sys.modules['cryolearn']
        ProtSeam._plugin = Plugin()

    def new(self, **values):
        protocol = ProtSeam(project=self.proj, workingDir=self.getOutputPath('seam'), **values)
        self.proj._setHostConfig(protocol)
        protocol.setStepsExecutor()
        os.makedirs(protocol._getExtraPath(), exist_ok=True)
        return protocol

    def testTheFormTakesDefaultHelpAndRangeFromTheEngine(self):
        protocol = self.new()
        meta = fields_of(NormalModesConfig)['cutoff_angst'].metadata
        param = protocol.getParam('cutoffAngst')
        self.assertIn(meta['help'], param.getHelp())
        self.assertIn('Å', param.getLabel())
        self.assertEqual(NormalModesConfig().cutoff_angst, protocol.cutoffAngst.get())
        self.assertIsInstance(protocol.getParam('method'), params.EnumParam)
        self.assertEqual([], param.validate(meta['low']))
        self.assertEqual(1, len(param.validate(meta['low'] - 1)))
        for name in ('useGpu', 'gpuList'):
            self.assertTrue(protocol.hasAttribute(name))

    def testTheConfigurationIsWhatTheFormSays(self):
        protocol = self.new(number=9, method=1, modeNumbers='7-8 12', numberOfThreads=3)
        config = protocol.buildConfig(NormalModesConfig, output='here')
        self.assertEqual((9, 'anm_ca', 'here', NormalModesConfig().cutoff_angst),
                         (config.number, config.method, config.output, config.cutoff_angst))
        self.assertEqual([7, 8, 12], protocol.buildConfig(ElasticAlignConfig).mode_numbers)
        check_config(config)
        self.assertRaises(ValueError, protocol.buildConfig, NormalModesConfig, nothing=1)

    def testDigestFollowsWhatTheResultDependsOn(self):
        protocol = self.new()
        config = protocol.buildConfig(NormalModesConfig, output='a')
        digest = protocol.engineDigest(config, note='x')
        config.output, config.threads, config.use_gpu = 'b', 7, True
        self.assertEqual(digest, protocol.engineDigest(config, note='x'))
        self.assertNotEqual(digest, protocol.engineDigest(config, note='y'))
        config.cutoff_angst += 1
        self.assertNotEqual(digest, protocol.engineDigest(config, note='x'))

    def testDigestOfASetFollowsItsContent(self):
        protocol = self.new()
        digests = []
        path = protocol._getPath('set.sqlite')
        for size in (1, 2):
            particles = SetOfParticles(filename=path)
            particles.setSamplingRate(1)
            for index in range(size):
                particles.append(Particle(location=(index + 1, 'stack.mrcs')))
            particles.write()
            particles.close()
            self.assertTrue(os.path.isfile(path))
            digests += [protocol.engineDigest(particles=SetOfParticles(filename=path)) for _ in range(2)]
            os.remove(path)
        self.assertEqual((digests[0], digests[2]), (digests[1], digests[3]))
        self.assertNotEqual(digests[0], digests[2])

    def testFilesOfTheRunItselfDoNotChangeTheDigest(self):
        """They are made by earlier steps: when steps are inserted they may not exist yet."""
        protocol = self.new()
        own = protocol._getExtraPath('input.star')
        config = ReconstructConfig(particles=own)
        digest = protocol.engineDigest(config)
        with open(own, 'w') as handle:
            handle.write('data_')
        self.assertEqual(digest, protocol.engineDigest(config))

    def testNoGpuAskedMeansNone(self):
        protocol = self.new(useGpu=False, gpuList='0 1')
        self.assertEqual([], protocol.getGpuList())
        self.assertEqual(0, protocol.getSubmitDict()['GPU_COUNT'])
        config = protocol.buildConfig(ElasticAlignConfig, use_gpu=True)
        protocol.setHardware(config)
        self.assertFalse(config.use_gpu)

    def testGpusAreThoseOfTheFormOrOfTheStepsExecutor(self):
        protocol = self.new(useGpu=True, gpuList='0,2')
        config = protocol.buildConfig(ElasticAlignConfig)
        protocol.setHardware(config)
        self.assertEqual((True, '0 2'), (config.use_gpu, config.gpu_list))
        protocol._stepsExecutor.gpuList = [1]
        protocol.setHardware(config)
        self.assertEqual('1', config.gpu_list)

    def testAGpuThatIsNotThereIsAnErrorAtValidation(self):
        with mock.patch.object(Plugin, 'validateEngine', return_value=[]), mock.patch.object(Plugin, 'getGpuCount', return_value=1):
            self.assertIn('GPU 1', self.new(useGpu=True, gpuList='0 1')._validateEngine()[0])
            self.assertEqual([], self.new(useGpu=True, gpuList='0')._validateEngine())
            self.assertEqual([], self.new(useGpu=False, gpuList='5')._validateEngine())

    def testTheEnginesSentenceIsTheError(self):
        protocol = self.new(selection=BAD_MODES)
        model = self.getOutputPath('one.pdb')
        with open(model, 'w') as handle:
            handle.write('ATOM      1  CA  ALA A   1       0.000   0.000   0.000  1.00  0.00           C\nEND\n')
        config = protocol.buildConfig(NormalModesConfig, structure=model, output=protocol._getExtraPath('modes'))
        with self.assertRaises(EngineError) as caught:
            protocol.runEngine('normal-modes', config)
        self.assertIn('XYZ', str(caught.exception))
        with open(protocol._getExtraPath('normal-modes.json')) as handle:
            self.assertEqual(BAD_MODES, json.load(handle)['selection'])

    def testAKilledEngineIsNamedAsSuch(self):
        protocol = self.new()
        for code, said in ((-9, 'signal 9'), (137, 'signal 9'), (1, 'exit code 1'), (None, 'stopped')):
            failure = None if code is None else CalledProcessError(code, 'x')
            with self.assertRaises(EngineError) as caught:
                protocol._raiseEngineError('elastic-train', self.getOutputPath('absent.json'), failure)
            self.assertIn(said, str(caught.exception))

    def testAStatusFileOfAnEarlierTryIsNotBelieved(self):
        protocol = self.new()
        with open(protocol._getExtraPath('normal-modes.status.json'), 'w') as handle:
            json.dump({'exit_code': 0, 'error': None}, handle)
        with mock.patch.object(protocol, 'runJob'):  # a queue's job that dies without a word
            self.assertRaises(EngineError, protocol.runEngine, 'normal-modes', NormalModesConfig())

    def testSummaryIsStoredText(self):
        protocol = self.new()
        self.assertEqual(['Output is not ready yet.'], protocol._summary())
        protocol.summaryVar.set('one\ntwo')
        self.assertEqual(['one', 'two'], protocol._summary())


class TestDescriptions(unittest.TestCase):
    """What the GUI shows of every protocol."""

    def testEveryProtocolHasHelpALabelOutputsAndKnownCitations(self):
        from pyworkflow.utils import parseBibTex

        import cryolearn.bibtex

        known = parseBibTex(cryolearn.bibtex.__doc__)
        protocols = {name: cls for name, cls in pw.Config.getDomain().getProtocols().items()
                     if cls.__module__.startswith('cryolearn.') and not cls.isBase()}
        self.assertGreaterEqual(len(protocols), 9)
        for name, cls in protocols.items():
            self.assertTrue(name.startswith('CryoLearnProt'), name)
            self.assertGreater(len((cls.__doc__ or '').split()), 10, name)
            self.assertTrue(cls._possibleOutputs, name)
            protocol = cls()
            for key in protocol._citations():
                self.assertIn(key, known, name)
            commands = [step._command for kind in cls.__mro__ for step in vars(kind).values() if isinstance(step, EngineStep)]
            self.assertEqual(protocol.allowMpi, any(COMMANDS[command].shared for command in commands), '%s: MPI is for shared commands' % name)
            for paramName, param in protocol.getDefinition().iterParams():
                if paramName not in ('runName', 'runMode', 'hostName', 'numberOfThreads', 'numberOfMpi', 'binThreads'):
                    self.assertTrue((param.getHelp() or '').strip(), '%s: %s has no help' % (name, paramName))

    def testReferencesOfThePackageAreInItsBibliography(self):
        from pyworkflow.utils import parseBibTex

        import cryolearn
        import cryolearn.bibtex

        self.assertEqual(set(), set(cryolearn._references) - set(parseBibTex(cryolearn.bibtex.__doc__)))


class TestInstaller(unittest.TestCase):
    """What ``scipion installb cryolearn`` calls, with every program that it starts written down instead of run."""

    def install(self, *options):
        calls = []
        with tempfile.TemporaryDirectory() as home, mock.patch.object(
                engine_install, '_call', lambda command, cwd=None: calls.append(command)):
            code = engine_install.main([home, *options])
            marked = os.path.exists(os.path.join(home, ENGINE_READY))
        return code, marked, calls, home

    def testVenvThenLockThenPluginThenCheckThenMark(self):
        code, marked, calls, home = self.install()
        python = os.path.join(home, 'env', 'bin', 'python')
        self.assertEqual((0, True), (code, marked))
        self.assertEqual(['-m', 'venv'], calls[0][1:3])
        self.assertEqual([python, '-m', 'pip', 'install', '-r'], calls[1][:5])
        self.assertTrue(calls[1][5].endswith('engine-requirements.txt') and os.path.isfile(calls[1][5]))
        self.assertIn('--no-deps', calls[2])
        self.assertEqual([python, '-m', 'cryolearn.engine', '--versions'], calls[3])

    def testCondaWhenAsked(self):
        _, marked, calls, home = self.install('--conda')
        self.assertTrue(marked)
        self.assertEqual(['conda', 'create'], calls[0][:2])
        self.assertIn(os.path.join(home, 'env'), calls[0])

    def testWithoutASuitablePythonNothingIsMarked(self):
        with mock.patch.object(engine_install, 'findPython', lambda: None), mock.patch('sys.stderr') as stderr:
            code, marked, calls, _ = self.install()
        self.assertEqual((1, False, []), (code, marked, calls))
        self.assertIn('apt-get install', str(stderr.write.call_args_list))
