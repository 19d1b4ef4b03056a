"""One sentence on how far a run's result can be relied on, with its reason, from what the run measured of itself.

Each begins with *Reliable*, *Mixed*, *Doubtful* or *Not tested*.
"""

from typing import Any, List, Mapping, Optional, Sequence

__all__ = ["alignment_verdict", "averages_verdict", "classification_verdict", "enhancement_verdict", "groups_verdict", "maps_verdict", "recovery_verdict"]

_FEW, _MANY = 0.2, 0.5  # parts of the particles that are flagged
_APART, _BARELY = 0.25, 0.1  # silhouette scores (Rousseeuw, J. Comput. Appl. Math. 20 (1987) 53)


def alignment_verdict(particles: int, flags: Mapping[str, int], flagged: int) -> str:
    """Of an elastic alignment or prediction, by the particles that carry a flag; ``flags`` counts those of each."""
    part = flagged / max(particles, 1)
    most = max(flags, key=lambda name: flags[name]).replace("_", " ") if flagged and flags else ""
    said = "%d of %d particles are flagged%s" % (flagged, particles, ", most as '%s'" % most if most else "")
    if part <= _FEW:
        return "Reliable: %s." % said
    if part <= _MANY:
        return "Mixed: %s; leave them out of what is built on the others." % said
    return "Doubtful: %s. Is the structure that of the images, are pixel size and contrast right, and is there enough signal?" % said


def recovery_verdict(trust: str, reasons: Sequence[str]) -> str:
    """Of recovered orientations, by the signs against them that were looked for."""
    if trust == "high":
        return "Reliable: none of the signs against the orientations was found."
    return "Doubtful, do not build on the orientations: %s" % " ".join(reasons)


def maps_verdict(resolutions_angst: Sequence[Optional[float]]) -> str:
    """Of reconstructed maps, by the resolution at which their half maps agree (None: nowhere)."""
    known = [value for value in resolutions_angst if value is not None]
    if not known:
        return "Doubtful: the half maps agree at no resolution."
    if len(known) < len(resolutions_angst):
        return "Mixed: half maps of %d of %d maps agree at no resolution." % (len(resolutions_angst) - len(known), len(resolutions_angst))
    best, worst = min(known), max(known)
    return "Reliable to %s, by half maps (FSC 0.143)." % ("%.2f Å" % best if best == worst else "%.2f to %.2f Å" % (best, worst))


def classification_verdict(subtomograms: int, rejected: int, confidence: float) -> str:
    """Of a classification by a network, by what it does not know and how sure it is of the rest."""
    said = "%d of %d subtomograms are like no class that the network learned; mean confidence %.2f" % (rejected, subtomograms, confidence)
    if rejected > _MANY * subtomograms:
        return "Doubtful: %s: was it trained on such subtomograms?" % said
    return "%s: %s." % ("Reliable" if confidence >= 1 - _FEW and rejected <= _FEW * subtomograms else "Mixed", said)


def groups_verdict(silhouette: Optional[float], left_out: int, subtomograms: int) -> str:
    """Of groups of features, by how far they lie apart."""
    if silhouette is None or silhouette != silhouette:
        return "Not tested: there are too few groups to tell whether they lie apart."
    said = "silhouette %.2f, %d of %d subtomograms left out" % (silhouette, left_out, subtomograms)
    if silhouette >= _APART:
        return "Reliable: the groups lie apart (%s)." % said
    if silhouette >= _BARELY:
        return "Mixed: the groups overlap (%s)." % said
    return "Doubtful: the groups run into one another (%s); average them before anything is made of them." % said


def averages_verdict(resolutions_angst: Sequence[Optional[float]], warnings: Sequence[str]) -> str:
    """Of subtomogram averages, by their half maps and by what the run warned of."""
    verdict = maps_verdict(resolutions_angst)
    return verdict if not warnings or not verdict.startswith("Reliable") else "Mixed: the half maps agree, but the run warned of %d thing%s (below)." % (
        len(warnings), "" if len(warnings) == 1 else "s")


def enhancement_verdict(summary: Mapping[str, Any]) -> str:
    """Of an enhanced map, by the half map that the network had not seen."""
    faults: List[str] = []
    if summary["disagrees"]:
        faults.append("the enhanced map does not resemble its input (is density white in it, and its resolution right?)")
    if not summary["molecule_found"]:
        faults.append("nothing in the map stands out of the solvent")
    if faults:
        return "Doubtful, do not use it: %s." % "; ".join(faults)
    if "evidence_gain" not in summary:
        return "Not tested: without half maps nothing tells whether what was added is there."
    gain = "the agreement with the half map that was not seen %s (mean FSC %.3f before, %.3f after)" % (
        "rose" if summary["evidence_gain"] > 0 else "did not rise", summary["mean_fsc_raw"], summary["mean_fsc_cross"])
    return "%s: %s." % ("Reliable" if summary["evidence_gain"] > 0 else "Doubtful", gain)
