"""Names that the Scipion side shares: variables, versions, files."""

from . import __version__

CRYOLEARN = "cryolearn"
URL = "https://github.com/scipion-em/scipion-em-cryolearn"

# Variables of scipion.conf (or of the shell).
CRYOLEARN_HOME = "CRYOLEARN_HOME"
CRYOLEARN_ENV_ACTIVATION = "CRYOLEARN_ENV_ACTIVATION"

# The environment that `scipion installb cryolearn` builds in <EM_ROOT>/cryolearn-<version>.
ENGINE_VERSION = __version__
ENGINE_REQUIREMENTS = "engine-requirements.txt"
ENGINE_READY = "engine-ready"  # written last, once the new environment has been seen to start the engine
ENGINE_MIN_PYTHON = (3, 11)
ENGINE_MAX_PYTHON = (3, 13)  # the newest that has wheels of everything in ENGINE_REQUIREMENTS
CONDA_PYTHON = "3.11"
ENGINE_NEEDS = ("torch", "lightning", "jsonargparse", "gemmi", "prody")  # looked for, never imported, by Scipion's side
ENGINE_MODULE = "cryolearn.engine"
