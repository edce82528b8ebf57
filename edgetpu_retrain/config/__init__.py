"""Parse and validate what users write: the configuration, catalogues and YAML.

Errors name the line or key that is wrong and say what to do.
"""
