"""A finished model and a few test photos go in.

Out comes a folder that runs on a device by itself: its programs import nothing of this package.
"""
