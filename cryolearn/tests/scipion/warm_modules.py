"""What a run of a protocol and its engine import, for the server that runs are forked from (``warm_start``)."""

from cryolearn.engine.cpu import keep_freed_memory, share_cores_politely

share_cores_politely()
keep_freed_memory()

import pyworkflow as pw  # noqa: E402

pw.Config.setDomain('pwem')
pw.Config.getDomain().getProtocols()

from pyworkflow.protocol import runProtocolMain  # noqa: E402, F401

try:
    import torch  # noqa: F401
except ImportError:
    pass  # the engine has an interpreter of its own
else:
    import cryolearn.engine.__main__  # noqa: F401
