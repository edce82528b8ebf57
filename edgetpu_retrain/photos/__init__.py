"""Image files of any format go in.

Out come upright RGB pixels at the size a network takes, and perceptual hashes to compare photos by.
"""
