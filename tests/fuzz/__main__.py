"""Coverage-guided fuzzing of one reader, or of `all` together: `python -m tests.fuzz NAME --runs N [--seed S] [--corpus FOLDER]`;
without a name, lists them.

libFuzzer takes over the process: it ends with 0 when no run raised anything but the documented errors, took too long or too much memory.
The input that did is written to the working folder; run it again with `--input FILE`.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["fleet_contract", "edge_agent", "tuf"]):
    from tests.fuzz.decoders import Decoder, decoders

RUN_TIMEOUT_S = 10
MAX_MEMORY_MB = 2_048
MAX_INPUT_BYTES = 64 * 1024


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?")
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--corpus", type=Path, help="a folder that keeps what was found interesting")
    parser.add_argument("--input", type=Path, help="run this one input and end")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        known = dict(decoders(Path(scratch)))
        known["all"] = together(list(known.values()))
        if given.name not in known:
            sys.stdout.write("\n".join(sorted(known)) + "\n")
            return 0 if given.name is None else 2
        if given.input:
            feed(known[given.name], given.input.read_bytes())
        else:
            fuzz(known[given.name], given.corpus or Path(scratch) / "corpus", given.runs, given.seed)
    return 0


def together(each: Sequence[Decoder]) -> Decoder:
    """The first byte chooses."""
    seeds = tuple(bytes([number]) + seed for number, decoder in enumerate(each) for seed in decoder.seeds)
    return Decoder(lambda data: feed(each[data[0] % len(each)], data[1:]) if data else None, (), seeds)


def feed(decoder: Decoder, data: bytes) -> None:
    try:
        decoder.decode(data)
    except decoder.errors:
        return


def fuzz(decoder: Decoder, corpus: Path, runs: int, seed: int) -> None:
    """Does not return."""
    corpus.mkdir(parents=True, exist_ok=True)
    for number, specimen in enumerate(decoder.seeds):
        (corpus / f"seed-{number}").write_bytes(specimen)
    bounds = [f"-timeout={RUN_TIMEOUT_S}", f"-rss_limit_mb={MAX_MEMORY_MB}", f"-max_len={MAX_INPUT_BYTES}"]
    atheris.Setup(
        ["fuzz", f"-runs={runs}", f"-seed={seed}", "-print_final_stats=1", *bounds, str(corpus)], lambda data: feed(decoder, data)
    )
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
