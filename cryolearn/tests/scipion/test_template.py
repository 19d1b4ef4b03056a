"""The workflow template of the main job: offered by Scipion, loads whole, its fields reach the forms."""

import json
import os

import cryolearn
from pyworkflow.template import LocalTemplate, TemplateList

from .base import ProjectTest, structureFile

NAME = 'elastic_shapes'
GIVEN = {'structure': structureFile(), 'align': '30', 'unseen': '40', 'box': '64', 'pixel': '4.0', 'snr': '0.2', 'modes': '7,8', 'epochs': '3',
         'images': '96', 'classes': '2'}
LINKS = {  # label: what it takes from which run
    'normal modes': ('inputStructure', 'import structure', 'outputPdb'),
    'particles to align': ('inputModes', 'normal modes', 'outputModes'),
    'unseen particles': ('inputModes', 'normal modes', 'outputModes'),
    'elastic alignment (blind)': ('inputParticles', 'particles to align', 'outputParticles'),
    'train network': ('inputParticles', 'elastic alignment (blind)', 'outputParticles'),
    'predict unseen particles': ('inputModel', 'train network', 'outputModel'),
    'landscape and classes': ('inputParticles', 'predict unseen particles', 'outputParticles'),
    'trajectory': ('inputSet', 'landscape and classes', 'outputClasses'),
    'consensus map': ('inputSet', 'predict unseen particles', 'outputParticles'),
    'maps of the classes': ('inputSet', 'landscape and classes', 'outputClasses'),
}


class TestTemplate(ProjectTest):

    def load(self):
        path = os.path.join(os.path.dirname(cryolearn.__file__), 'templates', NAME + '.json.template')
        template = LocalTemplate('cryolearn', path)
        template.replaceEnvVariables()
        template.parseContent()
        return template

    def testTemplateIsOffered(self):
        offered = TemplateList()
        offered.addPluginTemplates('cryolearn-' + NAME)
        self.assertEqual([template.getObjId() for template in offered.templates], ['cryolearn-' + NAME])
        self.assertGreater(len(offered.templates[0].description), 100)

    def testFieldsReachTheForms(self):
        template = self.load()
        self.assertEqual({field.getAlias() for field in template.getParams().values()}, set(GIVEN))
        for alias, value in GIVEN.items():
            self.assertGreater(template.setParamValue(alias, value), 0)
        path = template.createTemplateFile()
        with open(path) as handle:
            labels = {item['object.id']: item['object.label'] for item in json.load(handle)}
        runs = {labels[number]: run for number, run in self.proj.loadProtocols(path).items()}
        os.remove(path)
        self.assertEqual(set(runs), set(LINKS) | {'import structure'})
        for label, (name, source, output) in LINKS.items():
            pointer = getattr(runs[label], name)
            self.assertEqual(pointer.getObjValue().getObjId(), runs[source].getObjId(), label)
            self.assertEqual(pointer.getExtended(), output, label)
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
