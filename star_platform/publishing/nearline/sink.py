"""Where the near-line worker writes: Feast's push, to the history first and then to what is served."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from star_platform.errors import StarError, TextError
from star_platform.publishing.model import FIELD, join_key
from star_platform.publishing.nearline.offline import compact
from star_platform.publishing.nearline.online import TAG_FIELD
from star_platform.publishing.nearline.views import ARRIVED, TIME, TextView, ensure_view, moments, push_name, view_name
from star_platform.publishing.wire import entity_keys
from star_platform.text.nearline.model import EntityId, Row, State

if TYPE_CHECKING:
    from feast import FeatureStore, FeatureView


class FeastSink:
    """The views of all served text features. `VectorSink` of `text.nearline`."""

    def __init__(self, store: FeatureStore, views: Sequence[TextView], offline_root: Path) -> None:
        """Registers what is missing; call it under a lease.

        Raises:
            TextError: T052 when Feast fails, T056 when two features would have one view.
        """
        names = {item.name: item.feature for item in views}
        if len(names) < len(views):
            alike = [item.feature for item in views if names[item.name] != item.feature]
            raise TextError(
                "T056",
                f"{alike[0]} and {names[view_name(alike[0])]} have one view, {view_name(alike[0])}",
                hint="rename one of the features",
            )
        self._store = store
        self._items: Mapping[str, TextView] = {item.feature: item for item in views}
        with _writing():
            self._views: dict[str, FeatureView] = {
                item.feature: ensure_view(store, item, offline_root) for item in views
            }

    def version(self, feature: str) -> int:
        """The version of the feature's view that this sink writes."""
        return int(self._views[feature].current_version_number)

    def states(self, feature: str, entities: Sequence[EntityId]) -> list[State | None]:
        with _writing():
            found: list[State | None] = self._online.states(
                self._store.config, self._views[feature], self._keys(feature, entities)
            )
            return found

    def append(self, feature: str, rows: Sequence[Row]) -> None:
        from feast.data_source import PushMode

        self._push(feature, rows, PushMode.OFFLINE)

    def put(self, feature: str, rows: Sequence[Row]) -> None:
        from feast.data_source import PushMode

        self._push(feature, rows, PushMode.ONLINE)

    def touch(self, feature: str, rows: Sequence[Row]) -> list[bool]:
        with _writing():
            keys = self._keys(feature, [row.entity for row in rows])
            held: list[bool] = self._online.touch(self._store.config, self._views[feature], keys, rows)
            return held

    def tidy(self) -> None:
        with _writing():
            for view in self._views.values():
                folder = Path(view.batch_source.path)
                if folder.is_dir():
                    compact(folder)

    @property
    def _online(self) -> Any:
        return self._store.provider.online_store

    def _keys(self, feature: str, entities: Sequence[EntityId]) -> list[Any]:
        ids: Any = list(entities)
        return entity_keys(join_key(self._items[feature].node), ids)

    def _push(self, feature: str, rows: Sequence[Row], to: Any) -> None:
        """`text_key` is never null: Feast silently drops a frame without any value, and deletions would be one."""
        import pandas as pd

        item = self._items[feature]
        frame = pd.DataFrame(
            {
                join_key(item.node): pd.Series([row.entity for row in rows], dtype=_dtype(item)),
                FIELD: pd.Series([row.vector for row in rows], dtype=object),
                TAG_FIELD: [row.tag for row in rows],
                TIME: moments([row.order.time for row in rows]),
                ARRIVED: moments([row.order.arrival for row in rows]),
            }
        )
        with _writing():
            self._store.push(push_name(item.name, self.version(feature)), frame, to=to)


def _dtype(item: TextView) -> Any:
    return "int64" if item.key_type == "int64" else object


@contextmanager
def _writing() -> Iterator[None]:
    """Whatever Feast, its stores and their drivers raise, as ours: it may pass, and every write may be repeated."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="Cannot write")  # Feast's way of dropping rows
            yield
    except StarError:
        raise
    except Exception as error:
        raise TextError(
            "T052",
            f"near-line vectors cannot be written or read: {str(error).strip() or type(error).__name__}",
            hint="see that the online store runs, and that no newer encoder has taken over; restart the worker",
        ) from error
