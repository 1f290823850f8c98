"""Why a stage is reused or built, in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from star_platform.planning.base import BaseRelease, BaseSignal
from star_platform.planning.differences import differences
from star_platform.planning.fingerprint import resolved_definition
from star_platform.planning.settings import StageSettings, settings_json
from star_platform.planning.snapshot import Snapshots
from star_platform.planning.sources import source_id
from star_platform.planning.spec import GraphSpec, Signal, SignalKey

NAMED = 3
"""So many changed inputs are named, the rest counted."""


@dataclass(frozen=True)
class Reasons:
    """What differs between the base release and now, told per stage."""

    base: BaseRelease | None
    spec: GraphSpec
    snapshots: Snapshots
    settings: StageSettings

    def why(
        self,
        name: str,
        fingerprint: str,
        done: bool,
        changed_inputs: Sequence[str],
        signals: Iterable[SignalKey],
        settings: str | None,
    ) -> str:
        """Why stage `name` is `done` or has to be built."""
        base = self.base
        if base is None or name not in base.stages:
            return "built before" if done else "new"
        if base.stages[name] == fingerprint:
            if name in ("publish", "activate"):
                return f"unchanged since {base.name}" if done else "a release is published under its own number"
            return f"unchanged since {base.name}" if done else f"unchanged since {base.name}, but gone from the store"
        reasons = [reason for key in signals for reason in self._signal(key, name)]
        reasons += self._gone(name)
        if settings is not None and self._settings_changed(settings):
            reasons.append(f"{settings} settings changed")
        if changed_inputs:
            reasons.append(f"{_some(changed_inputs)} changed")
        text = "; ".join(dict.fromkeys(reasons)) or "what it is made from changed"
        return f"built before; {text}" if done else text

    def _signal(self, key: SignalKey, stage: str) -> Iterator[str]:
        assert self.base is not None  # noqa: S101  # asked only with a base
        old, new = self.base.signals.get(key), self.spec.signals.get(key)
        title = f"{key[0].replace('_', '-')} {key[1]}"
        if new is None:
            return
        if old is None:
            yield f"{title} is new"
            return
        if any(differences(old.definition, resolved_definition(new))):
            yield f"{title} changed"
        if stage != "graph" and self._data_changed(old, new):  # the graph has its data from the stages before
            yield f"data of source {new.source_name} changed"

    def _data_changed(self, old: BaseSignal, new: Signal) -> bool:
        assert self.base is not None  # noqa: S101
        if old.source is None or new.source_name is None:
            return False
        now = self.snapshots[source_id(new.source_name, new.sources)]
        return self.base.snapshots[old.source].hash != now.hash

    def _gone(self, name: str) -> list[str]:
        """What the base release had and this one lacks, for the stages that take all of something."""
        assert self.base is not None  # noqa: S101
        kind, _, subject = name.partition("/")
        removed = sorted(key for key in self.base.signals if key not in self.spec.signals)
        if kind == "nodes":
            took = [key for key in removed if key[0] == "opt_out" and self._node_of_opt_out(key) == subject]
        elif kind == "graph":
            took = [key for key in removed if key[0] not in ("objective", "opt_out")]
        elif kind == "train":
            took = [key for key in removed if key[0] == "objective"]
        else:
            took = []
        return [f"{kind.replace('_', '-')} {subject} is gone" for kind, subject in took]

    def _node_of_opt_out(self, key: SignalKey) -> str | None:
        assert self.base is not None  # noqa: S101
        node: str | None = self.base.signals[key].definition.get("node")
        return node

    def _settings_changed(self, section: str) -> bool:
        assert self.base is not None  # noqa: S101
        now = settings_json(self.settings)
        return any(differences(self.base.settings.get(section, {}), now.get(section, {})))


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:NAMED])
    return f"{shown} and {len(names) - NAMED} more" if len(names) > NAMED else shown
