"""The command ``convert-particles``: particles of one program as files of the others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..config import check_config, require
from ..io.cryosparc import write_cs
from ..io.star import read_particles, write_particles
from ..io.summary import ConversionSummary, write_summary
from .config import ConvertParticlesConfig
from .defocus_hand import with_defocus_hand

__all__ = ["run"]

_PARTICLE = "rlnTomoParticleId"  # of a tilt image, the id of the particle that it shows
# optics that a .cs file made here does not hold, and what they are without effect
_STAR_ONLY: dict[str, float | None] = {
    "rlnBeamTiltX": 0, "rlnBeamTiltY": 0, "rlnOddZernike": None, "rlnEvenZernike": None, "rlnMagMat00": 1, "rlnMagMat01": 0, "rlnMagMat10": 0, "rlnMagMat11": 1,
    "rlnCtfBfactor": 0, "rlnCtfScalefactor": 1,
}


def run(config: ConvertParticlesConfig) -> None:
    """Run the command.

    Tilt-series particles are written as RELION 5 has them and, for programs that know none, as single particles: one for each tilt image, with its own pose,
    shift and CTF.

    Raises
    ------
    InputError
        when the particles cannot be read.
    """
    check_config(config)
    require(config, "particles")
    table = with_defocus_hand(read_particles(config.particles, datadir=config.datadir, tilt_series=True))
    out = Path(config.output)
    out.mkdir(parents=True, exist_ok=True)
    write_particles(str(out / "particles.star"), table)
    images, count, said = table, len(table.particles()[0]), list(table.warnings)
    if table.tilts is not None:
        images = replace(table, tilts=None, extra={_PARTICLE: table.tilts.particle_ids})
        write_particles(str(out / "tilt_images.star"), images)
        if table.ctf is not None and table.ctf.dose is not None:
            said.append("tilt_images.star and particles.cs do not say what dose an image had received, so that other programs cannot weight the images by it.")
            print(f"WARNING: {said[-1]}", flush=True)
    write_cs(str(out / "particles.cs"), images)
    given = {**images.extra, **images.optics} if images.cryosparc is None else {}
    lost = [label for label, neutral in _STAR_ONLY.items() if label in given and (given[label] != neutral).any()]
    if lost:
        print(f"WARNING: particles.cs does not have the columns {', '.join(lost)} of '{config.particles}'.", flush=True)
    write_summary(out, ConversionSummary(
        particles=count, box=table.box, pixel_size_angst=table.pixel_size_angst, has_poses=table.angles_deg is not None, has_ctf=table.ctf is not None,
        not_written_to_cs=lost,
    ), warnings=said)
    more = "" if table.tilts is None else f", their {len(table)} tilt images as single particles to tilt_images.star"
    print(f"{count} particles written to particles.star and particles.cs{more}")
