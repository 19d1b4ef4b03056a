"""Scipion objects <-> the engine's files. The only room that knows both; numpy, emtable and pwem only."""
