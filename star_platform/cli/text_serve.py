"""`text serve`: encode changed texts as their events arrive."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from star_platform.cli.options import JsonOption, ProjectOption
from star_platform.cli.output import note, say

if TYPE_CHECKING:
    from star_platform.project import Project
    from star_platform.project.nearline import TextServing
    from star_platform.text.nearline.config import ServeConfig
    from star_platform.text.nearline.metrics import Metrics
    from star_platform.text.nearline.worker import Worker

_LINE_SECONDS = 5.0


def serve(
    stream: Annotated[str, typer.Option(help="Name of the stream (or topic) of change events.")] = "text-events",
    group: Annotated[str, typer.Option(help="Workers of one group share the events.")] = "star-text",
    worker: Annotated[
        str | None,
        typer.Option(help="Name of this process, the same after a restart; host and process id when absent."),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(
            "--at",
            metavar="URL",
            help="Server of the stream: redis://host:6379/0, kafka://host:9092; the online store's Redis when absent.",
        ),
    ] = None,
    latency_target: Annotated[
        str, typer.Option(metavar="SPAN", help="From an event's arrival to being served.")
    ] = "2s",
    max_batch: Annotated[
        int, typer.Option(min=1, max=10_000, help="Most events of one batch; fewer where the target asks for it.")
    ] = 256,
    max_bytes: Annotated[int, typer.Option(min=256, help="Larger events become dead letters.")] = 1 << 18,
    max_deliveries: Annotated[int, typer.Option(min=1, help="Events handed out more often become dead letters.")] = 5,
    claim_after: Annotated[
        str, typer.Option(metavar="SPAN", help="Silence that makes a worker count as dead.")
    ] = "30s",
    retention: Annotated[str, typer.Option(metavar="SPAN", help="How long done events stay in the stream.")] = "1d",
    released_only: Annotated[
        bool, typer.Option("--released-only", help="Ids that the active release lacks become dead letters.")
    ] = False,
    seed: Annotated[
        bool, typer.Option("--seed", help="First serve the texts of the active release that have had no event yet.")
    ] = False,
    metrics_port: Annotated[
        int | None, typer.Option(metavar="PORT", help="Answer GET /metrics there, for Prometheus; 0: any free port.")
    ] = None,
    metrics_host: Annotated[str, typer.Option(help="Address that --metrics-port listens on.")] = "127.0.0.1",
    once: Annotated[bool, typer.Option("--once", help="Do one batch of what is there, and stop.")] = False,
    until_empty: Annotated[
        bool, typer.Option("--until-empty", help="Stop when nothing waits and nothing is pending in the group.")
    ] = False,
    as_json: JsonOption = False,
    project: ProjectOption = None,
) -> None:
    """Encode changed texts as their events arrive, and serve them through Feast; SIGTERM ends it after its batch.

    Example: star-platform text serve --worker encoder-1 --latency-target 2s
    """
    from star_platform.text.nearline.config import seconds, serve_config

    config = serve_config(
        stream=stream,
        group=group,
        worker=worker or f"{socket.gethostname()}-{os.getpid()}",
        latency_target=seconds(latency_target),
        max_batch=max_batch,
        max_bytes=max_bytes,
        max_deliveries=max_deliveries,
        claim_after=seconds(claim_after),
        retention=seconds(retention),
        entities="released" if released_only else "any",
    )
    _serve(
        config,
        project,
        at,
        (metrics_host, metrics_port),
        seed=seed,
        once=once,
        until_empty=until_empty,
        as_json=as_json,
    )


def _serve(
    config: ServeConfig,
    folder: Path | None,
    at: str | None,
    exporter: tuple[str, int | None],
    *,
    seed: bool,
    once: bool,
    until_empty: bool,
    as_json: bool,
) -> None:
    from star_platform.project import Project
    from star_platform.project.nearline import open_serving, open_stream
    from star_platform.text.nearline.exporter import exported
    from star_platform.text.nearline.metrics import Metrics

    with ExitStack() as stack:
        stop = stack.enter_context(_asked_to_stop())
        place = Project.open(folder)
        serving = open_serving(place, config)
        stream = open_stream(serving, config, at)
        stack.callback(stream.close)
        metrics = Metrics(config.latency_target)
        if exporter[1] is not None:
            host, port = exporter[0], stack.enter_context(exported(metrics, exporter[0], exporter[1]))
            note(f"metrics: http://{host}:{port}/metrics")
        for feature, view in serving.views.items():
            note(f"{feature}: {view}:embedding, read with the Feast repository {serving.repo}")
        note(f"{config.worker} of {config.group} reads {config.stream}")
        worker = serving.worker(stream, config, metrics, stop.is_set, note)
        if seed:
            _seed(place, serving, worker, stop)
        shown = time.monotonic()
        for _ in worker.run(once=once, until_empty=until_empty):
            if time.monotonic() - shown >= _LINE_SECONDS:
                shown = time.monotonic()
                _show(metrics, as_json=as_json, last=False)
        _show(metrics, as_json=as_json, last=True)


def _seed(place: Project, serving: TextServing, worker: Worker, stop: threading.Event) -> None:
    """Can be stopped and run again: what is served already, or newer, is passed over."""
    from star_platform.cli.console import open_progress
    from star_platform.project.nearline_seed import seeds

    progress = open_progress()
    for item in seeds(place, serving.signals):
        feature, rows = item.signal.feature, item.rows
        note(f"{feature}: {rows:,} texts of the release, {item.uncached(serving.cache):,} of them to encode")
        with progress.task(f"seed {feature}", rows, "texts") as task:
            for changes in item.changes():
                if stop.is_set():
                    return
                worker.apply(changes)
                task.advance(len(changes))


def _show(metrics: Metrics, *, as_json: bool, last: bool) -> None:
    """With --json a line of JSON each time, on stdout; else a line for people, the last one on stdout."""
    import json

    from star_platform.cli.output import SCHEMA_VERSION

    if as_json:
        say(json.dumps({"schema_version": SCHEMA_VERSION, "last": last, **metrics.record()}))
    elif last:
        say(metrics.line())
    else:
        note(metrics.line())
    sys.stdout.flush()


@contextmanager
def _asked_to_stop() -> Iterator[threading.Event]:
    """Set by SIGTERM or Ctrl-C; a second Ctrl-C interrupts as usual."""
    stop = threading.Event()

    def ask(number: int, _: object) -> None:
        stop.set()
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
