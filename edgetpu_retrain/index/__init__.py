"""Index a folder of photos, one subfolder per class, and apply the user's label corrections.

The result is the manifest: one line per photo with its path, class, split and identity.
"""
