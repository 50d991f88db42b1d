"""Dijet events to jet energy resolution, scale factors and residual response: the way of the data.

`python analysis.py` measures the bundled sample; `python analysis.py --help` tells the rest. Heavy packages are
imported inside the commands, so that help and mistakes answer at once.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

import corrections
import models
import processors
import report
import samples
from processors.errors import InputError, suggestion

if TYPE_CHECKING:
    import hist

    from corrections.comparison import Comparison
    from corrections.results import Measurement
    from models.training.tagging.settings import DecorrelationSettings
    from processors.execution import Outcome
    from processors.fileset import Dataset
    from processors.filling import Job
    from report.run_record import RunRecord
    from report.run_settings import RunSettings

    Histograms = Mapping[str, hist.Hist[Any]]

TableKind = TypeVar("TableKind")

BEGAN = time.monotonic()
FAILED, REFUSED, INCOMPLETE, NOT_CLOSED, SIGNALLED = 1, 2, 3, 4, 128
CHUNKS = ".chunks"
EXECUTORS = ("iterative", "futures", "dask", "parsl")
# Choices of `models.training.tagging.settings`: nothing is imported here that a package of the same name may hide.
NETWORKS = ("dense", "deepsets", "energyflow", "particlenet", "lorentz", "image", "recurrent", "bdt")
METHODS = ("none", "planing", "disco", "adversarial", "adversarial-binned", "mode", "soft-jsd", "domain")
MAPS = ("none", "ddt", "percentile", "quantile")
BUNDLED = Path(samples.__file__ or "").with_name("bundled") / "fileset.json"
BUNDLED_CONFIG = BUNDLED.with_name("config.yaml")
EXISTING_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


class RunByDefault(click.Group):
    """The first word without `=` is the command; without one the command is `run`, whose options the help shows too."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the command in front of its options."""
        return super().parse_args(ctx, self._with_command(args))

    def _with_command(self, args: list[str]) -> list[str]:
        if args[:1] and args[0] in {"-h", "--help", "--version"}:
            return args
        options = [each for command in self.commands.values() for each in command.params if each.opts[0][0] == "-"]
        known = {name: not getattr(option, "is_flag", False) for option in options for name in option.opts}
        is_value = False
        for i, word in enumerate(args):
            if not is_value and not word.startswith("-") and "=" not in word:
                return [word, *args[:i], *args[i + 1 :]]
            if not is_value and word.startswith("--") and word.partition("=")[0] not in {*known, "--help"}:
                break  # `run` tells that there is no such option
            is_value = not is_value and known.get(word, False)
        return ["run", *args]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command, or a refusal with the nearest name."""
        if args and args[0] not in self.commands:
            hint = suggestion(args[0], self.commands) or f"; commands are {', '.join(self.commands)}"
            raise click.UsageError(f"no command {args[0]!r}{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Options of `run`, the default command, then the others."""
        with formatter.section("Options of run"):
            run_context = click.Context(run, info_name="run", parent=ctx)
            records = (option.get_help_record(run_context) for option in run.params)
            formatter.write_dl([record for record in records if record is not None])
        super().format_options(ctx, formatter)


