"""The decision by itself: whatever the batches and their order, the newest change is what is served in the end."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from star_platform.text.nearline.gate import Subject, plan
from star_platform.text.nearline.model import DELETED, MISSING, Change, Message, Order, State

CALM = settings(max_examples=100, deadline=None)
FEATURE = "member.profile"
TAGS = {(FEATURE, text): f"key of {text}" for text in "abc"}


def change(entity: int, time: int, arrival: int, text: str | None) -> Change:
    message = Message(f"{arrival}-0", b"", arrival)
    return Change(message, FEATURE, entity, Order(time, arrival), text or "", text is None)


def tag(item: Change) -> str:
    return DELETED if item.deleted else TAGS[FEATURE, item.text] if item.text else MISSING


contents = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 5), st.sampled_from([None, "", "a", "b", "c"])), max_size=12
)


def streams(rows: list[tuple[int, int, str | None]]) -> list[Change]:
    return [change(entity, time, arrival, text) for arrival, (entity, time, text) in enumerate(rows)]


@CALM
@given(rows=contents, data=st.data())
def test_batches_and_their_order_do_not_matter(rows: list[tuple[int, int, str | None]], data: st.DataObject) -> None:
    changes = streams(rows)
    states: dict[Subject, State | None] = {(FEATURE, entity): None for entity in range(3)}
    left = data.draw(st.permutations(changes))
    counted = 0
    while left:
        size = data.draw(st.integers(1, len(left)))
        batch, left = left[:size], left[size:]
        result = plan(batch, TAGS, states)
        counted += len(result.decided)
        assert not result.served.keys() & result.unchanged.keys()
        for subject, state in [*result.served.items(), *result.unchanged.items()]:
            before = states[subject]
            assert before is None or state.order > before.order
            states[subject] = state
    assert counted == len(changes)
    for entity in range(3):
        own = [item for item in changes if item.entity == entity]
        newest = max(own, key=lambda item: item.order, default=None)
        expected = State(newest.order, tag(newest)) if newest else None
        assert states[FEATURE, entity] == expected


@CALM
@given(rows=contents)
def test_in_one_batch_every_change_of_the_text_is_kept(rows: list[tuple[int, int, str | None]]) -> None:
    changes = streams(rows)
    result = plan(changes, TAGS, {(FEATURE, entity): None for entity in range(3)})
    for entity in range(3):
        own = sorted((item for item in changes if item.entity == entity), key=lambda item: item.order)
        tags = [tag(item) for item in own]
        expected = [own[at] for at in range(len(own)) if at == 0 or tags[at] != tags[at - 1]]
        assert [item.change for item in result.changed if item.change.entity == entity] == expected


@CALM
@given(rows=contents)
def test_doing_a_batch_again_decides_nothing(rows: list[tuple[int, int, str | None]]) -> None:
    changes = streams(rows)
    first = plan(changes, TAGS, {(FEATURE, entity): None for entity in range(3)})
    states: dict[Subject, State | None] = {(FEATURE, entity): None for entity in range(3)}
    again = plan(changes, TAGS, states | first.unchanged | first.served)
    assert again.changed == []
    assert not again.served
    assert not again.unchanged
