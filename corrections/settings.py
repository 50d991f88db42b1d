"""How widths become resolutions, scale factors and responses."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Literal, get_args

Method = Literal["template", "extrapolation", "bisector", "mpfx"]
WidthEstimator = Literal["truncated_rms", "gaussian_core", "interval_68"]
AlphaShape = Literal["quadrature", "linear"]
NoiseForm = Literal["free", "rho"]
ResidualMethod = Literal["mean_asymmetry", "matrix", "matrix_extrapolated"]
FactorForm = Literal["constant", "k_factors", "curves"]
TemplateForm = Literal["histogram", "exponential"]
CurveForm = Literal["nsc", "nspc"]
# Where corrections do not come to rest by then, they never do.
MOST_ITERATIONS = 20


@dataclass(frozen=True, slots=True)
class MeasurementSettings:
    """How widths become resolutions (YAML section `measurement`).

    Attributes
    ----------
    method
        The one whose results are published: "template" (truth asymmetry convolved with a Gaussian), "extrapolation"
        (alpha to 0, particle-level imbalance subtracted), "bisector" or "mpfx". The others are measured beside it.
    residual
        The residual response that is published: "mean_asymmetry" (against the reference region alone, constant in pT),
        "matrix" (all pairs of |eta| bins, a slope in pT where the data ask for one) or "matrix_extrapolated" (the same,
        to no third jet).
    scale_factor
        "constant" in pT, "k_factors" (noise and stochastic terms of the simulation multiplied by one number, the
        constant term by another) or "curves" (N, S and C of data fitted freely).
    curve
        "nsc", or "nspc" with S^2 pT^P in place of S^2/pT.
    template
        The truth asymmetry as it is filled ("histogram"), or a double-sided exponential convolved with a Gaussian that
        is fitted to it ("exponential"), which is smoother where the simulation is small.
    noise
        "free": the noise term is fitted to dijets alone. "rho": the one of reco/truth of simulation, fitted in bins of
        rho, at the mean rho of the sample is known beforehand.
    noise_uncertainty
        How well the noise of simulation is known to be that of data, without pile-up and with, relative; counts with
        `noise` "rho" and `scale_factor` "curves".
    core_window
        Half the fitted range of A (and of reco/truth) in units of the distribution's half-width.
    min_effective, min_row, min_data
        Effective events asked of a simulated distribution and of any single width that is quoted, of a part of it in
        alpha and of its template, and of a distribution of data that takes part in a joint fit.
    truncation
        Upper quantile of the truncated RMS.
    width
        Width of A that is extrapolated in alpha, see `corrections.widths`; the others make its uncertainty.
    alpha_shape
        How that width moves with the cut on alpha: "quadrature" (a constant and the rise of the truth asymmetry in
        quadrature) or "linear" (a straight line, CMS), see `corrections.alpha_extrapolation`.
    imbalance
        Relative change of the square of the truth asymmetry's width that stands for its uncertainty.
    close_loop
        Whether the corrections are applied to the sample they come from, which is then measured again.
    iterations
        How often, at most, what is left after that is put into the corrections, which are then applied once more; it
        ends where all of it is within a fifth of its statistical uncertainty.
    jet_threshold
        pT in GeV below which third jets are not in the file: alpha is not known below `jet_threshold` / pt_avg.
    """

    method: Method = "template"
    residual: ResidualMethod = "mean_asymmetry"
    scale_factor: FactorForm = "constant"
    curve: CurveForm = "nsc"
    template: TemplateForm = "histogram"
    noise: NoiseForm = "free"
    noise_uncertainty: float = 0.3
    core_window: float = 2.5
    min_effective: float = 40.0
    min_row: float = 20.0
    min_data: float = 8.0
    truncation: float = 0.985
    width: WidthEstimator = "truncated_rms"
    alpha_shape: AlphaShape = "quadrature"
    imbalance: float = 0.25
    close_loop: bool = True
    iterations: int = 3
    jet_threshold: float = 15.0

    def __post_init__(self) -> None:
        """Refuse windows, limits and words that cannot work."""
        self._check_numbers()
        choices = {
            "method": Method,
            "residual": ResidualMethod,
            "scale_factor": FactorForm,
            "curve": CurveForm,
            "template": TemplateForm,
            "noise": NoiseForm,
            "width": WidthEstimator,
            "alpha_shape": AlphaShape,
        }
        for name, words in choices.items():
            if getattr(self, name) not in get_args(words):
                message = f"measurement.{name} must be one of {', '.join(get_args(words))}, got {getattr(self, name)}"
                raise ValueError(message)

    def _check_numbers(self) -> None:
        for name in ("core_window", "min_effective", "min_row", "min_data", "noise_uncertainty", "jet_threshold"):
            if not isfinite(getattr(self, name)):
                message = f"measurement.{name} must be a finite number, got {getattr(self, name)}"
                raise ValueError(message)
        if not self.core_window >= 1:
            message = f"measurement.core_window is in half-widths and at least 1, got {self.core_window}"
            raise ValueError(message)
        if not 0.7 <= self.truncation < 1:
            message = f"measurement.truncation is a quantile in [0.7, 1), got {self.truncation}"
            raise ValueError(message)
        if self.min_effective < 5 or self.min_row < 5 or self.min_data < 2:
            message = "measurement.min_effective and min_row must be at least 5 and measurement.min_data at least 2"
            raise ValueError(message)
        if not 0 <= self.iterations <= MOST_ITERATIONS:
            message = f"measurement.iterations must be between 0 and {MOST_ITERATIONS}, got {self.iterations}"
            raise ValueError(message)
        if not self.noise_uncertainty > 0:
            message = f"measurement.noise_uncertainty must be above 0, got {self.noise_uncertainty}"
            raise ValueError(message)
        if not 0 <= self.imbalance < 1 or self.jet_threshold < 0:
            message = "measurement.imbalance must be in [0, 1) and measurement.jet_threshold not negative"
            raise ValueError(message)
