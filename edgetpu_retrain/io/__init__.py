"""Paths and addresses go in.

Out come whole files or none: atomic writes, checksums, tables, archives, downloads, and a program's
log and exit.
"""
