"""The command ``convert-particles``: particles of one program as files of the others."""

from __future__ import annotations

from pathlib import Path

from ..config import check_config, require
from ..io.cryosparc import write_cs
from ..io.star import read_particles, write_particles
from ..io.summary import ConversionSummary, write_summary
from .config import ConvertParticlesConfig

__all__ = ["run"]

_STAR_ONLY = (
    "rlnBeamTiltX", "rlnBeamTiltY", "rlnOddZernike", "rlnEvenZernike", "rlnMagMat00", "rlnMagMat01", "rlnMagMat10", "rlnMagMat11", "rlnCtfBfactor",
    "rlnCtfScalefactor",
)


def run(config: ConvertParticlesConfig) -> None:
    """Run the command.

    Raises
    ------
    InputError
        when the particles cannot be read.
    """
    check_config(config)
    require(config, "particles")
    table = read_particles(config.particles, datadir=config.datadir)
    out = Path(config.output)
    out.mkdir(parents=True, exist_ok=True)
    write_particles(str(out / "particles.star"), table)
    write_cs(str(out / "particles.cs"), table)
    lost = [label for label in _STAR_ONLY if table.cryosparc is None and (label in table.extra or label in table.optics)]
    if lost:
        print(f"WARNING: particles.cs does not have the columns {', '.join(lost)} of '{config.particles}'.", flush=True)
    write_summary(out, ConversionSummary(
        particles=len(table), box=table.box, pixel_size_angst=table.pixel_size_angst, has_poses=table.angles_deg is not None, has_ctf=table.ctf is not None,
        not_written_to_cs=lost,
    ))
    print(f"{len(table)} particles written to particles.star and particles.cs")