@click.group(cls=RunByDefault, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(None, "--version", package_name="jetbalance", message="jetbalance %(version)s")
def cli() -> None:
    """Jet energy resolution, scale factors and residual response from dijet events.

    Without a command, and with any options of `run`, it runs the analysis, of the bundled sample if given no fileset.

    Exit codes: 0 complete, 1 failed, 2 refused before work began, 3 input was lost on the way, 4 a closure check failed
    beyond chance, 130 and 143 stopped by a signal.
    """


@cli.command()
@click.option("--fileset", type=EXISTING_FILE, help="Datasets and their files, JSON or YAML  [the bundled sample].")
@click.option("--config", type=EXISTING_FILE, help="Settings in YAML; without fileset, those of the bundled sample.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Folder for the results  [output/<UTC time>].")
@click.option("-e", "--executor", type=click.Choice(EXECUTORS), help="What spreads the work  [futures].")
@click.option("-j", "--workers", type=click.IntRange(1), help="Processes  [one per core].")
@click.option("--chunksize", type=click.IntRange(1), help="Events in a chunk  [100000].")
@click.option("--maxchunks", type=click.IntRange(1), help="Chunks of each dataset, for a quick look  [all].")
@click.option("--replicas", type=click.IntRange(0), help="Bootstrap replicas, 0 for analytic uncertainties  [100].")
@click.option("--plots", type=click.Choice(("default", "all")), help="At most 30 figures, or all of them.")
@click.option("--resume", is_flag=True, help="Go on with an unfinished run: finished chunks are not done again.")
@click.option("--overwrite", is_flag=True, help="Replace the results of an earlier run in --output.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.argument("changes", nargs=-1, metavar="[SECTION.KEY=VALUE]...")
def run(
    fileset: Path | None,
    config: Path | None,
    output: Path | None,
    changes: tuple[str, ...],
    *,
    resume: bool,
    overwrite: bool,
    debug: bool,  # noqa: ARG001  main looks for it
    **options: Any,
) -> int:
    """Fill the histograms, measure, and write corrections, plots and the report page (the default command).

    Every setting of the configuration can be given as section.key=value, for example selection.min_delta_phi=2.9.
    """
    from processors.settings_file import merged_values

    if fileset is None and config is None and BUNDLED_CONFIG.is_file():
        config = BUNDLED_CONFIG
    names = {"plots": "report.plots", "replicas": "replicas"}
    options = {names.get(name, f"execution.{name}"): value for name, value in options.items()}
    values = merged_values(config, changes, options)
    _start_workers(values.get("execution") or {})
    datasets, settings = _read_job(fileset, config, values)

    from processors.filling import look
    from processors.output_folder import open_output
    from report.run_record import RunRecord

    job = look(datasets, settings.filling)
    record = RunRecord(open_output(output, overwrite=overwrite, resume=resume), ["analysis.py", *sys.argv[1:]])
    record.seconds["start"] = time.monotonic() - BEGAN
    return _run(job, settings, fileset or BUNDLED, record)


@cli.command()
@click.option(
    "--process",
    type=click.Choice(("dijet", "toy", "w", "top", "ttbar_mu", "wjets")),
    default="dijet",
    help="Pythia dijets, a quick toy, hadronic W or top, or with muons  [dijet].",
)
@click.option(
    "--detector",
    type=click.Choice(("parametric", "layered")),
    help="Smeared jets, or particles in layers with constituents  [parametric for dijet and toy].",
)
@click.option("--large-r", type=float, help="Layered detector: also jets of this radius, 0.8 or 1.0.")
@click.option(
    "--pt-range",
    type=(float, float),
    metavar="LO HI",
    help="Layered detector: range of pT-hat in GeV, HI 0 for no end  [20 0 for dijets].",
)
@click.option("--pileup", type=float, metavar="MU", help="Layered detector: mean interactions per crossing  [30].")
@click.option("--events", type=click.IntRange(1), required=True, help="Generated events of simulation, and of data.")
@click.option("--data-events", type=click.IntRange(1), help="Generated events of data, if others.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="The same seed gives the same file.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder of the sample.")
@click.option("--weighted-data", is_flag=True, help="Layered detector: data without triggers, with generator weights.")
@click.option("--data-tune", help="Tune of the data, which also makes an alternative simulation.")
@click.option("--no-underlying-event", is_flag=True, help="Leave it out: five times faster, and dijets balance alike.")
@click.option("-j", "--workers", type=click.IntRange(1), help="Processes  [one per core].")
@click.option("--skim", is_flag=True, help="Keep what a dijet analysis needs: four jets of back-to-back events.")
@click.option("--reduced-precision", is_flag=True, help="10-bit mantissas, for small files.")
@click.option("--rntuple", is_flag=True, help="RNTuple instead of TTree.")
@click.option("--overwrite", is_flag=True, help="Replace a sample that is there.")
def generate(*, no_underlying_event: bool, **options: Any) -> int:
    """Make a sample with known answers: simulation, and data with another resolution and response."""
    from samples.errors import SampleError
    from samples.generate import generate as write_sample

    try:
        sample = write_sample(underlying_event=not no_underlying_event, **options)
    except SampleError as error:
        raise InputError(str(error)) from None
    for line in sample.summary():
        click.echo(line)
    click.echo(f"Sample written: run it with --fileset {sample.fileset}")
    return 0


@cli.group()
def table() -> None:
    """Write the table that something is trained on."""


def table_options(command: Callable[..., int]) -> Callable[..., int]:
    """The options that every command for a table has."""
    options = (
        click.option("--fileset", type=EXISTING_FILE, required=True, help="Datasets and their files, JSON or YAML."),
        click.option("--config", type=EXISTING_FILE, help="Settings in YAML; of a run those count that concern it."),
        click.option(
            "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), required=True, help="Parquet file."
        ),
        click.option("-e", "--executor", type=click.Choice(EXECUTORS), help="What spreads the work  [futures]."),
        click.option("-j", "--workers", type=click.IntRange(1), help="Processes  [one per core]."),
        click.option("--chunksize", type=click.IntRange(1), help="Events in a chunk  [100000]."),
        click.option("--overwrite", is_flag=True, help="Replace a table that is there."),
        click.option("--debug", is_flag=True, help="Show the traceback of an error."),
        click.argument("changes", nargs=-1, metavar="[SECTION.KEY=VALUE]..."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@table.command(name="calibration")
@table_options
def table_calibration(
    fileset: Path, config: Path | None, output: Path, changes: tuple[str, ...], **options: Any
) -> int:
    """Write the training table of the jet calibration: whole events with jets, constituents, truth and weights.

    Data take part without truth. A table that was interrupted goes on from its finished chunks.
    """
    from processors.fileset import load_fileset
    from processors.training_table import TableSettings, look, summary_lines, write_table

    settings = _table_settings(TableSettings, config, output, changes, options)
    facts, outcome = write_table(look(load_fileset(fileset), settings), settings, output)
    return _tell_table(summary_lines(facts), output, outcome)


@table.command(name="tagger")
@table_options
@click.option("--signal", type=click.Choice(("w", "top")), help="What a tagger shall find  [top].")
def table_tagger(
    fileset: Path, config: Path | None, output: Path, changes: tuple[str, ...], signal: str | None, **options: Any
) -> int:
    """Write the training table of a tagger: large-R jets with substructure, constituents, truth and weights.

    Signal is what contains all quarks of a W or a top, background the jets of multijet events; others are left out and
    counted. Data take part without a label. Which jets count is set by large_jets.radius, large_jets.min_pt and others.
    """
    from processors.fileset import load_fileset
    from processors.tagger_table import TaggerTableSettings, look, summary_lines, write_table

    own = {} if signal is None else {"table.signal": [signal]}
    settings = _table_settings(TaggerTableSettings, config, output, changes, options, own)
    facts, outcome = write_table(look(load_fileset(fileset), settings), settings, output)
    return _tell_table(summary_lines(facts), output, outcome)


def _table_settings(
    kind: type[TableKind],
    config: Path | None,
    output: Path,
    changes: tuple[str, ...],
    options: Mapping[str, Any],
    own: Mapping[str, Any] | None = None,
) -> TableKind:
    """Settings of a table, `own` before all others; refuses an output that is there, and makes its folder."""
    from processors.settings_file import merged_values, own_sections, settings_from
    from report.run_settings import RunSettings

    if output.exists() and not options["overwrite"]:
        raise InputError(f"--output {output} exists; say --overwrite or name another file")
    execution = {f"execution.{name}": options[name] for name in ("executor", "workers", "chunksize")}
    values = own_sections(merged_values(config, changes, {**execution, **(own or {})}), kind, RunSettings)
    _start_workers(values.get("execution") or {})
    settings = settings_from(kind, values, f"{config} or the command line" if config else "the command line")
    output.absolute().parent.mkdir(parents=True, exist_ok=True)
    return settings


def _tell_table(lines: Iterable[str], output: Path, outcome: Outcome) -> int:
    for line in lines:
        click.echo(line)
    click.echo(f"Table written: {output}")
    return INCOMPLETE if outcome.lost else 0


@cli.command()
@click.option("--fileset", type=EXISTING_FILE, required=True, help="Datasets and their files, JSON or YAML.")
@click.option("--config", type=EXISTING_FILE, help="Settings in YAML: taggers, large_jets, selection and others.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Folder for the results  [output/<UTC time>].")
@click.option("-e", "--executor", type=click.Choice(EXECUTORS), help="What spreads the work  [futures].")
@click.option("-j", "--workers", type=click.IntRange(1), help="Processes  [one per core].")
@click.option("--chunksize", type=click.IntRange(1), help="Events in a chunk  [100000].")
@click.option("--maxchunks", type=click.IntRange(1), help="Chunks of each dataset, for a quick look  [all].")
@click.option("--resume", is_flag=True, help="Go on with an unfinished run: finished chunks are not done again.")
@click.option("--overwrite", is_flag=True, help="Replace the results of an earlier run in --output.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.argument("changes", nargs=-1, metavar="[SECTION.KEY=VALUE]...")
def tag(
    fileset: Path,
    config: Path | None,
    output: Path | None,
    changes: tuple[str, ...],
    *,
    resume: bool,
    overwrite: bool,
    debug: bool,  # noqa: ARG001  main looks for it
    **options: Any,
) -> int:
    """Apply taggers to large-R jets and fill histograms of pass and fail by truth, pt and mass.

    Taggers are named as taggers.NAME.onnx=FILE.onnx, those without a card of ours with their inputs in --config.
    """
    from processors import tagging
    from processors.fileset import load_fileset
    from processors.output_folder import open_output
    from processors.settings_file import merged_values, settings_from

    values = merged_values(config, changes, {f"execution.{name}": value for name, value in options.items()})
    _start_workers(values.get("execution") or {})
    where = f"{config} or the command line" if config else "the command line"
    settings = settings_from(tagging.TaggingSettings, values, where)
    job, notes = tagging.look(load_fileset(fileset), settings)
    folder = open_output(output, overwrite=overwrite, resume=resume)
    facts = tagging.run(job, settings, folder, notes, folder / CHUNKS)
    for line in tagging.summary_lines(facts):
        click.echo(line)
    click.echo(f"Histograms written: {folder}")
    return INCOMPLETE if facts["lost"] else 0


@cli.group()
def train() -> None:
    """Train a network."""


@train.command(name="calibration")
@click.option("--table", "tables", type=EXISTING_FILE, required=True, multiple=True, help="Training table; may repeat.")
@click.option("--test", type=EXISTING_FILE, multiple=True, help="Table to judge with  [events held out of --table].")
@click.option("--config", type=EXISTING_FILE, help="Settings in YAML.")
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder.")
@click.option("--epochs", type=click.IntRange(1), help="At most so many  [30].")
@click.option("--seed", type=click.IntRange(0), help="The same seed gives the same network.")
@click.option("--study", is_flag=True, help="Train every variant, and write the table that compares them.")
@click.option("--only", multiple=True, help="Of the study, only this variant; may repeat.")
@click.option("--resume", is_flag=True, help="Go on with an unfinished training from its last epoch.")
@click.option("--overwrite", is_flag=True, help="Replace an earlier training in --output.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.argument("changes", nargs=-1, metavar="[SECTION.KEY=VALUE]...")
def train_calibration(
    tables: tuple[Path, ...],
    test: tuple[Path, ...],
    config: Path | None,
    output: Path,
    changes: tuple[str, ...],
    *,
    study: bool,
    only: tuple[str, ...],
    resume: bool,
    overwrite: bool,
    debug: bool,  # noqa: ARG001  main looks for it
    **options: Any,
) -> int:
    """Train the jet calibration; writes network, card, metrics, tables and plots.

    Settings are those of `models.training.settings`, for example loss.f2=0 or network.head=ansatz.
    """
    from models.training.settings import TrainingSettings
    from processors.settings_file import merged_values, settings_from

    if only and not study:
        raise InputError("--only chooses variants of the study; add --study or leave it out")
    values = merged_values(config, changes, {f"fit.{name}": value for name, value in options.items()})
    settings = settings_from(
        TrainingSettings, values, f"{config} or the command line" if config else "the command line"
    )
    try:
        from models.training import command
    except ModuleNotFoundError as error:
        raise InputError(f"training needs {error.name}: pip install 'jetbalance[train]'") from None
    try:
        lines = command.run(
            tables, test, settings, output, only=only if study else None, resume=resume, overwrite=overwrite
        )
    except command.RefusedError as error:
        raise InputError(str(error)) from None
    for line in lines:
        click.echo(line)
    return 0


@train.command(name="tagger")
@click.option("--table", "tables", type=EXISTING_FILE, required=True, multiple=True, help="Training table; may repeat.")
@click.option("--features", metavar="A,B,C", help="Columns that the network sees, in this order.")
@click.option("--network", type=click.Choice(NETWORKS), help="Kind of network, on features or constituents  [dense].")
@click.option("--label", help="Column with 1 for signal and 0 for background  [label].")
@click.option("--protect", help="Column that the score is not to depend on  [mass].")
@click.option("--weight", help="Column of weights, `none` for equal ones  [weight].")
@click.option("--condition", help="Column that an adversary knows  [pt].")
@click.option("--decorrelation", type=click.Choice(METHODS), help="What keeps the score free of it  [disco].")
@click.option("--map", type=click.Choice(MAPS), help="What takes it out of the score after training  [none].")
@click.option("--strength", type=click.FloatRange(0), help="Of the penalty  [found while training].")
@click.option("--target-inverse-jsd", type=click.FloatRange(1, min_open=True), help="1/JSD to reach  [1000].")
@click.option("--scan", is_flag=True, help="A tagger for each of several strengths.")
@click.option("--seed", type=click.IntRange(0), help="The same seed gives the same tagger.")
@click.option("--config", type=EXISTING_FILE, help="Settings in YAML.")
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder.")
@click.option("--resume", is_flag=True, help="Go on with an unfinished training.")
@click.option("--overwrite", is_flag=True, help="Replace an earlier training in --output.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.argument("changes", nargs=-1, metavar="[SECTION.KEY=VALUE]...")
def train_tagger(
    tables: tuple[Path, ...],
    config: Path | None,
    output: Path,
    changes: tuple[str, ...],
    *,
    scan: bool,
    resume: bool,
    overwrite: bool,
    debug: bool,  # noqa: ARG001  main looks for it
    **options: Any,
) -> int:
    """Train a jet tagger whose score does not depend on a protected variable; writes network, card, metrics and plots.

    Any parquet table with the named columns will do. Settings are those of `models.training.tagging.settings`, for
    example fit.steps=2000 or evaluation.high=250.
    """
    from models.training.errors import RefusedError
    from models.training.tagging.settings import TaggerSettings
    from processors.settings_file import merged_values, settings_from

    values = merged_values(config, changes, _tagger_options(options))
    settings = settings_from(TaggerSettings, values, f"{config} or the command line" if config else "the command line")
    _check_strength(settings.decorrelation, values.get("decorrelation") or {}, scan=scan)
    try:
        # names of columns first, as TensorFlow takes seconds to import
        from models.training.tagging.samples import check_columns

        check_columns(tables, settings)
        from models.training.tagging import command
    except ModuleNotFoundError as error:
        raise InputError(f"training needs {error.name}: pip install 'jetbalance[train]'") from None
    except RefusedError as error:
        raise InputError(str(error)) from None
    try:
        lines = command.run(tables, settings, output, scan=scan, resume=resume, overwrite=overwrite)
    except command.RefusedError as error:
        raise InputError(str(error)) from None
    except command.CollapsedError as error:
        click.echo(f"analysis.py: {error}", err=True)
        return FAILED
    for line in lines:
        click.echo(line)
    return 0


def _check_strength(settings: DecorrelationSettings, given: Mapping[str, Any], *, scan: bool) -> None:
    """Refuse more than one way to find a strength, and one that the method has no use for."""
    asked = [
        f"--{name.replace('_', '-')}" for name in ("strength", "target_inverse_jsd") if given.get(name) is not None
    ]
    if len(asked) + scan > 1:
        raise InputError("give one of --strength, --target-inverse-jsd and --scan")
    if asked and not (settings.has_penalty if asked == ["--strength"] else settings.protects):
        raise InputError(f"{asked[0]} is of no use to --decorrelation {settings.method}; leave it out")


def _tagger_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of the command line by the dotted name of their setting."""
    names = {"decorrelation": "decorrelation.method", "network": "network.kind", "seed": "fit.seed"}
    names |= {name: f"decorrelation.{name}" for name in ("map", "strength", "target_inverse_jsd")}
    values = {names.get(name, f"columns.{name}"): value for name, value in options.items()}
    if options.get("features") is not None:
        values["columns.features"] = [name.strip() for name in options["features"].split(",") if name.strip()]
    if options["weight"] == "none":
        values["columns.weight"] = ""
    return values


@cli.group(name="compare")
def compare_group() -> None:
    """Put things side by side."""


@compare_group.command(name="taggers")
@click.option("--table", "tables", type=EXISTING_FILE, required=True, multiple=True, help="Jets; may repeat.")
@click.option("--label", help="Column with 1 for signal and 0 for background  [label].")
@click.option("--protect", help="Column that scores are not to depend on  [mass].")
@click.option("--weight", help="Column of weights, `none` for equal ones  [weight].")
@click.option("--condition", help="Column of pT  [pt].")
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder.")
@click.option("--overwrite", is_flag=True, help="Replace an earlier comparison in --output.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.argument("taggers", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="TAGGER...")
@click.option(
    "--set", "changes", multiple=True, metavar="SECTION.KEY=VALUE", help="A setting, such as evaluation.low=0."
)
def compare_taggers(
    tables: tuple[Path, ...],
    taggers: tuple[Path, ...],
    output: Path,
    changes: tuple[str, ...],
    *,
    overwrite: bool,
    debug: bool,  # noqa: ARG001  main looks for it
    **options: Any,
) -> int:
    """Compare taggers on the same jets: table and Pareto plot.

    Taggers are .onnx files, folders of `train tagger`, or names of those that ship.
    """
    from models.training.errors import RefusedError
    from models.training.tagging.settings import TaggerSettings
    from processors.settings_file import merged_values, settings_from

    if output.is_dir() and any(output.iterdir()) and not (overwrite and (output / "comparison.json").is_file()):
        raise InputError(f"--output {output} is not empty; say --overwrite or name another folder")
    values = merged_values(None, changes, _tagger_options(options))
    settings = settings_from(TaggerSettings, values, "the command line")
    try:
        from models.training.tagging import compare
    except ModuleNotFoundError as error:
        raise InputError(f"comparing taggers needs {error.name}: pip install 'jetbalance[train]'") from None
    try:
        lines = compare.run(tables, taggers, settings, output)
    except RefusedError as error:
        raise InputError(str(error)) from None
    for line in lines:
        click.echo(line)
    return 0


@cli.group()
def measure() -> None:
    """Measure scale factors."""


@measure.command(name="taggers")
@click.option(
    "--input",
    "folders",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    required=True,
    multiple=True,
    help="Folder of `tag`; may repeat. Those with selection.probe=dijet are for mistags.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder for the results.")
@click.option("--order", type=click.Choice(("jme", "btv")), help="Of the arguments of corrections  [jme].")
@click.option("--inject", type=EXISTING_FILE, help="JSON with scale factors; data are then made of simulation.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Of the data that are made so.")
@click.option("--config", type=EXISTING_FILE, help="Settings in YAML.")
@click.option("-j", "--workers", type=click.IntRange(1), help="Processes  [one per core].")
@click.option("--overwrite", is_flag=True, help="Replace an earlier measurement in --output.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.argument("changes", nargs=-1, metavar="[SECTION.KEY=VALUE]...")
def measure_taggers(
    folders: tuple[Path, ...],
    output: Path,
    order: str | None,
    inject: Path | None,
    config: Path | None,
    changes: tuple[str, ...],
    *,
    debug: bool,  # noqa: ARG001  main looks for it
    **options: Any,
) -> int:
    """Scale factors of taggers from histograms of pass and fail, as correctionlib JSON with all that it comes from.

    Settings are those of `corrections.tagging.settings`, for example templates.mass=[50,150] or fit.free=[w].
    """
    from corrections.tagging.known_answer import parse_answer
    from processors.fileset import read_document
    from processors.settings_file import merged_values, settings_from
    from report.tagger_measurement import TaggerRunSettings, run

    values = merged_values(config, changes, {"json.order": order})
    where = f"{config} or the command line" if config else "the command line"
    settings = settings_from(TaggerRunSettings, values, where)
    injected = None if inject is None else parse_answer(read_document(inject), inject)
    done = run(folders, output, settings, injected=injected, **options)
    for line in done.lines:
        click.echo(line)
    if done.is_empty:
        return FAILED
    return INCOMPLETE if not done.is_complete else 0 if done.is_closed else NOT_CLOSED


@cli.command(name="report")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--config", type=EXISTING_FILE, help="Settings in YAML, of which `report` counts.")
@click.argument("changes", nargs=-1, metavar="[REPORT.KEY=VALUE]...")
def report_again(folder: Path, config: Path | None, changes: tuple[str, ...]) -> int:
    """Draw the figures and write the page of an output FOLDER again, from the files in it."""
    from processors.settings_file import merged_values, settings_from
    from report.folder import remake
    from report.run_settings import RunSettings

    settings = settings_from(RunSettings, merged_values(config, changes), str(config or "the command line"))
    with _drawing(settings) as parallel_map:
        figures = remake(folder, settings.report, parallel_map=parallel_map)
    click.echo(f"{len(figures)} figures and {folder / 'report.html'} written")
    return 0


@cli.command()
@click.argument("path", type=EXISTING_FILE)
@click.option("--config", type=EXISTING_FILE, help="Settings in YAML with which the fileset would be run.")
@click.argument("changes", nargs=-1, metavar="[SECTION.KEY=VALUE]...")
def check(path: Path, config: Path | None, changes: tuple[str, ...]) -> int:
    """Look at a fileset or a correction set: what a run would read, or whether the corrections keep their promises."""
    from corrections.promises import check_corrections, is_correction_set
    from processors.settings_file import merged_values

    if is_correction_set(path):
        lines = check_corrections(path)
    else:
        from processors.filling import look

        datasets, settings = _read_job(path, config, merged_values(config, changes))
        job = look(datasets, settings.filling)
        lines = [f"{f.dataset}: {f.path}, {f.tree} ({f.format}), {f.entries:,} events" for f in job.facts]
        lines += [f"note: {note}" for note in job.notes()]
    for line in lines:
        click.echo(line)
    click.echo(f"{path}: nothing wrong")
    return 0


@cli.command()
def doctor() -> int:
    """Tell whether this machine has what a run needs: versions, memory, disk, caches, worker processes, compiler."""
    from processors.self_check import findings

    found = findings()
    for finding in found:
        click.echo(f"{'ok  ' if finding.is_good else 'BAD '} {finding.name}: {finding.words}")
    return 0 if all(finding.is_good for finding in found) else FAILED


def _start_workers(execution: Mapping[str, Any]) -> None:
    """Let the fork server import its packages while this process imports its own."""
    from processors.worker_pool import available_cores, start_fork_server

    workers = execution.get("workers") or available_cores()
    if execution.get("executor", "futures") == "futures" and isinstance(workers, int):
        start_fork_server(workers)


def _read_job(
    fileset: Path | None, config: Path | None, values: Mapping[str, Any]
) -> tuple[tuple[Dataset, ...], RunSettings]:
    """Datasets and settings; every mistake in their form is refused here."""
    from processors.fileset import load_fileset
    from processors.settings_file import settings_from
    from report.run_settings import RunSettings

    path = fileset or BUNDLED
    if not path.is_file():
        raise InputError("the bundled sample is not here; give a fileset with --fileset")
    where = f"{config} or the command line" if config else "the command line"
    return load_fileset(path), settings_from(RunSettings, values, where)


def _run(job: Job, settings: RunSettings, fileset: Path, record: RunRecord) -> int:
    """Make run.json and run.log tell what happened, whatever happens; returns the exit code."""
    from report.run_log import logged_to

    with logged_to(record.folder / "run.log") as log:
        log.info("%s", " ".join(record.command))
        try:
            code = _analyse(job, settings, fileset, record)
        except BaseException as error:
            trace = getattr(error, "trace", "") or traceback.format_exc()
            log.error("%s\n%s", _words(error), trace)  # noqa: TRY400  a worker's traceback is the one that tells
            record.write(complete=False, exit_code=_exit_code(error), error=_words(error))
            raise
        log.info("ended with exit code %d, seconds %s", code, record.seconds)
    return code


def _analyse(job: Job, settings: RunSettings, fileset: Path, record: RunRecord) -> int:
    """The way of the data, from files to the report page; returns the exit code."""
    from corrections.known_answer import agreement, population_of, read_known_answer
    from processors.jet_calibration import NETWORK_SUFFIX
    from processors.output_folder import remove_chunks
    from report.console import show_summary

    outcome = _fill(job, settings, record)
    compared, measurements = _measure(job, outcome, settings, record)
    plain = replace(settings.calibration, onnx=None, beside=True)
    where = fileset.resolve().parent
    known = {} if plain != type(plain)() else read_known_answer(where, settings.binning.reference_range)
    populations = {each.algo: found for each in compared if (found := population_of(each.data)) is not None}
    agreed = agreement([m for m in measurements if not m.algo.endswith(NETWORK_SUFFIX)], known, populations)
    record.add_known_answer(known, agreed)
    histograms = _write(outcome, compared, measurements, settings, record)
    _draw(outcome, measurements, histograms, settings, record)
    is_open = record.add_checks(measurements) or (agreed is not None and agreed.is_bad)
    code = INCOMPLETE if record.facts["lost"] else NOT_CLOSED if is_open else 0
    facts = record.write(exit_code=code)
    remove_chunks(record.folder)
    with suppress(BrokenPipeError, SystemExit):  # rich ends the process where nobody listens, as after `| head`
        show_summary(facts, measurements, record.folder)
    return code


def _fill(job: Job, settings: RunSettings, record: RunRecord) -> Outcome:
    """Histograms of all datasets, with what was lost on the way."""
    from processors.filling import fill

    outcome = fill(job, settings.filling, settings.execution, record.folder / CHUNKS)
    record.add_filling(outcome, job, settings)
    record.write_failed()
    if outcome.lost and not outcome.events:
        raise click.ClickException(f"no input could be read: {outcome.lost[0].reason}")
    return outcome


def _measure(
    job: Job, outcome: Outcome, settings: RunSettings, record: RunRecord
) -> tuple[Sequence[Comparison], Sequence[Measurement]]:
    """Resolutions and scale factors, then residuals from simulation that is read again and smeared by these."""
    from corrections import passes
    from processors.filling import fill
    from processors.side_by_side import for_measured, jet_algo, measured_datasets, read_for
    from processors.worker_pool import available_cores

    calibration, binning = settings.calibration, settings.binning
    datasets = measured_datasets(job.datasets, calibration)
    generated = for_measured(job.generated_weights(outcome), job.datasets, calibration)
    factors = passes.normalisations(outcome.output, datasets, generated)
    with record.timed("fit"):
        compared = passes.compare(outcome.output, datasets, binning, factors)
        measurements = passes.measure_all(compared, settings.measurement, available_cores())
    record.notes += passes.lacking(compared)
    sources = {name: d.name for d in job.datasets for name in (m.name for m in measured_datasets([d], calibration))}
    record.add_datasets(datasets, {d.name: jet_algo(d) for d in datasets}, sources, factors)
    wanted = passes.to_smear(datasets, measurements, settings.filling)
    chosen = job.only(read_for(wanted, job.datasets, calibration))
    smeared = compared if settings.calibration.smearing else ()
    if chosen.datasets:
        chunks = record.folder / CHUNKS
        path, rho = chunks / "smearing.json.gz", passes.mean_rho(compared)
        smearing = passes.smeared_settings(measurements, settings.filling, settings.tags, path, rho)
        second = fill(chosen, smearing, settings.execution, chunks, title="smearing")
        record.add_second_filling(second)
        smeared = passes.compare(second.output, datasets, binning, factors)
    with record.timed("fit"):
        measurements = passes.with_residuals(measurements, compared, smeared, settings.measurement, available_cores())
        varied = {
            name: passes.compare(outcome.output.variation(name), datasets, binning, factors)
            for name in outcome.output.varied
        }
        measurements = passes.with_systematics(
            measurements,
            compared,
            varied,
            settings.measurement,
            available_cores(),
            is_smeared=settings.calibration.smearing is None,
        )
    final: Sequence[Measurement] = measurements
    if settings.measurement.close_loop:
        final = _measure_again(job, measurements, factors, settings, record, passes.mean_rho(compared))
    record.notes += [f"{m.algo}: {note}" for m in final for note in m.notes]
    return compared, final


def _measure_again(
    job: Job,
    measurements: Sequence[Measurement],
    factors: Mapping[str, float],
    settings: RunSettings,
    record: RunRecord,
    rho: float,
) -> Sequence[Measurement]:
    """Corrections applied to the sample they come from, what is left put in and applied once more, and what is left."""
    from corrections import passes
    from processors.side_by_side import measured_datasets, read_for

    datasets = measured_datasets(job.datasets, settings.calibration)
    wanted = passes.to_correct(datasets, measurements, settings.filling)
    chosen = job.only(read_for(wanted, job.datasets, settings.calibration))
    if not chosen.datasets:
        if settings.calibration.residual or settings.calibration.smearing:
            record.notes.append("the loop is not closed: calibration applies a residual or a smearing already")
        return measurements
    best = applied = _apply(chosen, measurements, factors, settings, record, rho, "closing the loop")
    n_repeated = 0
    while n_repeated < settings.measurement.iterations and not passes.are_stable(applied):
        n_repeated += 1
        title = f"closing the loop, {n_repeated + 1}"
        applied = _apply(chosen, passes.adjusted(applied), factors, settings, record, rho, title)
        best = passes.closer(best, applied)
    record.facts["loop_passes"] = n_repeated + 1
    return passes.with_moves(measurements, best, n_repeated)


def _apply(
    job: Job,
    measurements: Sequence[Measurement],
    factors: Mapping[str, float],
    settings: RunSettings,
    record: RunRecord,
    rho: float,
    title: str,
) -> Sequence[Measurement]:
    """The measurements with what is left of their corrections after these were applied to the datasets of `job`."""
    from corrections import passes
    from processors.filling import fill
    from processors.side_by_side import measured_datasets
    from processors.worker_pool import available_cores

    chunks = record.folder / CHUNKS
    path = chunks / "corrected.json.gz"
    corrected = passes.corrected_settings(measurements, settings.filling, settings.tags, path, rho)
    filled = fill(job, corrected, settings.execution, chunks, title=title)
    record.add_second_filling(filled)
    datasets = measured_datasets(job.datasets, settings.calibration)
    compared = passes.compare(filled.output, datasets, settings.binning, factors)
    with record.timed("fit"):
        return passes.measured_again(measurements, compared, settings.measurement, available_cores())


def _write(
    outcome: Outcome,
    compared: Sequence[Comparison],
    measurements: Sequence[Measurement],
    settings: RunSettings,
    record: RunRecord,
) -> Histograms:
    """Histograms, tables and corrections as files; returns the histograms."""
    from corrections.correction_set import write_correction_set
    from corrections.covariance import write_covariance
    from corrections.passes import mean_rho, unmeasured
    from corrections.table import write_points
    from corrections.text_files import write_text_files
    from processors.histogram_files import write_histograms
    from processors.histograms import cutflow_rows, to_hist
    from report.run_record import write_cutflow

    with record.timed("fit"):
        histograms = to_hist(outcome.output, settings.binning)
        write_histograms(histograms, record.folder)
        write_cutflow(cutflow_rows(outcome.output), record.folder)
        folder = record.folder / "corrections"
        path = folder / "jet_jerc.json.gz"
        record.add_corrections(
            write_correction_set(
                measurements,
                settings.tags,
                path,
                mean_rho(compared),
                settings.json,
                unmeasured=unmeasured(compared),
            )
        )
        for measurement in measurements:
            write_text_files(measurement, settings.tags, folder)
        points = [point for measurement in measurements for point in measurement.points]
        write_points(points, record.folder / "resolution.csv")
        write_covariance(points, record.folder / "covariance.npz")
    return histograms


def _draw(
    outcome: Outcome,
    measurements: Sequence[Measurement],
    histograms: Histograms,
    settings: RunSettings,
    record: RunRecord,
) -> None:
    """Plots, then the page that shows them."""
    from processors.histogram_files import digest
    from processors.histograms import cutflow_rows
    from report.folder import roles_of
    from report.measurement_file import write_measurements
    from report.page import write_page
    from report.plots import draw_all
    from report.run_record import output_digests

    rows = cutflow_rows(outcome.output)
    facts = record.facts
    with record.timed("plots"), _drawing(settings) as parallel_map:
        write_measurements(measurements, record.folder)
        figures = draw_all(
            measurements,
            histograms,
            rows,
            settings.report,
            record.folder,
            roles=roles_of(facts),
            injected=facts.get("injected"),
            parallel_map=parallel_map,
        )
    with record.timed("report"):
        facts["outputs"], facts["histograms_digest"] = output_digests(record.folder), digest(histograms)
        write_page(record.folder, record.write(), measurements, figures, rows)


@contextmanager
def _drawing(settings: RunSettings) -> Iterator[Callable[..., Iterable[Any]]]:
    """`map` of a pool that draws figures, or the ordinary one where everything stays in one process."""
    from processors.worker_pool import open_pool, stop_pool

    if settings.execution.n_workers == 1:
        yield map
        return
    pool = open_pool(settings.execution.n_workers)
    try:
        yield pool.map
    finally:
        stop_pool(pool)


class Stopped(BaseException):
    """A signal asked for the end; no KeyboardInterrupt, of which click makes something else."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def _stop(number: int, _: FrameType | None) -> NoReturn:
    """Unwind once, so that workers are ended; end at once when asked again."""
    signal.signal(number, lambda *_: os._exit(128 + number))
    raise Stopped(number)


def _exit_code(error: BaseException) -> int:
    if isinstance(error, Stopped):
        return SIGNALLED + error.number
    is_refused = isinstance(error, InputError | click.UsageError) or getattr(error, "is_input", False)
    return REFUSED if is_refused else FAILED


def _words(error: BaseException) -> str:
    """What the console tells of an error, without its traceback."""
    if isinstance(error, Stopped):
        return f"stopped by {error}; the same command, with --resume if it has it, goes on from what is done"
    if isinstance(error, click.ClickException):
        return error.format_message()
    told = isinstance(error, InputError) or hasattr(error, "trace")
    return str(error) if told else " ".join(f"{type(error).__name__}: {error}".split())


def _refuse_strangers() -> None:
    """Refuse packages of the same names that lie before ours on the path, such as a folder `models` of the user."""
    here = Path(__file__).resolve().parent
    for package in (corrections, models, processors, report, samples):
        if Path(package.__file__ or "").resolve().parent.parent != here:
            found = package.__file__ or list(package.__path__)
            raise InputError(
                f"the package {package.__name__} comes from {found}; set PYTHONSAFEPATH=1 or run elsewhere"
            )


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit with its code; an error is one line on standard error."""
    signal.signal(signal.SIGINT, _stop)
    signal.signal(signal.SIGTERM, _stop)
    words = list(sys.argv[1:] if args is None else args)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a console without UTF-8 shows what it can
    try:
        _refuse_strangers()
        code = cli.main(words, prog_name="analysis.py", standalone_mode=False)
    except (click.exceptions.Exit, click.Abort) as error:
        code = getattr(error, "exit_code", FAILED)
    except (Exception, Stopped) as error:  # noqa: BLE001  told in one line
        if "--debug" in words:
            traceback.print_exc()
        for line in _words(error).splitlines():
            click.echo(f"analysis.py: {line}", err=True)
        code = _exit_code(error)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if code > SIGNALLED:
        # the threads of a pool that was stopped in the middle of its work need not end
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
