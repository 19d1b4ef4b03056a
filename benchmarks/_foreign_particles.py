"""Particles that this package did not make: ProDy deforms, gemmi makes the density, ``relion_project`` projects.

Needs the engine's libraries (ProDy, gemmi) and RELION's programs; a test of Scipion's side uses it too.
"""

import shutil
import subprocess
from pathlib import Path

import gemmi
import mrcfile
import numpy as np
import prody

BLUR_B = 200.0  # added before sampling and taken away in Fourier space, so that the density is free of aliases


def density(coordinates, elements, b_factor, box, pixel_size_angst):
    """Electron density map (z, y, x) float32 of atoms at (N, 3) Å from the map's centre, by gemmi's electron form factors."""
    side = box * pixel_size_angst
    structure = gemmi.Structure()
    structure.cell = gemmi.UnitCell(side, side, side, 90, 90, 90)
    structure.spacegroup_hm = "P 1"
    model, chain, residue = gemmi.Model(1), gemmi.Chain("A"), gemmi.Residue()
    residue.name = "UNK"
    for place, element in zip(coordinates + side / 2, elements):
        atom = gemmi.Atom()
        atom.element, atom.pos, atom.b_iso, atom.occ = gemmi.Element(element), gemmi.Position(*place), b_factor, 1.0
        residue.add_atom(atom)
    chain.add_residue(residue)
    model.add_chain(chain)
    structure.add_model(model)
    calculator = gemmi.DensityCalculatorE()
    calculator.blur = BLUR_B
    calculator.grid.set_unit_cell(structure.cell)
    calculator.grid.spacegroup = gemmi.SpaceGroup("P 1")
    calculator.grid.set_size(box, box, box)
    calculator.add_model_density_to_grid(structure[0])
    grid = np.array(calculator.grid, copy=False).transpose(2, 1, 0)
    line, half = np.fft.fftfreq(box, pixel_size_angst), np.fft.rfftfreq(box, pixel_size_angst)
    k2 = line[:, None, None] ** 2 + line[None, :, None] ** 2 + half**2
    spectrum = np.fft.rfftn(grid) * np.exp(BLUR_B * k2 / 4) * (k2 <= (0.5 / pixel_size_angst) ** 2)
    return np.fft.irfftn(spectrum, s=(box,) * 3).astype(np.float32)


def write_map(path, data, pixel_size_angst):
    """Write a map (z, y, x) float32."""
    with mrcfile.new(str(path), overwrite=True) as handle:
        handle.set_data(data)
        handle.voxel_size = pixel_size_angst


def relion_project(volume_path, star_path, root):
    """Projections with CTF at the STAR's poses; returns the stack's images (n, y, x)."""
    program = shutil.which("relion_project")
    if program is None:
        raise FileNotFoundError("relion_project is not installed: apt-get install relion")
    subprocess.run(
        [program, "--i", str(volume_path), "--o", str(root), "--ang", str(star_path), "--ctf"], check=True, capture_output=True,
    )
    with mrcfile.open("%s.mrcs" % root, permissive=True) as handle:
        return np.array(handle.data, dtype=np.float32).reshape(-1, *handle.data.shape[-2:])


def write_star(path, images, poses, ctf, box, pixel_size_angst):
    """RELION 3.1 particles; ``poses`` rows are rot, tilt, psi, x, y (degrees, Å), ``ctf`` rows defocus U, V (Å), angle."""
    lines = ["data_optics", "", "loop_"]
    optics = ("OpticsGroupName", "OpticsGroup", "Voltage", "SphericalAberration", "AmplitudeContrast", "ImagePixelSize", "ImageSize",
              "ImageDimensionality")
    lines += ["_rln%s #%d" % (name, k + 1) for k, name in enumerate(optics)]
    lines += ["opticsGroup1 1 300.0 2.7 0.1 %.6f %d 2" % (pixel_size_angst, box), "", "data_particles", "", "loop_"]
    columns = ("ImageName", "OpticsGroup", "AngleRot", "AngleTilt", "AnglePsi", "OriginXAngst", "OriginYAngst", "DefocusU", "DefocusV",
               "DefocusAngle")
    lines += ["_rln%s #%d" % (name, k + 1) for k, name in enumerate(columns)]
    for k, name in enumerate(images):
        numbers = " ".join("%.6f" % value for value in (*poses[k], *ctf[k]))
        lines.append("%s 1 %s" % (name, numbers))
    Path(path).write_text("\n".join(lines) + "\n")


