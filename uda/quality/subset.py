"""Which images a score is made from: the same for every network that is compared."""

from uda.randomness import generator

IMAGES = 100  # of each domain; four times as many change a score by about a hundredth


def chosen_images(have: int, most: int = IMAGES) -> list[int]:
    """Up to `most` of the images 0 .. have - 1, by lot and in order."""
    if have <= most:
        return list(range(have))
    return sorted(generator(0, "quality images").permutation(have)[:most].tolist())
