"""Jets as images."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from large_jet_toys import momenta, ragged, random_jet

from processors.jet_images import PIXELS, jet_images

CENTRE = PIXELS // 2


def image_of(jet: np.ndarray, half_width: float = 1.0) -> np.ndarray:
    image: np.ndarray = jet_images(ragged(jet), half_width)[0]
    return image


def by_hand(jet: np.ndarray, half_width: float = 1.0) -> np.ndarray:
    """The same steps with the eigenvectors of the covariance and numpy's histogram."""
    px, py, pz, energy = jet.astype(np.float32).astype(np.float64).T
    pt, rapidity = np.hypot(px, py), 0.5 * np.log((energy + pz) / (energy - pz))
    phi = np.angle(np.exp(1j * (np.arctan2(py, px) - np.arctan2(py[0], px[0]))))
    points = np.column_stack([rapidity, phi])
    points -= np.average(points, axis=0, weights=pt)
    _, axes = np.linalg.eigh((points * pt[:, None]).T @ points)
    points = points @ axes  # the second axis is that of the largest scatter
    best = max(((sx, sy) for sx in (1, -1) for sy in (1, -1)), key=lambda s: pt[(points * s > 0).all(axis=1)].sum())
    points = points * best
    edges = np.linspace(-half_width, half_width, PIXELS + 1)
    image, _, _ = np.histogram2d(points[:, 1], points[:, 0], bins=[edges, edges], weights=pt)
    return np.asarray(image / image.sum())


@pytest.mark.parametrize("n", [4, 12, 40])
def test_an_image_is_that_of_numpy(n: int) -> None:
    jet = random_jet(np.random.default_rng(n), n)

    np.testing.assert_allclose(image_of(jet), by_hand(jet), atol=1e-6)


def test_two_prongs_stand_upright_and_the_harder_one_is_nearer_to_the_centre() -> None:
    # 2/3 and 1/3 of pT at a distance of 0.6 along an oblique line: 0.2 and 0.4 from the centre
    jet = momenta(np.array([200.0, 100.0]), np.array([0.0, 0.36]), np.array([0.0, 0.48]))

    image = image_of(jet, half_width=1.0)

    rows, columns = np.nonzero(image)
    assert set(columns) <= {CENTRE - 1, CENTRE, CENTRE + 1}
    # pixels are 2/33 wide
    offset = (rows - CENTRE) * 2 / PIXELS
    assert sorted(np.abs(offset)) == pytest.approx([0.2, 0.4], abs=1 / PIXELS)
    assert np.sign(offset).sum() == 0
    assert sorted(image[rows, columns]) == pytest.approx([1 / 3, 2 / 3], rel=1e-5)
    assert offset[np.argmax(image[rows, columns])] > 0


@given(st.integers(0, 1000), st.floats(-3, 3), st.floats(-1, 1), st.floats(0.2, 5), st.sampled_from((1, -1)))
@settings(max_examples=30, deadline=None)
def test_turning_boosting_mirroring_and_scaling_leave_an_image_alone(
    seed: int, angle: float, shift: float, factor: float, side: int
) -> None:
    rng = np.random.default_rng(seed)
    n = 10
    pt, eta, phi = rng.exponential(20, n) + 1, 0.3 * rng.normal(size=n), 0.3 * rng.normal(size=n)

    plain = image_of(momenta(pt, eta, phi))
    moved = image_of(momenta(factor * pt, side * eta + shift, phi + angle))

    # rounding moves a constituent at the edge of a pixel, of which there are few
    assert np.abs(plain - moved).sum() <= 2.1 * pt.max() / pt.sum()
    assert np.count_nonzero(np.abs(plain - moved) > 1e-4) <= 4


def test_images_sum_to_one_within_their_frame() -> None:
    rng = np.random.default_rng(5)
    images = jet_images(ragged(*[random_jet(rng, n) for n in (2, 5, 30)]), 0.5)

    assert images.shape == (3, PIXELS, PIXELS)
    np.testing.assert_allclose(images.sum(axis=(1, 2)), 1, rtol=1e-5)


def test_jets_with_few_constituents_have_an_image() -> None:
    one = momenta(np.array([100.0]), np.array([0.5]), np.array([3.0]))

    images = jet_images(ragged(np.zeros((0, 4)), one, np.concatenate([one, one])), 1.0)

    assert images[0].sum() == 0
    assert images[1, CENTRE, CENTRE] == 1
    assert images[2, CENTRE, CENTRE] == pytest.approx(1)
    assert jet_images(ragged(), 1.0).shape == (0, PIXELS, PIXELS)


def test_a_frame_without_width_is_refused() -> None:
    with pytest.raises(ValueError, match="half width"):
        jet_images(ragged(), 0.0)
