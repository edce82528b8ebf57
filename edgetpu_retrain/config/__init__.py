"""What the user wrote goes in: the configuration, a catalogue, YAML.

Out come checked settings, or a sentence that says which line or key is wrong and what to do.
"""
