"""Clustering of features into more groups than there are structures."""
