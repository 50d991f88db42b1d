"""What may be set of the training of a tagger, as frozen dataclasses; `analysis.py` fills them."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from models.tagging.columns import W_FEATURES

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind = Literal["dense", "deepsets", "energyflow", "particlenet", "lorentz", "image", "recurrent", "bdt"]
Map = Literal["none", "ddt", "percentile", "quantile"]
Method = Literal["none", "planing", "disco", "adversarial", "adversarial-binned", "mode", "soft-jsd", "domain"]

METHODS: tuple[Method, ...] = get_args(Method)
MAPS: tuple[Map, ...] = get_args(Map)


@dataclass(frozen=True, slots=True)
class ColumnSettings:
    """Names of columns in the table (section `columns`).

    Attributes
    ----------
    features
        What the network sees, in this order, as raw values.
    label
        1 for signal, 0 for background.
    protect
        What the score of background is not to depend on.
    weight
        Of the jets; all equal if empty.
    condition
        Positive; an adversary knows it, and efficiencies are told in its bins.
    identity
        Number or text that decides the fold of a jet; a hash of all columns of numbers where there is no such column.
    simulation
        1 for simulation, 0 for data, which need no label; used by domain adaptation.
    """

    features: tuple[str, ...] = W_FEATURES
    label: str = "label"
    protect: str = "mass"
    weight: str = "weight"
    condition: str = "pt"
    identity: str = "identity"
    simulation: str = "is_mc"

    def __post_init__(self) -> None:
        """Refuse a network without inputs."""
        if not self.features or len(set(self.features)) < len(self.features):
            raise ValueError(f"features are at least one name, each once, got {', '.join(self.features) or 'none'}")
        if told := [name for name in self.features if name in {self.label, self.weight, self.simulation}]:
            raise ValueError(f"features must not tell what a jet is, got {', '.join(told)}; leave it out")


class Sizes(NamedTuple):
    """How large a network is, see `NetworkSettings`; jets in a step, and jets that a round is judged with."""

    constituent_units: tuple[int, ...]
    units: tuple[int, ...]
    length: int
    batch: int
    monitored: int


SIZES: Mapping[Kind, Sizes] = MappingProxyType(
    {
        "dense": Sizes((), (64, 64, 64), 1, 16384, 500_000),
        "deepsets": Sizes((64, 64, 64), (64, 64), 64, 4096, 60_000),
        "energyflow": Sizes((64, 64, 64), (64, 64), 64, 4096, 60_000),
        "particlenet": Sizes((32, 64), (128,), 48, 1024, 15_000),
        "lorentz": Sizes((24, 24), (64,), 32, 1024, 15_000),
        "image": Sizes((16, 32, 64), (64,), 100, 1024, 20_000),
        "recurrent": Sizes((64,), (64,), 48, 2048, 30_000),
        "bdt": Sizes((), (31,), 1, 1, 1),
    }
)
"""What is usual for a network."""


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """The network (section `network`); None for what is usual for its kind, see `SIZES`.

    Attributes
    ----------
    kind
        "dense" sees columns of the jet, and so does "bdt", boosted trees. The others see constituents: "deepsets" and
        "energyflow" (Komiske, Metodiev and Thaler, arXiv:1810.05165), "particlenet" (Qu and Gouskos, arXiv:1902.08570),
        "lorentz" (invariant products, after Gong et al., arXiv:2201.08187), "image" (convolutions, after Macaluso and
        Shih, arXiv:1803.00107) and "recurrent" (a gated recurrent unit, hardest constituent last).
    units
        Of the dense layers of the jet; of "bdt" the leaves of a tree.
    constituent_units
        Of the layers of each constituent; of "particlenet" and "lorentz" the channels of each round of messages, of
        "image" the filters, of "recurrent" the units of the cell, the last number.
    length
        The hardest constituents that are seen.
    neighbours
        Of a constituent, for "particlenet".
    half_width
        Of the pixels of "image", from the centre to the edge; None for the radius of the jets where the table tells it,
        else 0.8.
    """

    kind: Kind = "dense"
    units: tuple[int, ...] | None = None
    constituent_units: tuple[int, ...] | None = None
    length: int | None = None
    neighbours: int = 7
    half_width: float | None = None

    def __post_init__(self) -> None:
        """Refuse a network without layers."""
        sizes = self.sizes
        if not sizes.units or min(sizes.units) < 1:
            raise ValueError("network.units need at least one layer of at least one unit")
        if self.uses_constituents and (not sizes.constituent_units or min(sizes.constituent_units) < 1):
            raise ValueError("network.constituent_units need at least one layer of at least one unit")
        if sizes.length < 1 or self.neighbours < 1:
            raise ValueError("network.length and network.neighbours are at least 1")
        if self.half_width is not None and not self.half_width > 0:
            raise ValueError(f"network.half_width is above 0, got {self.half_width}")
        if self.kind == "bdt" and sizes.units[0] < 2:
            raise ValueError(f"network.units of bdt are the leaves of a tree, at least 2, got {sizes.units[0]}")

    @property
    def sizes(self) -> Sizes:
        """How large it is."""
        usual = SIZES[self.kind]
        return usual._replace(
            constituent_units=usual.constituent_units if self.constituent_units is None else self.constituent_units,
            units=usual.units if self.units is None else self.units,
            length=usual.length if self.length is None else self.length,
        )

    @property
    def uses_constituents(self) -> bool:
        """Whether constituents are the input, and not columns of the jet."""
        return self.kind not in {"dense", "bdt"}


@dataclass(frozen=True, slots=True)
class DecorrelationSettings:
    """What keeps the score free of the protected variable (section `decorrelation`).

    Attributes
    ----------
    method
        See `models.training.tagging.penalties`; "planing" changes weights alone.
    strength
        Factor of the penalty. None lets a Lagrange multiplier find the one that reaches `target_inverse_jsd`; domain
        adaptation then takes that of the method.
    target_inverse_jsd
        1/JSD that a sample of `reference_jets` is to guarantee: one over the divergence at a signal efficiency of one
        half above that of random selections plus its bootstrap error.
    reference_jets
        Effective background jets within the bins. The error grows with the rejection, so that there is one at which
        a target cannot be reached whatever the score.
    least_share
        Of the rejection at the end of the warm-up: no target lets the strength rise where the rejection is below.
    map
        What takes the protected variable out of the score after training, see `models.tagging.maps`. The exported
        tagger then takes the protected variable and the condition as its last features, unless they are among them.
    map_efficiency
        Of background, which the map "percentile" makes the same everywhere.
    map_rho
        Range of rho' = log(m^2 / (pT 1 GeV)) in which the map "ddt" fits its line.
    planed
        Share of the classification that sees background with the spectrum of the protected variable of signal. There
        the mass does not help, so that classification and penalty do not pull against each other.
    blur
        By how much of their width columns of jets are smeared in each step of a training with a penalty. What jets a
        penalty sees fluctuates; without it a network learns that by heart, and new jets fluctuate otherwise.
    warm_up
        Share of the steps without penalty; over as many again it grows to its strength.
    order
        Of the Legendre polynomials in the rank of the protected variable that MoDe allows, the highest: 0, 1 or 2.
    bins
        Of equal population, for MoDe, soft JSD and the binned adversary.
    components
        Of the Gaussian mixture of the adversary.
    adversary_units
        Units of the hidden layers of an adversary.
    adversary_rate
        Learning rate of an adversary in units of the first one of the tagger; it does not fall.
    adversary_steps
        Steps of the adversary per step of the tagger.
    conditional
        Share of jets of which an adversary knows the condition. With more of them the score is freer of the protected
        variable at each condition; with 0 it is asked to be so as a whole alone, which leaves more rejection.
    compared
        Simulated jets that domain adaptation compares with data: "all", where data hold signal in the share that the
        table has, or "background", where data are multijets.
    """

    method: Method = "disco"
    strength: float | None = None
    target_inverse_jsd: float = 1000.0
    reference_jets: float = 200_000.0
    least_share: float = 0.35
    map: Map = "none"
    map_efficiency: float = 0.1
    map_rho: tuple[float, float] = (1.5, 4.0)
    planed: float = 0.5
    blur: float = 0.1
    warm_up: float = 0.15
    order: int = 0
    bins: int = 20
    components: int = 20
    adversary_units: tuple[int, ...] = (32,)
    adversary_rate: float = 5.0
    adversary_steps: int = 2
    conditional: float = 0.5
    compared: Literal["all", "background"] = "all"

    def __post_init__(self) -> None:
        """Refuse strengths and shares that mean nothing."""
        if self.strength is not None and not self.strength >= 0:
            raise ValueError(f"decorrelation.strength must not be negative, got {self.strength}")
        if not self.target_inverse_jsd > 1:
            raise ValueError(f"decorrelation.target_inverse_jsd is above 1, got {self.target_inverse_jsd}")
        if not self.reference_jets > 0 or not 0 <= self.least_share < 1:
            raise ValueError("decorrelation.reference_jets are above 0, and least_share a share below 1")
        if not 0 <= self.planed <= 1 or not 0 <= self.warm_up < 0.5 or not 0 <= self.blur < 1:
            raise ValueError("decorrelation.planed and blur are shares, and warm_up one below 0.5")
        if self.order not in {0, 1, 2} or self.bins < 4 or self.components < 1 or self.adversary_steps < 1:
            raise ValueError("decorrelation.order is 0, 1 or 2, bins at least 4, components and adversary_steps 1")
        if not 0 <= self.conditional <= 1:
            raise ValueError(f"decorrelation.conditional is a share, got {self.conditional}")
        if not 0 < self.map_efficiency < 1 or not self.map_rho[0] < self.map_rho[1]:
            raise ValueError("decorrelation.map_efficiency is between 0 and 1, and map_rho a range that rises")
        if not self.adversary_rate > 0:
            raise ValueError(f"decorrelation.adversary_rate is above 0, got {self.adversary_rate}")

    @property
    def is_constrained(self) -> bool:
        """Whether the strength is found while training."""
        return self.protects and self.strength is None

    @property
    def protects(self) -> bool:
        """Whether something in the loss keeps the score free of the protected variable."""
        return self.has_penalty and self.method != "domain"

    @property
    def has_penalty(self) -> bool:
        """Whether something is added to the loss."""
        return self.method not in {"none", "planing"}


@dataclass(frozen=True, slots=True)
class FitSettings:
    """The minimisation (section `fit`).

    Attributes
    ----------
    steps
        Of the optimizer; they are made in `rounds`, after each of which progress is told and kept.
    rounds
        How many.
    batch
        Jets in a step, signal and background; None for what is usual for the network.
    learning_rate
        At the beginning; it falls with a cosine to a thousandth.
    seed
        Of initial weights and shuffling; the same seed gives the same tagger on the same machine.
    validation, test
        Shares of jets held out, chosen by a hash of the jet.
    average
        Steps over which weights are averaged for the tagger that is kept.
    patience
        Rounds without a better validation loss after which a training without penalty ends; 0 makes all of them.
    max_jets
        For a quick look, chosen by a hash of the jet; None for all.
    """

    steps: int = 2000
    rounds: int = 50
    batch: int | None = None
    learning_rate: float = 3e-3
    seed: int = 1
    validation: float = 0.15
    test: float = 0.15
    average: int = 100
    patience: int = 10
    max_jets: int | None = None

    def __post_init__(self) -> None:
        """Refuse shares that leave nothing to train on."""
        if not (self.validation > 0 and self.test > 0 and self.validation + self.test < 1):
            raise ValueError("fit.validation and fit.test are shares above 0 whose sum is below 1")
        if self.steps < 1 or not 1 <= self.rounds <= self.steps or (self.batch or 2) < 2 or not self.learning_rate > 0:
            raise ValueError("fit.steps, rounds (at most steps), batch and learning_rate must be positive")
        if self.max_jets is not None and self.max_jets < 1:
            raise ValueError(f"fit.max_jets is at least 1, got {self.max_jets}")
        if self.average < 1:
            raise ValueError(f"fit.average is at least 1, which keeps the weights as they are, got {self.average}")
        if self.patience < 0:
            raise ValueError(f"fit.patience must not be negative, got {self.patience}")


@dataclass(frozen=True, slots=True)
class EvaluationSettings:
    """How taggers are judged (section `evaluation`).

    Attributes
    ----------
    low, high, bins
        Bins of the protected variable; jets outside take no part in penalties and divergences.
    replicas
        Of the bootstrap, and random selections for the ceiling.
    """

    low: float = 50.0
    high: float = 300.0
    bins: int = 50
    replicas: int = 20

    def __post_init__(self) -> None:
        """Refuse a range that holds nothing."""
        if not self.low < self.high or self.bins < 2 or self.replicas < 2:
            raise ValueError("evaluation.low must be below high, bins and replicas at least 2")


@dataclass(frozen=True, slots=True)
class TaggerSettings:
    """Everything that decides what comes out of a table."""

    columns: ColumnSettings = field(default_factory=ColumnSettings)
    network: NetworkSettings = field(default_factory=NetworkSettings)
    decorrelation: DecorrelationSettings = field(default_factory=DecorrelationSettings)
    fit: FitSettings = field(default_factory=FitSettings)
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)

    def __post_init__(self) -> None:
        """Refuse a penalty for trees, which have no gradient."""
        if self.network.kind == "bdt" and self.decorrelation.has_penalty:
            raise ValueError(
                f"network.kind bdt has no gradient that {self.decorrelation.method} could use; set "
                f"decorrelation.method to none or planing, and a decorrelation.map if wanted"
            )
