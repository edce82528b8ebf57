"""How sure an accuracy is."""

from math import sqrt
from statistics import NormalDist


def wilson_interval(correct: int, photos: int) -> tuple[float, float]:
    """Returns the 95 % interval of an accuracy (Wilson, 1927).

    >>> [round(end, 3) for end in wilson_interval(9, 10)]
    [0.596, 0.982]
    """
    # The formula: importing scipy.stats takes longer than all else that is done with small data.
    z = NormalDist().inv_cdf(0.975)
    p = correct / photos
    centre = p + z**2 / (2 * photos)
    half = z * sqrt(p * (1 - p) / photos + z**2 / (4 * photos**2))
    low, high = ((centre + sign * half) / (1 + z**2 / photos) for sign in (-1, 1))
    return max(low, 0.0), min(high, 1.0)
