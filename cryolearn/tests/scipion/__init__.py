"""Tests with Scipion: real protocols in real projects, numbers in their outputs.

``scipion tests cryolearn.tests.scipion.test_elastic``, or pytest on this folder.
"""
