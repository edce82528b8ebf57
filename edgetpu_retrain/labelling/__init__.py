"""Photos without a class go in, and a person's clicks.

Out come labels in the file of corrections, with as few clicks as the photos allow.
"""
