"""Find and decode photos, resize them to a network's input size, and compute perceptual hashes."""
