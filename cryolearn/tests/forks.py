"""Processes of tests that are forked from a server, which has imported once what takes seconds to import."""

from multiprocessing import get_context

SERVER = get_context("forkserver")
_preloaded = []  # a process of tests has one server, for all modules of tests


def preload(name):
    """Have the server import a module before it starts."""
    _preloaded.append(name)
    SERVER.set_forkserver_preload(_preloaded)
