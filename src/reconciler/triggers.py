"""Triggers of automatic retraining: new data, drift and age. Pure.

Each trigger starts one run per piece of evidence, whatever the outcome of the run. The option
`retrain-cooldown` is the minimum time between runs of all triggers.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from config import TrainerConfig
from errors import CharmError
from formatting import figures
from kfp_ops import fingerprint

if TYPE_CHECKING:
    from model_registry import Champion, MonitoringReport

# Name prefix of their runs.
RUN_PREFIX = "retrain-"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Signals:
    """Input of the triggers."""

    champion: Champion | None = None
    """The model that serves, if any."""

    report: MonitoringReport | None = None
    """Newest monitoring report."""

    etags: Mapping[str, str] = dataclasses.field(default_factory=dict[str, str])
    """Current ETags of the data files that the champion was trained on, by name; empty if not read."""

    problem: CharmError | None = None
    """Error because of which signals are missing."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trigger:
    """A reason to train."""

    name: str
    """Name of the run: the same for the same reason and evidence."""

    reason: str
    """One of "new data", "drift" and "age"."""

    description: str
    """Evidence, for the run's description."""


def watches_data(config: TrainerConfig, champion: Champion | None) -> bool:
    """Return whether to check for new data: the champion's data has ETags and is still at `data-path`.

    A changed `data-path` is a new configuration rather than new data.
    """
    return bool(
        config.retrain_on_data
        and champion
        and champion.manifest.etags
        and champion.manifest.source == config.data_path
    )


def due(config: TrainerConfig, signals: Signals, now: datetime.datetime) -> list[Trigger]:
    """Return the triggers that are due, the strongest first; none without a champion.

    Args:
        config: Options.
        signals: Champion, monitoring report and ETags.
        now: Current time, UTC.
    """
    champion = signals.champion
    if champion is None:
        return []
    reasons = (
        *_new_data(config, champion, signals.etags),
        *_drift(config, champion, signals.report),
        *_age(config, champion, now),
    )
    return [
        Trigger(
            name=f"{RUN_PREFIX}{fingerprint(reason, champion.version, evidence)}",
            reason=reason,
            description=f"{sentence} (version {champion.version})",
        )
        for reason, evidence, sentence in reasons
    ]


def drift(
    config: TrainerConfig, champion: Champion | None, report: MonitoringReport | None
) -> dict[str, float]:
    """Return the features of production images that drifted from the champion's training data.

    The values are population stability indices by feature, and `accuracy` if the champion is far less
    accurate on labeled production images than on the test images. Ignore a report on another version.
    """
    if not champion or not report or report.version != champion.version:
        return {}
    drifted = {part: index for part, index in report.drift.items() if index > config.max_drift}
    if report.is_inaccurate and report.accuracy is not None:
        drifted["accuracy"] = report.accuracy
    return drifted


_Reasons = Iterator[tuple[str, object, str]]


def _new_data(config: TrainerConfig, champion: Champion, etags: Mapping[str, str]) -> _Reasons:
    trained = champion.manifest.etags
    changed = sorted(name for name in trained if name in etags and etags[name] != trained[name])
    if watches_data(config, champion) and changed:
        sentence = f"{', '.join(changed)} changed since the champion was trained"
        yield "new data", dict(etags), sentence


def _drift(config: TrainerConfig, champion: Champion, report: MonitoringReport | None) -> _Reasons:
    drifted = drift(config, champion, report)
    if config.retrain_on_drift and report and drifted:
        yield "drift", report.run_id, f"production drifted: {figures(drifted)}"


def _age(config: TrainerConfig, champion: Champion, now: datetime.datetime) -> _Reasons:
    created, after = champion.manifest.created_at, config.retrain_after
    # A champion that is not replaced is due again after as many days.
    times = (now - created) // datetime.timedelta(days=after) if created and after else 0
    if times > 0:
        yield "age", times, f"the champion is older than {times * after} days"
