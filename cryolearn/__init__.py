"""Deep-learning methods for cryo-EM as a Scipion plugin.

Importing this package loads neither Scipion nor PyTorch: the engine's interpreter has no Scipion and
Scipion's interpreter may have no PyTorch. ``cryolearn.Plugin`` is loaded when it is first asked for.
"""

__version__ = "0.1.0"

_logo = "cryolearn_logo.png"
_references = ["Hamitouche2021", "Banjac2021", "Chen2018", "Xu2017", "Mullick2022"]


def __getattr__(name):
    if name == "Plugin":
        from .plugin import Plugin

        globals()[name] = Plugin
        return Plugin
    raise AttributeError("module 'cryolearn' has no attribute '%s'" % name)
