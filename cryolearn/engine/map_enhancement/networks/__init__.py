"""3D U-Nets by name, and the rotations of a cube that they are averaged over."""
