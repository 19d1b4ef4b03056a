"""The PyTorch engine: complete without Scipion, used through ``python -m cryolearn.engine COMMAND``."""
