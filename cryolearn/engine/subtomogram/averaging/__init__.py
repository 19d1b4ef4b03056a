"""Reference-free alignment, classification and averaging with half sets apart. Enter at ``averaging_iterations``."""
