"""All settings of a run; each section is defined beside the code it sets."""

from __future__ import annotations

from dataclasses import dataclass, field

from corrections.correction_set import Tags
from corrections.scale_factor_json import JsonLayout
from corrections.settings import MeasurementSettings
from processors.binning import Binning
from processors.dijet import DijetSettings
from processors.event_filter import EventFilter
from processors.execution import Execution
from processors.formats import BranchMap  # noqa: TC001  read when settings are made
from processors.jet_calibration import JetCalibration
from processors.jet_quality import JetQuality
from processors.selection import DijetSelection
from processors.variations import Systematics
from report.settings import ReportSettings


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What a configuration file may say: its sections, and at its top `replicas` and `branches`.

    Attributes
    ----------
    replicas
        Bootstrap replicas; 0 for analytic uncertainties.
    branches
        Branch of each column in flat ntuples.
    """

    binning: Binning = field(default_factory=Binning)
    selection: DijetSelection = field(default_factory=DijetSelection)
    events: EventFilter = field(default_factory=EventFilter)
    jets: JetQuality = field(default_factory=JetQuality)
    calibration: JetCalibration = field(default_factory=JetCalibration)
    branches: BranchMap | None = None
    replicas: int = 100
    execution: Execution = field(default_factory=Execution)
    measurement: MeasurementSettings = field(default_factory=MeasurementSettings)
    tags: Tags = field(default_factory=Tags)
    json: JsonLayout = field(default_factory=JsonLayout)
    systematics: Systematics = field(default_factory=Systematics)
    report: ReportSettings = field(default_factory=ReportSettings)

    @property
    def filling(self) -> DijetSettings:
        """What decides the content of the histograms."""
        return DijetSettings(
            binning=self.binning,
            selection=self.selection,
            events=self.events,
            jets=self.jets,
            calibration=self.calibration,
            replicas=self.replicas,
            branches=self.branches,
            systematics=self.systematics,
        )
