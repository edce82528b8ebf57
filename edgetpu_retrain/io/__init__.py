"""Files: atomic writes, checksums, tables, archives and downloads; also a program's log and exit.

Nothing here leaves a partial file under its final name.
"""