def make_particles(folder, structure_path, mode_vectors, number, amplitude, box=128, pixel_size_angst=2.0, snr=0.1, shift_angst=10.0,
                   b_factor=30.0, seed=11, mean_map=False):
    """Write ``particles.star`` and ``particles.mrcs`` of a deformed structure with white noise; every image is another conformer.

    Parameters
    ----------
    structure_path : heavy atoms in the order of ``mode_vectors``
    mode_vectors : (K, N, 3) unit-norm modes; amplitudes are uniform in the cube of half side ``amplitude``
    snr : var(signal) / var(noise) over the whole image, signal after the CTF

    Returns
    -------
    dict of arrays: ``id`` (n,), ``amplitudes`` (n, K), ``poses`` (n, 5) rot, tilt, psi (degrees), x, y origin (Å).
    With ``mean_map`` the conformers' mean density is written as ``mean.mrc``.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    prody.confProDy(verbosity="none")
    atoms = prody.parsePDB(str(structure_path))
    ensemble = prody.NMA("modes")
    ensemble.setEigens(np.reshape(mode_vectors, (len(mode_vectors), -1)).T)
    rng = np.random.default_rng(seed)
    amplitudes = rng.uniform(-amplitude, amplitude, (number, len(mode_vectors)))
    angles = np.stack([rng.uniform(-180, 180, number), np.rad2deg(np.arccos(rng.uniform(-1, 1, number))), rng.uniform(-180, 180, number)], 1)
    poses = np.concatenate([angles, rng.uniform(-shift_angst, shift_angst, (number, 2))], 1)
    defocus = rng.uniform(5000, 15000, number)
    ctf = np.stack([defocus, defocus - rng.uniform(0, 300, number), rng.uniform(0, 180, number)], 1)
    centre = atoms.getCoords().mean(0)
    elements = [element.capitalize() for element in atoms.getElements()]
    volume, one, root = folder / "conformer.mrc", folder / "one.star", folder / "projection"
    images = np.empty((number, box, box), np.float32)
    total = np.zeros((box,) * 3)
    for k in range(number):
        moved = atoms.copy()
        for mode, value in zip(ensemble, amplitudes[k]):
            moved.setCoords(moved.getCoords() + value * mode.getArrayNx3())
        conformer = density(moved.getCoords() - centre, elements, b_factor, box, pixel_size_angst)
        total += conformer
        write_map(volume, conformer, pixel_size_angst)
        write_star(one, ["000001@none.mrcs"], poses[k : k + 1], ctf[k : k + 1], box, pixel_size_angst)
        clean = relion_project(volume, one, root)[0]
        images[k] = clean + rng.normal(0, np.sqrt(clean.var() / snr), clean.shape)
    if mean_map:
        write_map(folder / "mean.mrc", (total / number).astype(np.float32), pixel_size_angst)
    with mrcfile.new(str(folder / "particles.mrcs"), overwrite=True) as handle:
        handle.set_data(images)
        handle.set_image_stack()
        handle.voxel_size = pixel_size_angst
    names = ["%06d@particles.mrcs" % (k + 1) for k in range(number)]
    write_star(folder / "particles.star", names, poses, ctf, box, pixel_size_angst)
    return {"id": np.arange(1, number + 1), "amplitudes": amplitudes, "poses": poses}
