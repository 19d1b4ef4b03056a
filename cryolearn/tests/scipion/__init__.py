"""Tests that launch real protocols in real Scipion projects."""
