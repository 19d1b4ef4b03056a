"""Networks that predict the angular distance between two projections: architectures, training samples, losses and calibration."""
