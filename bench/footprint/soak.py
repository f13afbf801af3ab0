"""A child: an inference host that swaps between two bundles and answers between the swaps. `python -m bench.footprint.soak INFERENCES SWAPS` writes
one line of JSON: the memory of supervisor and worker after each swap's share of the inferences."""

import os
import sys

import msgspec
import numpy as np

from bench.footprint.figures import look
from edge_agent.clock import SystemClock
from edge_agent.inference.host import InferenceHost
from firmware_profiles import catalog
from fleet_contract.bundle import Bundle
from tests.fakes import agent_run_models as models


class Soaked(msgspec.Struct, frozen=True):
    """Bytes after each swap: resident in the supervisor, and the share (PSS) of supervisor and worker together."""

    supervisor_bytes: list[int]
    sum_bytes: list[int]


def main(inferences: int, swaps: int) -> Soaked:
    bundles = [
        Bundle(models.bundle({"fp32": models.linear(models.WEIGHT * scale)}, answers=models.KNOWN_LOGITS * scale, version=f"{scale}.0.0"))
        for scale in (1, 2)
    ]
    host = InferenceHost(catalog.load("generic-x86-64"), SystemClock())
    rows = np.zeros((1, 2), np.float32)
    looks = []
    try:
        for swap in range(swaps):
            host.activate(bundles[swap % 2])
            for _ in range(inferences // swaps):
                host.infer({"input": rows})
            looks.append(look(os.getpid()))
    finally:
        host.close()
    return Soaked([each.rss_bytes for each in looks], [each.pss_bytes for each in looks])

    return os.getpid()


if __name__ == "__main__":
    sys.stdout.write(msgspec.json.encode(main(*map(int, sys.argv[1:]))).decode())
