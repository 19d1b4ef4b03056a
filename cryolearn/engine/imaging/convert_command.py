"""The command ``convert-particles``: particles of one program as files of the others."""

from __future__ import annotations

from pathlib import Path

from ..config import check_config, require
from ..io.cryosparc import write_cs
from ..io.star import read_particles, write_particles
from ..io.summary import ConversionSummary, write_summary
from .config import ConvertParticlesConfig

__all__ = ["run"]

# optics that a .cs file made here does not hold, and what they are without effect
_STAR_ONLY: dict[str, float | None] = {
    "rlnBeamTiltX": 0, "rlnBeamTiltY": 0, "rlnOddZernike": None, "rlnEvenZernike": None, "rlnMagMat00": 1, "rlnMagMat01": 0, "rlnMagMat10": 0, "rlnMagMat11": 1,
    "rlnCtfBfactor": 0, "rlnCtfScalefactor": 1,
}


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
    given = {**table.extra, **table.optics} if table.cryosparc is None else {}
    lost = [label for label, neutral in _STAR_ONLY.items() if label in given and (given[label] != neutral).any()]
    if lost:
        print(f"WARNING: particles.cs does not have the columns {', '.join(lost)} of '{config.particles}'.", flush=True)
    write_summary(out, ConversionSummary(
        particles=len(table), box=table.box, pixel_size_angst=table.pixel_size_angst, has_poses=table.angles_deg is not None, has_ctf=table.ctf is not None,
        not_written_to_cs=lost,
    ), warnings=table.warnings)
    print(f"{len(table)} particles written to particles.star and particles.cs")
