"""Presets are shorthand: valid, explicit once read, and nothing but their settings enters a fingerprint."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from star_platform.gnn import presets
from star_platform.gnn.config import TrainingConfig
from star_platform.gnn.presets import PRESETS, Preset
from star_platform.planning.canonical import digest

DEFAULTS = TrainingConfig().model_dump(mode="json")


@pytest.mark.parametrize("name", PRESETS)
def test_it_is_valid_and_is_what_its_settings_say(name: str) -> None:
    by_name = TrainingConfig.model_validate({"preset": name})
    spelled_out = TrainingConfig.model_validate(dict(PRESETS[name].settings))
    assert by_name.model_dump() == spelled_out.model_dump()
    assert by_name.hops >= 1


@pytest.mark.parametrize("name", PRESETS)
def test_it_says_where_it_comes_from_and_when_to_choose_it(name: str) -> None:
    preset = PRESETS[name]
    assert all(len(text) > 3 for text in (preset.row, preset.figure, preset.choose, preset.note))
    assert preset.about == f"{preset.row}: {preset.figure}"
    assert all(text.endswith(".") for text in (preset.choose, preset.note))


def test_no_two_are_the_same() -> None:
    settings = [json.dumps(TrainingConfig(preset=name).model_dump(mode="json"), sort_keys=True) for name in PRESETS]
    assert len(set(settings)) == len(PRESETS)


def test_the_rows_of_table_3_differ_in_what_the_table_says() -> None:
    base = TrainingConfig(preset="star-dim-200").model_dump()

    def difference(name: str) -> dict[str, object]:
        return {key: value for key, value in TrainingConfig(preset=name).model_dump().items() if base[key] != value}

    assert difference("star-dim-100") == {"dim": 100}
    assert difference("star-dual") == {"towers": "dual"}
    assert difference("star-multiplier-2") == {"towers": "dual", "multiplier": 2}
    assert difference("star-multiplier-4") == {"towers": "dual", "multiplier": 4, "target_in_attention": True}
    assert difference("star-mean") == {"towers": "dual", "encoder": "mean"}
    assert difference("star-temporal") == {"strategy": "latest"}
    assert (base["lr"], base["batch_size"], base["max_epochs"], base["validate_every"]) == (1e-4, 4096, 1, 0.1)


def test_keys_beside_it_win_and_sections_are_merged() -> None:
    config = TrainingConfig.model_validate(
        {"preset": "lignn-temporal-encoder", "dim": 100, "sequence": {"activities": 20}}
    )
    assert (config.dim, config.encoder) == (100, "mean")
    assert (config.sequence.activities, config.sequence.long_term) == (20, 10)


def test_its_name_is_not_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """A release and a model know settings, so that a preset may be renamed and old models still open."""
    config = TrainingConfig(preset="tiny")
    stored = config.model_dump(mode="json")
    assert "preset" not in stored
    monkeypatch.setattr(presets, "PRESETS", {"small": PRESETS["tiny"]})
    assert TrainingConfig.model_validate(stored).model_dump(mode="json") == stored
    assert digest(TrainingConfig(preset="small")) == digest(config)


def test_a_changed_preset_changes_a_fingerprint_through_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    before = digest(TrainingConfig(preset="tiny"))
    tiny = PRESETS["tiny"]
    told = Preset(tiny.row, "another figure.", "Never.", tiny.note, tiny.settings)
    monkeypatch.setitem(PRESETS, "tiny", told)
    assert digest(TrainingConfig(preset="tiny")) == before
    monkeypatch.setitem(PRESETS, "tiny", Preset("r", "f", "c", "n", {**tiny.settings, "dim": 32}))
    assert digest(TrainingConfig(preset="tiny")) != before


def test_without_a_preset_nothing_is_filled_in() -> None:
    assert TrainingConfig.model_validate({"dim": 64}).model_dump(mode="json") == {**DEFAULTS, "dim": 64}


def test_an_unknown_one_is_named_with_what_was_meant() -> None:
    with pytest.raises(ValidationError, match="no preset 'star-dim-20'; did you mean 'star-dim-200'"):
        TrainingConfig(preset="star-dim-20")
