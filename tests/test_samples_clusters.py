from __future__ import annotations

import numpy as np
import pytest

from samples.cells import (
    EM_BINS,
    add_noise,
    add_point,
    add_spots,
    add_square,
    cell_noise,
    central_eta,
    forward_eta,
    new_cells,
)
from samples.clusters import find_clusters, sum_clusters
from samples.layered_settings import LayeredDetector

N_BINS = 64


def label_of(cells: np.ndarray, wall: int = 0) -> tuple[int, np.ndarray]:
    label = np.empty(cells.shape[:2], dtype=np.int64)
    expected = np.ones((cells.shape[0], cells.shape[2]))
    return find_clusters(cells, expected, 4.0, 2.0, wall, label), label


@pytest.mark.parametrize("layer", range(14))
def test_a_deposit_keeps_its_energy_in_whatever_layer(layer: int) -> None:
    eta = 4.0 if layer > 10 else 0.81
    for energy in (0.01, 5.0):
        cells = new_cells()
        add_square(cells, layer, eta, 3.13, 0.02, energy)
        add_spots(np.random.default_rng(1), cells, layer, eta, -3.1, 0.03, energy)
        add_point(cells, layer, -eta, 0.0, energy)

        assert sum(part.sum() for part in cells) == pytest.approx(3.0 * energy)


def test_a_square_deposit_has_its_centre_where_the_particle_is() -> None:
    cells = new_cells()
    add_square(cells, 2, 0.4031, 0.0, 0.02, 10.0)

    tower = cells.em.sum(axis=(1, 2))
    assert (tower * central_eta(EM_BINS)).sum() / tower.sum() == pytest.approx(0.4031, abs=0.004)


def test_forward_rows_lie_outside_of_the_central_grid() -> None:
    eta = forward_eta()

    assert np.all(np.abs(eta) > 3.2)
    assert np.all(eta[:9] < 0.0)
    assert np.all(np.diff(np.abs(eta[9:])) > 0.0)


def test_a_cell_below_the_seed_threshold_makes_no_cluster() -> None:
    cells = np.zeros((N_BINS, N_BINS, 4))
    cells[10, 10, 1] = 3.9

    n_clusters, label = label_of(cells)

    assert n_clusters == 0
    assert np.all(label == -1)
    assert cells.sum() == 0.0


def test_a_seed_takes_neighbours_in_and_leaves_far_cells_out() -> None:
    cells = np.zeros((N_BINS, N_BINS, 4))
    cells[10, 10, 1], cells[10, 11, 1], cells[10, 10, 2] = 5.0, 0.5, 0.7
    cells[30, 30, 1] = 2.5

    n_clusters, label = label_of(cells)

    assert n_clusters == 1
    assert label[10, 10] == label[10, 11] == 0
    assert cells.sum() == pytest.approx(6.2)


def test_clusters_grow_along_cells_above_two_sigma() -> None:
    cells = np.zeros((N_BINS, N_BINS, 4))
    cells[10, 10:16, 1] = [6.0, 5.0, 4.5, 3.0, 2.5, 0.3]

    n_clusters, label = label_of(cells)

    assert n_clusters == 1
    assert np.all(label[10, 10:16] == 0)


def test_two_maxima_are_two_clusters() -> None:
    cells = np.zeros((N_BINS, N_BINS, 4))
    cells[10, 10:15, 0] = [9.0, 5.0, 3.0, 6.0, 8.0]

    n_clusters, label = label_of(cells)

    assert n_clusters == 2
    assert label[10, 10] == label[10, 11]
    assert label[10, 13] == label[10, 14] != label[10, 10]


def test_azimuth_is_a_circle_and_a_wall_is_none() -> None:
    around, walled = np.zeros((18, 32, 3)), np.zeros((18, 32, 3))
    around[5, 0, 0], around[5, 31, 0] = 9.0, 5.0
    walled[8, 4, 0], walled[9, 4, 0] = 9.0, 5.0

    assert label_of(around, wall=9)[0] == 1
    assert label_of(walled, wall=9)[0] == 2
    assert label_of(walled, wall=0)[0] == 1


def test_energies_and_positions_of_clusters_are_those_of_their_cells() -> None:
    cells = np.zeros((N_BINS, N_BINS, 4))
    cells[10, 0, 0], cells[10, 63, 1], cells[11, 0, 0] = 6.0, 4.0, 2.0
    n_clusters, label = label_of(cells)

    energy, where = sum_clusters(cells, label, n_clusters, central_eta(N_BINS))

    assert energy[0].tolist() == [8.0, 4.0, 0.0, 0.0]
    # rows 10 and 11 are at -2.15 and -2.05: (10 x -2.15 + 2 x -2.05) / 12
    assert where[0, 0] == pytest.approx(-2.1333, abs=1e-4)
    assert abs(where[0, 1]) > 3.0


def test_noise_alone_makes_few_clusters() -> None:
    noise, cells = cell_noise(LayeredDetector(), 30.0), new_cells()
    add_noise(np.random.default_rng(7), cells.em, noise.em_drawn)

    label = np.empty(cells.em.shape[:2], dtype=np.int64)
    n_clusters = find_clusters(cells.em, noise.em_expected, 4.0, 2.0, 0, label)

    # of 230 000 cells 0.003 % are above 4 sigma of the electronic noise: seven, less with the thresholds of pile-up
    assert n_clusters < 15
    assert noise.em_expected[0, 1] > noise.em_drawn[0, 1]


def test_thresholds_follow_the_pileup() -> None:
    quiet, busy = (cell_noise(LayeredDetector(), pileup) for pileup in (0.0, 60.0))

    assert np.allclose(quiet.hadronic_expected, quiet.hadronic_drawn)
    assert np.all(busy.hadronic_expected > quiet.hadronic_expected)
