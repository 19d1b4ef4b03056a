"""The workflow templates: offered by Scipion, load whole, their fields reach the forms."""

import json
import os

import cryolearn
from pyworkflow.template import LocalTemplate, TemplateList

from .base import ProjectTest, structureFile


class TemplateTest:
    """A template of this plugin.

    ``given`` are values of its fields by alias; ``imports`` the labels of runs that take nothing from others; ``links`` what the others take, from
    which run: ``{label: [(parameter, label of the run, its output)]}``.
    """

    name, given, imports, links = '', {}, set(), {}

    def load(self):
        path = os.path.join(os.path.dirname(cryolearn.__file__), 'templates', self.name + '.json.template')
        template = LocalTemplate('cryolearn', path)
        template.replaceEnvVariables()
        template.parseContent()
        return template

    def testTemplateIsOffered(self):
        offered = TemplateList()
        offered.addPluginTemplates('cryolearn-' + self.name)
        self.assertEqual([template.getObjId() for template in offered.templates], ['cryolearn-' + self.name])
        self.assertGreater(len(offered.templates[0].description), 100)

    def testFieldsReachTheForms(self):
        template = self.load()
        self.assertEqual({field.getAlias() for field in template.getParams().values()}, set(self.given))
        for alias, value in self.given.items():
            self.assertGreater(template.setParamValue(alias, value), 0)
        path = template.createTemplateFile()
        with open(path) as handle:
            labels = {item['object.id']: item['object.label'] for item in json.load(handle)}
        runs = {labels[number]: run for number, run in self.proj.loadProtocols(path).items()}
        os.remove(path)
        self.assertEqual(set(runs), set(self.links) | self.imports)
        for label, taken in self.links.items():
            for name, source, output in taken:
                pointer = getattr(runs[label], name)
                pointer = pointer[0] if hasattr(pointer, '__getitem__') else pointer  # an input of many
                self.assertEqual(pointer.getObjValue().getObjId(), runs[source].getObjId(), label)
                self.assertEqual(pointer.getExtended(), output, label)
        self.checkForms(runs)


class TestElasticShapes(TemplateTest, ProjectTest):

    name = 'elastic_shapes'
    given = {'structure': structureFile(), 'align': '30', 'unseen': '40', 'box': '64', 'pixel': '4.0', 'snr': '0.2', 'modes': '7,8', 'epochs': '3',
             'images': '96', 'classes': '2'}
    imports = {'import structure'}
    links = {
        'normal modes': [('inputStructure', 'import structure', 'outputPdb')],
        'particles to align': [('inputModes', 'normal modes', 'outputModes')],
        'unseen particles': [('inputModes', 'normal modes', 'outputModes')],
        'elastic alignment (blind)': [('inputParticles', 'particles to align', 'outputParticles')],
        'train network': [('inputParticles', 'elastic alignment (blind)', 'outputParticles')],
        'predict unseen particles': [('inputModel', 'train network', 'outputModel')],
        'landscape and classes': [('inputParticles', 'predict unseen particles', 'outputParticles')],
        'trajectory': [('inputSet', 'landscape and classes', 'outputClasses')],
        'consensus map': [('inputSet', 'predict unseen particles', 'outputParticles')],
        'maps of the classes': [('inputSet', 'landscape and classes', 'outputClasses')],
    }

    def checkForms(self, runs):
        for label, run in runs.items():
            values = {'modeNumbers': '7,8', 'box': 64, 'pixelSizeAngst': 4.0, 'snr': 0.2} if 'particles' in label and 'predict' not in label else {}
            for name, value in values.items():
                self.assertEqual(getattr(run, name).get(), value, label)
        self.assertEqual(runs['particles to align'].number.get(), 30)
        self.assertEqual(runs['unseen particles'].number.get(), 40)
        self.assertNotEqual(runs['particles to align'].seed.get(), runs['unseen particles'].seed.get())
        self.assertEqual((runs['train network'].epochs.get(), runs['train network'].imagesPerEpoch.get()), (3, 96))
        self.assertEqual(runs['landscape and classes'].clusters.get(), 2)
        self.assertEqual(runs['elastic alignment (blind)'].start.get(), 0)


class TestSubtomograms(TemplateTest, ProjectTest):

    name = 'subtomograms'
    given = {'known': os.path.dirname(structureFile()), 'pattern': '1*.pdb', 'sample': os.path.dirname(structureFile()), 'samplePattern': '3*.pdb',
             'learn': '30', 'each': '20', 'box': '24', 'pixel': '8.0', 'first': '-50', 'last': '45', 'snr': '0.5', 'epochs': '3', 'groups': '4',
             'smallest': '6'}
    imports = {'known structures', 'structures of the sample'}
    links = {
        'subtomograms to learn from': [('inputStructures', 'known structures', 'outputAtomStructs')],
        'subtomograms of the sample': [('inputStructures', 'structures of the sample', 'outputAtomStructs')],
        'train network': [('inputSets', 'subtomograms to learn from', 'outputSubtomograms')],
        'classes of the sample': [('inputSubtomograms', 'subtomograms of the sample', 'outputSubtomograms'), ('inputModel', 'train network', 'outputModel')],
        'groups of the sample': [('inputSubtomograms', 'subtomograms of the sample', 'outputSubtomograms'), ('inputModel', 'train network', 'outputModel')],
        'averages of the groups': [('inputSubtomograms', 'groups of the sample', 'outputClasses')],
    }

    def checkForms(self, runs):
        simulations = runs['subtomograms to learn from'], runs['subtomograms of the sample']
        for run in simulations:
            for name, value in dict(box=24, pixelSizeAngst=8.0, tiltMinDeg=-50, tiltMaxDeg=45, snr=0.5).items():
                self.assertEqual(getattr(run, name).get(), value)
        self.assertEqual([run.perClass.get() for run in simulations], [30, 20])
        self.assertNotEqual(*[run.seed.get() for run in simulations])
        self.assertEqual([runs[label].filesPattern.get() for label in ('known structures', 'structures of the sample')], ['1*.pdb', '3*.pdb'])
        self.assertEqual((runs['train network'].epochs.get(), runs['groups of the sample'].clusters.get()), (3, 4))
        average = runs['averages of the groups']
        self.assertEqual((average.eachClass.get(), average.classes.get(), average.smallest.get()), (True, 1, 6))
