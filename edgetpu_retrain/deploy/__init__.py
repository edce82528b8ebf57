"""A finished model goes in.

Out come the files that leave the project: the delivered models, the bundle for a device, Frigate's
folder.
"""
