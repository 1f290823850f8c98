"""What must hold inside and between consumer files, beyond their shape."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import date

from star_platform.errors import Diagnostic
from star_platform.signals.consumer_model import Consumer
from star_platform.signals.document import Document
from star_platform.signals.suggest import did_you_mean, known

LATEST = "latest"


@dataclass(frozen=True)
class LoadedConsumer:
    """A valid consumer file."""

    consumer: Consumer
    file: str
    document: Document


def broken_rules(
    item: LoadedConsumer, before: Sequence[LoadedConsumer], nodes: Collection[str] | None
) -> list[Diagnostic]:
    """Everything wrong with one file; `before` are those read earlier, `nodes` the node types there are, if known."""
    return [
        *_repeated_nodes(item),
        *_unknown_nodes(item, nodes),
        *_no_day(item),
        *_scorer(item),
        *_cases(item),
        *_twin(item, before),
    ]


def _unknown_nodes(item: LoadedConsumer, nodes: Collection[str] | None) -> Iterator[Diagnostic]:
    for index, name in enumerate(item.consumer.nodes):
        if nodes is not None and name not in nodes:
            yield item.document.diagnostic(
                "S014",
                f"consumer '{item.consumer.consumer}' reads unknown node '{name}'",
                item.document.place("nodes", index),
                did_you_mean(name, nodes) or "no branch declares it",
                known("nodes", nodes),
            )


def _repeated_nodes(item: LoadedConsumer) -> Iterator[Diagnostic]:
    names = item.consumer.nodes
    for index, name in enumerate(names):
        if name in names[:index]:
            yield item.document.diagnostic(
                "S046", f"'{name}' stands twice in nodes", item.document.place("nodes", index), "delete one of the two"
            )


def _no_day(item: LoadedConsumer) -> Iterator[Diagnostic]:
    if item.consumer.sunset is None:
        return
    try:
        date.fromisoformat(item.consumer.sunset)
    except ValueError:
        message = f"'sunset' is '{item.consumer.sunset}', which is no day of the calendar"
        place = item.document.value_place("sunset")
        yield item.document.diagnostic("S017", message, place, "write year-month-day, such as 2027-01-31")


def _scorer(item: LoadedConsumer) -> Iterator[Diagnostic]:
    consumer, scorer = item.consumer, item.consumer.scorer
    if scorer is None:
        return
    place = item.document.place("scorer")
    if (scorer.python is None) == (scorer.onnx is None):
        message = "a scorer is a Python entry point or an ONNX file, and exactly one of them"
        yield item.document.diagnostic("S057", message, place, "write python: or onnx:")
    if consumer.release == LATEST:
        yield item.document.diagnostic(
            "S058",
            f"the scorer of consumer '{consumer.consumer}' was trained on vectors of one release, but it reads latest",
            place,
            "name the release under release:",
            "a frozen model is judged on the vectors that it was trained on: those of a release such as r3",
        )


def _cases(item: LoadedConsumer) -> Iterator[Diagnostic]:
    consumer = item.consumer
    if (consumer.scorer is None) != (consumer.cases is None):
        there, absent = ("scorer", "cases") if consumer.cases is None else ("cases", "scorer")
        yield item.document.diagnostic(
            "S059",
            f"consumer '{consumer.consumer}' has '{there}' without '{absent}'",
            item.document.place(there),
            f"add '{absent}: ...'",
            "the gate scores labelled cases with the frozen model: it needs both, or neither",
        )
    for name in consumer.cases.keys if consumer.cases is not None else ():
        if name not in consumer.nodes:
            yield item.document.diagnostic(
                "S060",
                f"the cases of consumer '{consumer.consumer}' have a key for '{name}', which it does not read",
                item.document.place("cases", "keys", name),
                did_you_mean(name, consumer.nodes) or "add it to nodes, or delete the key",
                known("nodes", consumer.nodes),
            )


def _twin(item: LoadedConsumer, before: Sequence[LoadedConsumer]) -> Iterator[Diagnostic]:
    twins = [other for other in before if other.consumer.consumer == item.consumer.consumer]
    if twins:
        message = f"consumer '{item.consumer.consumer}' is also declared in {twins[0].file}"
        place = item.document.value_place("consumer")
        yield item.document.diagnostic("S054", message, place, "choose another name, or join the two files")
