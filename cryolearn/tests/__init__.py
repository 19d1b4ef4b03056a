"""Tests: ``engine`` (pytest, no Scipion) and ``scipion`` (real protocols in real projects)."""
