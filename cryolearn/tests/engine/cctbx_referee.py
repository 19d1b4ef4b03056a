"""Scores of cctbx, printed as JSON: run by an interpreter that has cctbx (``pip install cctbx-base``), never by the tests' own.

    PYTHON cctbx_referee.py MODEL.pdb MAP.mrc RESOLUTION

The map's first voxel must stand at 0, 0, 0 and the model in its frame.
"""

import io
import json
import sys


def main(model_file, map_file, resolution):
    import numpy as np
    from cctbx.maptbx import qscore
    from iotbx.cli_parser import run_program
    from iotbx.data_manager import DataManager
    from iotbx.map_model_manager import map_model_manager
    from mmtbx.maps.correlation import five_cc
    from mmtbx.programs import emringer

    found = {}
    score = run_program(program_class=emringer.Program, args=[model_file, map_file, 'quiet=True'], logger=io.StringIO()).scoring_result
    found['emringer'], found['residues'] = score.score, score.length
    manager = DataManager()
    manager.process_model_file(model_file)
    manager.process_real_map_file(map_file)
    both = map_model_manager(model=manager.get_model(), map_manager=manager.get_real_map(), ignore_symmetry_conflicts=True)
    structure = both.model().get_xray_structure()
    structure.scattering_type_registry(table='electron')
    result = five_cc(map=both.map_manager().map_data(), xray_structure=structure, d_min=resolution, compute_cc_box=True).result
    found.update(cc_box=result.cc_box, cc_mask=result.cc_mask, cc_volume=result.cc_volume, cc_peaks=result.cc_peaks)
    shells = list(np.linspace(0.1, 2.0, 20))
    found['q'] = list(qscore.calc_qscore(both, shells=shells, n_probes=32)['qscore_per_atom'])
    print(json.dumps(found))


if __name__ == '__main__':
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
