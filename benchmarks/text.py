"""Texts per second of our encoder beside sentence-transformers, in int8, and of a run that finds most texts cached.

    python -m benchmarks.text [--quick]

MiniLM-L6 with its real weights, float32, at most 512 tokens; texts of real words with log-normal lengths, 145 tokens on
average. sentence-transformers encodes as it does by default: sorted by length, 32 texts a batch, all cores; so do we.
Vectors are compared before times are. `int8_vs_fp32` compares our own two precisions, `int8_cosine` their vectors.
`rerun_speedup` is a first run through cache and artefact beside a second one, of which 5 % of the texts have changed.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks._harness import ratio, report, spread, take_turns
from star_platform.registry.artefacts import Artefact, ArtefactStore
from star_platform.text.cache import TextCache
from star_platform.text.config import TextConfig
from star_platform.text.encoder import TextEncoder, encode, open_encoder
from star_platform.text.models import locate
from star_platform.text.stage import encode_texts

CORES = len(os.sched_getaffinity(0))
MAX_TOKENS, MEAN_TOKENS, SIGMA = 512, 145, 0.8
TOKENS_PER_WORD = 1.3
"""Of English prose in this vocabulary, roughly; only the lengths depend on it."""
CHANGED = 0.05
ONET = Path(__file__).parents[2] / "shared" / "data" / "onet" / "Task Statements.txt"


def long_model(folder: Path) -> Path:
    """MiniLM with its limit raised from the 256 tokens that it states to the 512 that it has positions for."""
    source = locate(TextConfig(encoder="minilm"), Path()).path
    for path in source.rglob("*"):
        target = folder / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file() and path.name != "sentence_bert_config.json":
            target.symlink_to(path)
    (folder / "sentence_bert_config.json").write_text(
        json.dumps({"max_seq_length": MAX_TOKENS, "do_lower_case": False})
    )
    return folder


def words(vocabulary: Path) -> tuple[list[str], str]:
    """Running prose: O*NET's task statements where they are at hand, else words of the vocabulary by Zipf's law."""
    if ONET.is_file():
        rows = ONET.read_text(encoding="utf-8").splitlines()[1:]
        return [word for row in rows for word in row.split("\t")[2].split()], "onet"
    known = [word for word in vocabulary.read_text(encoding="utf-8").splitlines() if word.isalpha() and len(word) > 1]
    shares = 1.0 / np.arange(1, len(known) + 1)
    return list(np.random.default_rng(1).choice(known, 200_000, p=shares / shares.sum())), "vocabulary"


def make_texts(prose: Sequence[str], count: int) -> list[str]:
    rng = np.random.default_rng(0)
    tokens = np.exp(rng.normal(np.log(MEAN_TOKENS) - SIGMA**2 / 2, SIGMA, count))
    lengths = np.clip(tokens / TOKENS_PER_WORD, 3, MAX_TOKENS).astype(int)
    starts = rng.integers(0, len(prose) - MAX_TOKENS, count)
    return [" ".join(prose[start : start + length]) for start, length in zip(starts, lengths, strict=True)]


def counted(run: Callable[[], object], cpu: list[float]) -> Callable[[], None]:
    """`run` that also notes the processor seconds of all its threads: they do not mind what else the machine does."""

    def noted() -> None:
        start = time.process_time()
        run()
        cpu.append(time.process_time() - start)

    return noted


class Reruns:
    """Runs through store and cache in a folder of their own: the first, and one after some texts have changed."""

    def __init__(self, folder: Path, texts: Sequence[str], encoder: TextEncoder) -> None:
        self._store, self._cache, self._encoder = ArtefactStore(folder / "store"), TextCache(folder / "cache"), encoder
        every = round(1 / CHANGED)  # of the texts in order of length: those that change are as long as the others
        changed = np.argsort([len(text) for text in texts], kind="stable")[every // 2 :: every]
        later = list(texts)
        for i in changed.tolist():
            later[i] = "Now hiring: " + later[i]
        self._texts = [self._artefact(name, rows) for name, rows in (("first", texts), ("second", later))]

    def _artefact(self, name: str, texts: Sequence[str]) -> Artefact:
        columns = {"node": pa.array(range(len(texts)), pa.int32()), "valid_from": pa.nulls(len(texts), pa.int64())}
        with self._store.create("texts", name) as draft:
            pq.write_table(pa.table({**columns, "text": pa.array(texts)}), draft.path / "texts.parquet")
        return self._store.open("texts", name)

    def seconds(self) -> list[float]:
        """Of the first and of the second run."""
        found = []
        for texts in self._texts:
            start = time.perf_counter()
            encode_texts(texts, self._encoder, self._cache, self._store, texts.fingerprint)
            found.append(time.perf_counter() - start)
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer texts and rounds; under 50 s")
    args = parser.parse_args()
    count, rounds = (120, 2) if args.quick else (600, 3)
    with tempfile.TemporaryDirectory() as scratch:
        run(Path(scratch), count, rounds)


def run(scratch: Path, count: int, rounds: int) -> None:
    from sentence_transformers import SentenceTransformer

    model = long_model(scratch / "minilm")
    prose, source = words(model / "vocab.txt")
    texts = make_texts(prose, count)
    theirs = SentenceTransformer(str(model), device="cpu")
    ours, int8 = (
        open_encoder(TextConfig.model_validate({"encoder": str(model), "precision": precision}), Path())
        for precision in ("float32", "int8")
    )
    few = texts[:8]  # loads models and compiles kernels
    known, exact, _ = theirs.encode(few, normalize_embeddings=True), encode(ours, few), encode(int8, few)
    if float(np.abs(known - exact).max()) > 1e-5:
        raise SystemExit("the two encoders do not compute the same vectors")

    vectors: dict[str, Any] = {}
    cpu: dict[str, list[float]] = {"theirs": [], "ours": [], "int8": []}
    seconds = take_turns(
        {
            "theirs": counted(lambda: theirs.encode(texts, normalize_embeddings=True), cpu["theirs"]),
            "ours": counted(lambda: vectors.update(ours=encode(ours, texts)), cpu["ours"]),
            "int8": counted(lambda: vectors.update(int8=encode(int8, texts)), cpu["int8"]),
        },
        rounds,
        warm=0,
    )
    many = make_texts(prose, 2 * count)
    again = np.array([Reruns(scratch / f"rerun-{turn}", many, ours).seconds() for turn in range(max(1, rounds // 2))])
    cosine = (vectors["ours"] * vectors["int8"]).sum(1)
    pairs: dict[str, tuple[Sequence[float], Sequence[float]]] = {
        "vs_sentence_transformers": (seconds["theirs"], seconds["ours"]),
        "int8_vs_fp32": (seconds["ours"], seconds["int8"]),
        "rerun_speedup": (again[:, 0].tolist(), again[:, 1].tolist()),
    }
    figures = {
        **{f"{name}_texts_per_s": round(count / float(np.median(each)), 1) for name, each in seconds.items()},
        "int8_cosine": round(float(cosine.mean()), 5),
        "int8_cosine_min": round(float(cosine.min()), 5),
        "vs_sentence_transformers_cpu": round(ratio(cpu["theirs"], cpu["ours"]), 2),
        "int8_vs_fp32_cpu": round(ratio(cpu["ours"], cpu["int8"]), 2),
        "max_difference": float(f"{np.abs(known - exact).max():.1e}"),
    }
    ratios = {name: round(ratio(*each), 2) for name, each in pairs.items()}
    spreads = {name: spread(*each) for name, each in pairs.items()}
    report("text", ratios, spreads, figures, {"texts": count, "prose": source, "cores": CORES, "rounds": rounds})


if __name__ == "__main__":
    main()
