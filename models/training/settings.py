"""What may be set of a training, as frozen dataclasses; `analysis.py` fills them from YAML and the command line."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

Kind = Literal["deepsets", "per_eta"]
Head = Literal["inversion", "regression", "mixture", "ansatz"]


def check_edges(name: str, edges: tuple[float, ...]) -> None:
    """Refuse edges that do not rise."""
    if len(edges) < 2 or any(high <= low for low, high in pairwise(edges)):
        raise ValueError(f"{name} needs at least two edges that rise, got {list(edges)}")


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """The network (YAML section `network`).

    Attributes
    ----------
    kind
        "deepsets" sums a network of each constituent and joins the columns of the jet; "per_eta" has a small network of
        the columns alone in each bin of |eta|.
    head
        "inversion" learns the response at a true pT and solves for it (generalised numerical inversion);
        "regression" the true pT itself; "mixture" the same with tails of their own; "ansatz" the Gaussian Ansatz of
        arXiv:2205.03413, whose maximum-likelihood estimate knows no prior.
    gsc
        Whether the columns of the global-sequential calibration are inputs.
    constituent_units, jet_units, head_units
        Width of the hidden layers: on each constituent, on the jet, and behind the true pT of "inversion" and "ansatz".
    eta_edges
        Bins of "per_eta".
    radius
        Of the jets; angles are in units of it.
    iterations
        Steps of the solution for the true pT; each gains about one digit.
    """

    kind: Kind = "deepsets"
    head: Head = "inversion"
    gsc: bool = True
    constituent_units: tuple[int, ...] = (64, 64)
    jet_units: tuple[int, ...] = (96, 64)
    head_units: tuple[int, ...] = (32,)
    eta_edges: tuple[float, ...] = (0.0, 0.8, 1.3, 2.0, 2.5, 3.2, 5.2)
    radius: float = 0.4
    iterations: int = 3

    def __post_init__(self) -> None:
        """Refuse a network without layers."""
        if not self.head_units or not self.jet_units or (self.kind == "deepsets" and not self.constituent_units):
            raise ValueError("network.constituent_units, jet_units and head_units need at least one layer")
        if self.iterations < 1 or not self.radius > 0:
            raise ValueError("network.iterations must be at least 1 and network.radius above 0")


@dataclass(frozen=True, slots=True)
class LossSettings:
    """loss = f1 likelihood + f2 asymmetry + f3 constraint (YAML section `loss`).

    Attributes
    ----------
    f1, f2, f3
        Factors of the three terms; docs/calibration.md shows what they do. The asymmetry counts in units of its width
        before calibration, the constraint in units of `shift_tolerance`.
    data
        Whether dijets of data, which have no truth, take part in asymmetry and constraint.
    shift_tolerance
        A shift of the mean log pT in a cell that costs 1; smaller ones make the term stronger and noisier.
    max_abs_eta
        Both jets of a pair are below it.
    pt_bins, shift_bins
        Cells in log pt_avg for the asymmetry and for the constraint.
    abs_eta_edges
        Cells in |eta| of both.
    core
        Asymmetries beyond this many widths count linearly instead of squared.
    """

    f1: float = 1.0
    f2: float = 0.3
    f3: float = 0.3
    data: bool = True
    shift_tolerance: float = 0.1
    max_abs_eta: float = 2.5
    pt_bins: int = 10
    shift_bins: int = 8
    abs_eta_edges: tuple[float, ...] = (0.0, 0.8, 1.3, 2.5)
    core: float = 1.5

    def __post_init__(self) -> None:
        """Refuse factors that leave nothing to minimise."""
        if min(self.f1, self.f2, self.f3) < 0 or self.f1 == self.f2 == 0:
            raise ValueError("loss.f1, f2 and f3 must not be negative, and f1 or f2 above 0")
        if min(self.pt_bins, self.shift_bins) < 1 or min(self.core, self.shift_tolerance) <= 0:
            raise ValueError("loss.pt_bins and shift_bins are at least 1, loss.core and shift_tolerance above 0")
        check_edges("loss.abs_eta_edges", self.abs_eta_edges)


@dataclass(frozen=True, slots=True)
class FitSettings:
    """The minimisation (YAML section `fit`).

    Attributes
    ----------
    epochs, patience
        At most so many epochs, and so many without a better validation loss.
    batch_events
        Events of simulation in a step; as many of data.
    warm_up
        Share of the epochs with the likelihood alone, as far as there is one: the constraint is noisy as long as
        factors are far from right.
    learning_rate
        At the beginning; it falls with a cosine to a hundredth.
    seed
        Of initial weights and shuffling; the same seed gives the same network on the same machine.
    truth_min_pt, isolation, max_log_response
        Jets that are compared with truth: among the two leading truth jets, at least this hard (GeV), this far (dR)
        from the next truth jet, and no further from it than this in log pT. Files hold jets from some pT on, so that
        truth jets near it show only upward fluctuations.
    validation, test
        Shares of events held out, chosen by a hash of the event; with a table to judge with none are held out for that.
    max_events
        Of each kind, evenly out of all, for a quick look; None for all.
    """

    epochs: int = 30
    patience: int = 6
    batch_events: int = 768
    warm_up: float = 0.2
    learning_rate: float = 2e-3
    seed: int = 1
    truth_min_pt: float = 25.0
    isolation: float = 1.0
    max_log_response: float = 1.2
    validation: float = 0.15
    test: float = 0.25
    max_events: int | None = None

    def __post_init__(self) -> None:
        """Refuse shares that leave nothing to train on."""
        if not 0 <= self.warm_up < 1:
            raise ValueError(f"fit.warm_up is a share below 1, got {self.warm_up}")
        if not (self.validation > 0 and self.test >= 0 and self.validation + self.test < 1):
            raise ValueError("fit.validation and fit.test are shares whose sum is below 1")
        if self.epochs < 1 or self.batch_events < 2 or self.learning_rate <= 0:
            raise ValueError("fit.epochs, fit.batch_events and fit.learning_rate must be positive")


@dataclass(frozen=True, slots=True)
class ClosureSettings:
    """The last step, which makes the mean response 1 (YAML section `closure`).

    Attributes
    ----------
    enabled
        Whether there is one; without it the width is not calibrated either.
    abs_eta_edges
        Bins in which the response is measured; between their middles it is interpolated.
    bins_per_e
        Bins of true pT per factor e.
    min_jets
        Bins with fewer are left out.
    """

    enabled: bool = True
    abs_eta_edges: tuple[float, ...] = (0.0, 0.4, 0.8, 1.05, 1.3, 1.6, 2.0, 2.5, 2.8, 3.2, 3.8, 5.2)
    bins_per_e: float = 5.0
    min_jets: int = 60

    def __post_init__(self) -> None:
        """Refuse bins that are none."""
        check_edges("closure.abs_eta_edges", self.abs_eta_edges)
        if self.bins_per_e <= 0:
            raise ValueError("closure.bins_per_e must be above 0")


@dataclass(frozen=True, slots=True)
class EvaluationSettings:
    """Bins in which a calibration is judged (YAML section `evaluation`), GeV.

    Attributes
    ----------
    pt_edges, abs_eta_edges
        Of the truth jet.
    replicas
        Of the bootstrap.
    """

    pt_edges: tuple[float, ...] = (25, 35, 45, 60, 80, 100, 130, 170, 230, 310, 430, 600, 900, 1400, 2500)
    abs_eta_edges: tuple[float, ...] = (0.0, 0.8, 1.3, 2.0, 2.5, 3.2, 4.5)
    replicas: int = 100

    def __post_init__(self) -> None:
        """Refuse bins that are none."""
        check_edges("evaluation.pt_edges", self.pt_edges)
        check_edges("evaluation.abs_eta_edges", self.abs_eta_edges)


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """Everything that decides what comes out of a training table."""

    network: NetworkSettings = field(default_factory=NetworkSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    fit: FitSettings = field(default_factory=FitSettings)
    closure: ClosureSettings = field(default_factory=ClosureSettings)
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
