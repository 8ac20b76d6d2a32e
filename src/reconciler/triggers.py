"""When a model is trained without being asked: new data, drift and age. Pure.

Each trigger makes one run for what it has seen, its evidence, whatever becomes of the run. All keep one
distance, the option `retrain-cooldown`.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterator, Mapping

from config import TrainerConfig
from errors import CharmError
from formatting import figures
from kfp_ops import fingerprint
from model_registry import Champion, MonitoringReport

# How the names of their runs begin.
RUN_PREFIX = "retrain-"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Signals:
    """What the triggers go by.

    Attributes:
        champion: the model that serves; None as long as none does.
        report: of the newest monitoring of production images.
        etags: what the servers call today's versions of the files that the champion was trained on,
            by name; empty where they were not asked.
        problem: what kept it from seeing all.
    """

    champion: Champion | None = None
    report: MonitoringReport | None = None
    etags: Mapping[str, str] = dataclasses.field(default_factory=dict[str, str])
    problem: CharmError | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trigger:
    """A reason to train.

    Attributes:
        name: of the run: the same for the same reason and evidence.
        reason: "new data", "drift" or "age".
        description: a sentence on it.
    """

    name: str
    reason: str
    description: str


def watches_data(config: TrainerConfig, champion: Champion | None) -> bool:
    """Whether the data's servers are to be asked: what the champion learned from is at an address.

    A changed `data-path` is a new configuration, and no new data.
    """
    return bool(
        config.retrain_on_data
        and champion
        and champion.manifest.etags
        and champion.manifest.source == config.data_path
    )


def due(config: TrainerConfig, signals: Signals, now: datetime.datetime) -> list[Trigger]:
    """Return the reasons to train, the strongest first; none without a champion.

    Args:
        config: the options.
        signals: what was seen.
        now: the time, UTC.
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
            name=f"{RUN_PREFIX}{fingerprint(reason, champion.version, identity)}",
            reason=reason,
            description=f"{sentence} (version {champion.version})",
        )
        for reason, identity, sentence in reasons
    ]


def drift(
    config: TrainerConfig, champion: Champion | None, report: MonitoringReport | None
) -> dict[str, float]:
    """Return which features of production drifted from the champion's training data.

    That is the population stability index by part, and `accuracy` where the model is far less accurate
    on production's labelled images than on the test images. A report on another model says nothing of
    the one that serves.
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
        sentence = f"{', '.join(changed)} changed since the model that serves was trained"
        yield "new data", dict(etags), sentence


def _drift(config: TrainerConfig, champion: Champion, report: MonitoringReport | None) -> _Reasons:
    drifted = drift(config, champion, report)
    if config.retrain_on_drift and report and drifted:
        yield "drift", report.run_id, f"production drifted from its data: {figures(drifted)}"


def _age(config: TrainerConfig, champion: Champion, now: datetime.datetime) -> _Reasons:
    created, after = champion.manifest.created_at, config.retrain_after
    # A model that is not replaced is due again after as many days more.
    times = (now - created) // datetime.timedelta(days=after) if created and after else 0
    if times > 0:
        yield "age", times, f"the model that serves is older than {times * after} days"
