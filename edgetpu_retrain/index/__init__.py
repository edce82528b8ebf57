"""A folder of photos goes in, one sub-folder per class, and the corrections of its labels.

Out comes the manifest: one line per photo with its path, class, split and identity.
"""
