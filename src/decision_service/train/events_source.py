"""A sample out of recorded events: read, observe, ask for features. A generated portfolio is written out first."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from decision_service.build.table import compiled
from decision_service.core.features.plans import compile_plans
from decision_service.core.limits import DAY_MS
from decision_service.core.rules.attributes import lay_out
from decision_service.core.source import Findings
from decision_service.core.zone import zone_named
from decision_service.portfolio import generate
from decision_service.train.asking import Files, ask
from decision_service.train.config import TrainConfig
from decision_service.train.definitions import definitions_digest
from decision_service.train.fitted import NothingToLearn
from decision_service.train.observe import observe
from decision_service.train.portfolio_files import write_portfolio
from decision_service.train.recorded import read_recorded
from decision_service.train.sample import Sample
from decision_service.train.sources import EventsSource, PortfolioSource, TableSource

SILENT_SHARE: Final = 0.1  # of the performance window, between the newest event and `until`
SILENT_D_LEAST: Final = 2.0  # days that are never too many


def read_observations(config: TrainConfig, others: tuple[str, ...], say: Callable[[str], None]) -> Sample:
    """The sample of a training file whose source is events or a portfolio. Raises InvalidInput, PolicyRejected and
    NothingToLearn."""
    with tempfile.TemporaryDirectory(prefix="decision-service-train-") as name:
        directory = Path(name)
        return _sample(config, _files(config, directory, say), _known(config, others), directory, say)


def _files(config: TrainConfig, directory: Path, say: Callable[[str], None]) -> Files:
    source = config.source
    if isinstance(source, EventsSource):
        return Files(source.events, source.facilities, source.attributes)
    assert isinstance(source, PortfolioSource)
    assert config.sample is not None
    say(f"generating {source.plan.customers:,} customers, seed {source.plan.seed}")
    write_portfolio(generate(source.plan), config.sample, directory)
    return Files(directory / "events.parquet", directory / "facilities.parquet", None)


def _known(config: TrainConfig, others: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the names that the definitions have."""
    assert config.spec is not None
    catalogue, attributes = compiled(config.spec.documents, Findings())
    return tuple(name for name in others if name in catalogue.by_name or name in lay_out(attributes).names)


def _sample(
    config: TrainConfig, files: Files, others: tuple[str, ...], directory: Path, say: Callable[[str], None]
) -> Sample:
    design, source = config.sample, config.source
    assert design is not None
    assert not isinstance(source, TableSource)
    until_ms = source.until_ms
    recorded = read_recorded(files.events, files.facilities, until_ms, say)
    _check_end(recorded.upto_ms, until_ms, design.target.performance_d)
    observed = observe(recorded, until_ms, design)
    for why, count in observed.waterfall:
        say(f"{count:>+11,}  {why}" if count < 0 else f"{count:>11,}  {why}")
    rows = observed.observations
    if not len(rows):
        raise NothingToLearn("nobody is left to be observed")
    features, answered = ask(config, files, recorded, rows, directory, others, say)
    rows, steps = rows[answered], (*observed.waterfall, ("no answer of the feature build", -int((~answered).sum())))
    return Sample(
        features[answered, : len(config.names)], rows["bad"].copy(), rows["customer"].copy(), rows["at_ms"].copy(),
        rows["period"] < design.out_of_time, None, tuple(step for step in steps if step[1]), recorded.left_out,
        definitions_of(config),
        {name: features[answered, len(config.names) + i] for i, name in enumerate(others)},
    )  # fmt: skip


def _check_end(upto_ms: int, until_ms: int, performance_d: int) -> None:
    """Raise NothingToLearn if events end so long before `until` that outcomes nobody knows would count as good."""
    silent_d = (until_ms - upto_ms) / DAY_MS
    if silent_d > max(SILENT_D_LEAST, SILENT_SHARE * performance_d):
        newest = datetime.fromtimestamp(upto_ms / 1_000, UTC).isoformat(timespec="seconds")
        raise NothingToLearn(
            f"the newest event is of {newest}, {silent_d:.0f} days before `until`: what became of customers after it "
            "is not known, and they would count as good; `until` must say where the events end"
        )


def definitions_of(config: TrainConfig) -> str:
    """A digest of what the features mean, intermediates included."""
    assert config.spec is not None
    catalogue, attributes = compiled(config.spec.documents, Findings())
    inputs = {name: i for i, name in enumerate(lay_out(attributes).names)}
    wanted = [name for name in config.names if name not in inputs]
    return definitions_digest(
        catalogue, compile_plans(catalogue, wanted, inputs, len(inputs), zone_named(config.zone)).names
    )
