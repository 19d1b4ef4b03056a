"""Tests of the engine; none of them can import Scipion (see conftest.py)."""
