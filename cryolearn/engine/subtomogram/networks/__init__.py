"""3D networks and the rotation-invariant baseline: architectures, input, training samples, calibration, streamed prediction."""
