"""Matching of images, tilt series and volumes with references, shared by all methods."""
