"""Delivers the finished model: files at the top of the project, the bundle, Frigate's folder."""
