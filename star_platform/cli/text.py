"""`star-platform text ...`: the text encoder by itself."""

from __future__ import annotations

import typer

from star_platform.cli.text_encode import encode
from star_platform.cli.text_finetune import finetune
from star_platform.cli.text_serve import serve

app = typer.Typer(help="Fine-tune, run and serve the text encoder.", no_args_is_help=True)


@app.callback()
def _text() -> None:
    """Fine-tune, run and serve the text encoder."""


for verb in (finetune, encode, serve):
    app.command()(verb)
