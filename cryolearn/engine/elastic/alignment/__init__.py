"""Elastic alignment of particle images: forward model, global search, and refinement of pose, shift and mode amplitudes. Enter at ``aligner``."""
