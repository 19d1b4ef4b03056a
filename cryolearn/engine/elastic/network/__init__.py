"""Networks that predict pose, shift and mode amplitudes: architectures, training samples, losses, and refinement of what they predict."""
