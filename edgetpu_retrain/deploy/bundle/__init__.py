"""Makes the bundle: a folder with the model and programs that run on a device on their own.

The programs (`classify.py` and `check.py`) do not import this package.
"""
