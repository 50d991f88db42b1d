"""Jets as images: transverse momentum of the constituents in pixels of rapidity and azimuth.

Before pixels are filled each jet is prepared as in Macaluso and Shih, arXiv:1803.00107:

1. centred: the origin is the mean of rapidity and azimuth weighted with pT;
2. rotated: the axis along which pT scatters most becomes vertical;
3. flipped left to right and upside down, so that the upper right quadrant has the largest pT;
4. after pixels are filled, normalised: they sum to 1.

They are the reference for the images that the network `image` of taggers draws for itself.

A boost along the beam, a rotation about it, mirror images and the energy scale leave an image alone, but what is at the
edge of a pixel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.tagging.columns import MAX_CONSTITUENTS
from processors.clustering import directions_of, moving
from processors.compiled import compiled

if TYPE_CHECKING:
    from models.features import RaggedConstituents
    from processors.record import Float32Array, Float64Array, Int64Array

PIXELS = 33


def jet_images(constituents: RaggedConstituents, half_width: float, length: int = MAX_CONSTITUENTS) -> Float32Array:
    """Images (n, 33, 33) float32 of n jets: [i, row, column] with rows of rising height and columns to the right.

    `constituents` have px, py, pz and E, the first `length` of each jet count. Pixels cover `half_width` on either side
    of the centre, best the radius of the jets; what is further away is left out before the normalisation. The image of
    a jet without constituents in it is zero.
    """
    if not half_width > 0:
        raise ValueError(f"the half width of an image is a number above 0, got {half_width}")
    chosen = constituents.limited(length)
    images = np.zeros((len(chosen), PIXELS, PIXELS), np.float32)
    if len(chosen):
        _draw(chosen.offsets, chosen.values, half_width, images)
    return images


@compiled
def _draw(offsets: Int64Array, momenta: Float32Array, half_width: float, images: Float32Array) -> None:
    for i in range(len(images)):
        directions = directions_of(moving(momenta[offsets[i] : offsets[i + 1]]))
        if len(directions):
            points = _centred(directions)
            _rotate(directions[:, 0], points)
            _flip(directions[:, 0], points)
            _fill1(directions[:, 0], points, half_width, images[i])


@compiled
def _centred(directions: Float64Array) -> Float64Array:
    """Rapidity and azimuth (n, 2) relative to their means; azimuth counts from the first constituent on."""
    points = np.empty((len(directions), 2))
    total = rapidity = azimuth = 0.0
    for i in range(len(directions)):
        points[i, 0] = directions[i, 1]
        points[i, 1] = (directions[i, 2] - directions[0, 2] + np.pi) % (2 * np.pi) - np.pi
        total += directions[i, 0]
        rapidity += directions[i, 0] * points[i, 0]
        azimuth += directions[i, 0] * points[i, 1]
    for i in range(len(points)):
        points[i, 0] -= rapidity / total
        points[i, 1] -= azimuth / total
    return points


@compiled
def _rotate(pt: Float64Array, points: Float64Array) -> None:
    """Turn the axis of the largest scatter into the second coordinate; of equal ones nothing is turned."""
    xx = yy = xy = 0.0
    for i in range(len(points)):
        xx += pt[i] * points[i, 0] ** 2
        yy += pt[i] * points[i, 1] ** 2
        xy += pt[i] * points[i, 0] * points[i, 1]
    # the main axis has the angle atan2(2 xy, xx - yy)/2 to the first coordinate; a quarter turn is left to the second
    angle = 0.5 * np.pi - 0.5 * np.arctan2(2 * xy, xx - yy)
    if xy == 0 and xx <= yy:
        angle = 0.0
    cosine, sine = np.cos(angle), np.sin(angle)
    for i in range(len(points)):
        x, y = points[i, 0], points[i, 1]
        points[i, 0] = cosine * x - sine * y
        points[i, 1] = sine * x + cosine * y


@compiled
def _flip(pt: Float64Array, points: Float64Array) -> None:
    """Mirror both coordinates so that the quadrant with the largest pT is that of positive ones."""
    quadrants = np.zeros((2, 2))
    for i in range(len(points)):
        quadrants[int(points[i, 0] > 0), int(points[i, 1] > 0)] += pt[i]
    hardest = 0
    for place in range(4):
        if quadrants[place // 2, place % 2] > quadrants[hardest // 2, hardest % 2]:
            hardest = place
    for i in range(len(points)):
        if hardest // 2 == 0:
            points[i, 0] = -points[i, 0]
        if hardest % 2 == 0:
            points[i, 1] = -points[i, 1]


@compiled
def _fill1(pt: Float64Array, points: Float64Array, half_width: float, image: Float32Array) -> None:
    scale, total = PIXELS / (2 * half_width), 0.0
    for i in range(len(points)):
        column = int(np.floor((points[i, 0] + half_width) * scale))
        row = int(np.floor((points[i, 1] + half_width) * scale))
        if 0 <= column < PIXELS and 0 <= row < PIXELS:
            image[row, column] += np.float32(pt[i])
            total += pt[i]
    if total > 0:
        for row in range(PIXELS):
            for column in range(PIXELS):
                image[row, column] = np.float32(image[row, column] / total)
