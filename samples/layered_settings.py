"""Parameters of the layered detector, in one place, each with its source.

It resembles ATLAS, whose jet variables are named by calorimeter layers. Everything was fixed from the sources below
before any calibration was trained on its events. Numbers without a source are marked as choices.

Sources
-------
[Det]  ATLAS Collaboration, JINST 3 (2008) S08003: geometry, radiation and interaction lengths, magnetic field.
[Grp]  T. A. Gabriel et al., NIM A 338 (1994) 336; D. E. Groom, NIM A 572 (2007) 633: f_em = 1 - (E/E0)^(k - 1).
[Wig]  R. Wigmans, Calorimetry (Oxford, 2nd ed. 2017), chapters 2 and 3: fluctuations of f_em, e/h, protons and pions.
[GFl]  G. Grindhammer, S. Peters, hep-ex/0001020: longitudinal electromagnetic profiles and their fluctuations, radial
       profiles; the gamma form is that of E. Longo, I. Sestili, NIM 128 (1975) 283.
[Bock] R. K. Bock, T. Hansl-Kozanecka, T. P. Shah, NIM 186 (1981) 533: hadronic longitudinal profiles.
[EMB]  Y. A. Kulchitsky et al., hep-ex/9911033 and hep-ex/0004009: e/h of the liquid-argon compartment, 1.74.
[Til]  ATLAS Tile, hep-ex/0004009 and NIM A 606 (2009) 362: e/h of the tile calorimeter, 1.36.
[HEC]  B. Dowler et al., NIM A 482 (2002) 94: e/h of the hadronic end-cap, 1.49.
[FCal] J. P. Archambault et al., JINST 3 (2008) P02002: forward calorimeter in beam tests.
[Topo] ATLAS Collaboration, EPJC 77 (2017) 490 (arXiv:1603.02934): noise and topological clusters.
[PF]   ATLAS Collaboration, EPJC 77 (2017) 466 (arXiv:1703.10485), and EPJC 81 (2021) 689 (arXiv:2007.02645): particle
       flow.
[PFW]  ATLAS Collaboration, WeightPFOTool of the public reconstruction software: what of a track counts where nothing
       was taken off, and where particle flow ends.
[Trk]  ATLAS Collaboration, EPJC 70 (2010) 787 and [Det] section 4: momentum resolution and efficiency of tracks.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class Material:
    """Thicknesses against |eta|, piecewise linear in `abs_eta`; X0 are radiation, lambda interaction lengths. [Det]."""

    abs_eta: tuple[float, ...] = (0.0, 0.6, 0.8, 1.2, 1.4, 1.5, 1.6, 1.8, 2.2, 2.5, 3.2)
    upstream_x0: tuple[float, ...] = (2.3, 2.6, 3.1, 4.2, 5.2, 6.5, 5.0, 3.6, 3.0, 3.0, 3.4)
    """Inner detector, solenoid and cryostat, in front of the first sampling; before |eta| = 3.2 only."""
    lambda_per_x0_upstream: float = 0.11
    extra_upstream_x0: float = 0.0
    """Unsampled material before layer 0 that the calibration does not know, in X0 at normal incidence."""
    em_x0: tuple[tuple[float, ...], ...] = (
        (4.3, 4.3, 4.3, 4.3, 4.3, 3.0, 4.0, 4.4, 4.4, 4.4, 4.4),
        (16.0, 17.0, 17.5, 18.0, 18.0, 14.0, 18.0, 19.0, 20.0, 21.0, 22.0),
        (2.0, 2.5, 3.5, 3.0, 2.5, 2.0, 2.0, 2.0, 3.0, 4.0, 6.0),
    )
    """EM1 to EM3."""
    lambda_per_x0_em: float = 0.055
    between_lambda: tuple[float, ...] = (0.6, 0.65, 0.7, 0.9, 1.0, 1.2, 0.4, 0.3, 0.3, 0.3, 0.3)
    """Cryostat walls between the electromagnetic and the hadronic calorimeter."""
    lambda_per_x0_between: float = 0.2
    tile_barrel_lambda: tuple[float, float, float] = (1.5, 4.1, 1.8)
    tile_extended_lambda: tuple[float, float, float] = (1.5, 2.6, 3.3)
    """At normal incidence; the path grows with cosh(eta)."""
    tile_barrel_end: float = 0.9
    tile_end: float = 1.6
    """|eta| where the hadronic end-cap takes over (it overlaps with the tiles from 1.5 to 1.7 in reality)."""
    lambda_per_x0_iron: float = 0.105
    hec_lambda: tuple[float, float, float, float] = (1.4, 2.7, 2.7, 2.7)
    lambda_per_x0_copper: float = 0.094
    fcal_start: float = 3.2
    fcal_x0: tuple[float, float, float] = (27.6, 91.3, 89.2)
    fcal_lambda: tuple[float, float, float] = (2.66, 3.68, 3.60)
    fcal_upstream_x0: float = 2.0
    presampler_end: float = 1.8
    """Beyond, what showers in the upstream material is assigned to EM1."""


@dataclass(frozen=True, slots=True)
class Showers:
    """Response and shape of showers."""

    power: float = 0.82
    """k of f_em = 1 - (E/E0)^(k - 1). [Grp]."""
    pion_scale: float = 1.0
    """E0 in GeV of mesons. [Grp]."""
    baryon_scale: float = 2.6
    """E0 in GeV of baryons. [Grp]."""
    em_fraction_spread: float = 0.45
    """Relative rms of f_em at 10 GeV, falling with E^-0.2; the rms is then 0.15 to 0.16 up to 300 GeV. A choice within
    the range that [Wig] shows."""
    em_fraction_spread_power: float = -0.2
    eh_em: float = 1.74
    """e/h [EMB]."""
    eh_tile: float = 1.36
    """[Til]."""
    eh_hec: float = 1.49
    """[HEC]."""
    eh_fcal: float = 1.6
    """Choice: between [HEC] and [EMB]."""
    pion_interaction: float = 1.12
    """Interaction length of mesons in units of that of protons. [Wig]."""
    hadron_slope: float = 1.0
    """Scale of the decay constant of hadronic profiles; 1 is [Bock]."""
    em_depth: float = 1.0
    """Scale of the depth of electromagnetic maxima in calorimeter layers; 1 is [GFl]."""
    mip_per_lambda: float = 0.2
    """GeV per interaction length that a hadron or muon loses without a shower. PDG, iron and lead."""
    critical_energy: float = 0.0085
    """GeV; effective one of lead and liquid argon. [GFl]."""
    effective_z: float = 64.0
    em_stochastic: float = 0.10
    em_constant: float = 0.007
    """[Det]: 10 %/sqrt(E) and 0.7 %."""
    hadron_stochastic: float = 0.50
    hadron_constant: float = 0.03
    """[Det]: 50 %/sqrt(E) and 3 %; the fluctuation of f_em comes on top."""
    fcal_em_stochastic: float = 0.285
    fcal_em_constant: float = 0.035
    """[FCal]."""
    fcal_stochastic: float = 1.00
    fcal_constant: float = 0.10
    """[Det]: 100 %/sqrt(E) and 10 %."""
    em_radius: float = 0.015
    """m; half width of electromagnetic showers, about a Moliere radius."""
    hadron_radius: float = 0.06
    """m; median radius of the hadronic component, a third of an interaction length. [GFl], [Wig]."""
    fcal_radius: float = 0.03
    segments_per_gev: float = 0.1
    """Muon segments per GeV that leaves the calorimeter: a choice, a few per hundred jets of 500 GeV."""


@dataclass(frozen=True, slots=True)
class Noise:
    """Noise per tower and layer in GeV. Electronic noise of the order of [Topo], summed over the cells of a tower."""

    em: tuple[float, float, float, float] = (0.030, 0.020, 0.032, 0.028)
    """Towers of 0.025 x 0.025."""
    tile: tuple[float, float, float] = (0.030, 0.035, 0.030)
    hec: tuple[float, float, float, float] = (0.15, 0.20, 0.30, 0.40)
    """Towers of 0.1 x 0.1."""
    fcal: tuple[float, float, float] = (0.5, 0.9, 0.9)
    """Towers of 0.2 x 0.2."""
    scale: float = 1.0
    """Of the electronic noise, not of the thresholds."""
    pileup_em: tuple[float, float, float, float] = (0.014, 0.024, 0.034, 0.006)
    pileup_hadronic: tuple[float, float, float, float] = (0.100, 0.060, 0.012, 0.003)
    pileup_fcal: tuple[float, float, float] = (0.60, 0.20, 0.03)
    """Spread of a tower's transverse energy (GeV) over crossings of 30 interactions, read off such crossings of this
    detector; only thresholds use it."""
    seed: float = 4.0
    grow: float = 2.0
    """Thresholds of topological clusters in units of the noise; the neighbours of what has grown join. [Topo]."""


@dataclass(frozen=True, slots=True)
class Tracking:
    """Charged particles."""

    max_abs_eta: float = 2.5
    min_pt: float = 0.5
    """GeV."""
    loop_pt: float = 0.4
    """GeV; below it a particle does not reach the calorimeter in 2 T (radius 1.2 m). [Det]."""
    bending: float = 0.36
    """GeV; 0.15 B r x 2 = 0.3 x 2 T x 1.2 m / 2: sin of the turn in phi is this over pT."""
    efficiency: float = 0.91
    efficiency_loss: float = 0.10
    """Of hadrons: efficiency - loss (eta / 2.5)^2. [Trk]."""
    core_loss: float = 0.05
    """Choice: lost per unit of log(number of tracks within 0.03 / 3), where tracks merge."""
    constant: float = 0.010
    curvature: float = 0.0005
    """sigma(pT)/pT = constant (1 + 0.15 eta^2) + curvature pT (1 + 0.3 eta^2) in quadrature. [Trk]."""
    beam_spot: float = 40.0
    """mm; length of the beam spot."""
    z_window: float = 2.0
    """mm; |z0 sin(theta)| of tracks taken as coming from the hard interaction. [PF]."""


@dataclass(frozen=True, slots=True)
class Flow:
    """Particle flow: tracks replace what they are expected to leave in the calorimeter. [PF]."""

    max_pt: float = 100.0
    """GeV; nothing is taken off for harder tracks."""
    density_slope: float = 33.2
    density_pt: float = 40.0
    """No subtraction where (E - <E_dep>) / sigma > slope log10(pt / pT). [PF] 2021, section 4."""
    em_cone: float = 0.15
    hadronic_cone: float = 0.25
    remainder: float = 1.5
    """What is left within so many sigma of the expectation belongs to the track."""
    expected_low: float = 0.50
    """Response <E/p> of the part of a hadron that is not electromagnetic; read off single pions of this detector ..."""
    threshold_pt: float = 2.0
    """... as is the pT (GeV) where noise suppression leaves half: 1 / (1 + (threshold / pT)^3)."""
    spread_stochastic: float = 0.50
    spread_constant: float = 0.10
    fade_start: float = 30.0
    fade_end: float = 60.0
    """GeV; between them what a track adds to the calorimeter fades to nothing. [PFW]."""


@dataclass(frozen=True, slots=True)
class LayeredDetector:
    """The whole detector."""

    material: Material = field(default_factory=Material)
    showers: Showers = field(default_factory=Showers)
    noise: Noise = field(default_factory=Noise)
    tracking: Tracking = field(default_factory=Tracking)
    flow: Flow = field(default_factory=Flow)


def data_detector(nominal: LayeredDetector | None = None) -> LayeredDetector:
    """Return the detector of data: it differs in e/h, layer sharing, dead material before layer 0 and noise.

    The size of each difference is that by which beam tests and simulations disagreed: e/h by 5 to 8 %, profiles of
    hadrons by 7 %, material by 0.3 X0, noise by a fifth.
    """
    nominal = nominal or LayeredDetector()
    showers = replace(
        nominal.showers,
        eh_em=1.06 * nominal.showers.eh_em,
        eh_tile=1.05 * nominal.showers.eh_tile,
        eh_hec=1.08 * nominal.showers.eh_hec,
        eh_fcal=1.06 * nominal.showers.eh_fcal,
        em_fraction_spread=1.15 * nominal.showers.em_fraction_spread,
        pion_interaction=0.93 * nominal.showers.pion_interaction,
        hadron_slope=0.95 * nominal.showers.hadron_slope,
        em_depth=0.97 * nominal.showers.em_depth,
    )
    return replace(
        nominal,
        material=replace(nominal.material, extra_upstream_x0=0.3),
        showers=showers,
        noise=replace(nominal.noise, scale=1.2),
    )
