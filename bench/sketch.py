"""What it costs an agent to sketch a stream of 128 features in the micro-batches it really runs, and what others would cost on that stream.

Each contender is fed as its users feed it: the sketcher by `add`, the folds of its waiting rows included; np.histogram once a feature and batch;
ADWIN (river) one detector a feature, value by value, with a look at its verdict; KLL (datasketches) by its vectorised update of all features,
the fastest of its interfaces here. All stay alive from round to round, as in a long-running agent.
"""

import importlib.util
import statistics
from collections.abc import Callable, Iterator

import numpy as np

from bench.measure import Aim, Contender, Report, interleave, ratio
from edge_agent.monitor.counting import counter_for
from fleet_contract.sketch import Feature, Grid, Sketcher

FEATURES = 128
BINS = 64
ROWS = 512
WINDOW_ROWS = 8_192
AGENT_BATCH = 16
BATCHES = (AGENT_BATCH, 64, 256)
ROUNDS = 15
ADWIN_TIMES = 100
KLL_TIMES = 5


def run() -> Report:
    stream = np.random.default_rng(20).normal(size=(ROWS, FEATURES)).astype(np.float32)
    contenders = {f"sketch, batches of {rows}": Contender(_sketcher(stream, rows), WINDOW_ROWS * FEATURES) for rows in BATCHES}
    contenders["np.histogram a feature"] = Contender(_histogram(stream[:64]), stream[:64].size)
    if importlib.util.find_spec("river"):
        contenders["river ADWIN"] = Contender(_adwin(stream), stream.size)
    if importlib.util.find_spec("datasketches"):
        contenders["datasketches KLL"] = Contender(_kll(stream), stream.size)
    times = interleave(contenders, ROUNDS)
    agent = f"sketch, batches of {AGENT_BATCH}"
    aims = [
        Aim("times cheaper than ADWIN", _rounded(ratio(times, "river ADWIN", agent)), ADWIN_TIMES),
        Aim("times cheaper than KLL", _rounded(ratio(times, "datasketches KLL", agent)), KLL_TIMES),
    ]
    return Report("sketch", [("", "ns a value", "times the agent's sketch"), *_lines(times, agent)], aims)


def _lines(times: dict[str, list[float]], agent: str) -> Iterator[tuple[str, ...]]:
    for name, spent in times.items():
        yield name, f"{statistics.median(spent):.1f}", f"{ratio(times, name, agent):.1f}"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


def _batches(stream: np.ndarray, rows: int) -> list[np.ndarray]:
    return [stream[at : at + rows] for at in range(0, len(stream), rows)]


def _sketcher(stream: np.ndarray, rows: int) -> Callable[[], None]:
    grid = Grid([Feature(f"f{number}", "input", -4.0, 4.0) for number in range(FEATURES)], BINS)
    sketcher = Sketcher(grid, counter_for(grid))
    batches = _batches(stream, rows) * (WINDOW_ROWS // len(stream))

    def turn() -> None:
        for batch in batches:
            sketcher.add(batch)
        sketcher.sketch()
        sketcher.reset()

    return turn


def _histogram(stream: np.ndarray) -> Callable[[], None]:
    counts = np.zeros((FEATURES, BINS), np.int64)
    batches = _batches(stream, AGENT_BATCH)

    def turn() -> None:
        for batch in batches:
            for feature in range(FEATURES):
                counts[feature] += np.histogram(batch[:, feature], BINS, (-4.0, 4.0))[0]

    return turn


def _adwin(stream: np.ndarray) -> Callable[[], None]:
    from river.drift import ADWIN
    from river.stream import iter_array

    names = [f"f{number}" for number in range(FEATURES)]
    detectors = {name: ADWIN() for name in names}
    batches = _batches(stream, AGENT_BATCH)
    alarms: list[str] = []

    def turn() -> None:
        for batch in batches:
            for row, _ in iter_array(batch, feature_names=names):
                for name, value in row.items():
                    detector = detectors[name]
                    detector.update(value)
                    if detector.drift_detected:
                        alarms.append(name)

    return turn


def _kll(stream: np.ndarray) -> Callable[[], None]:
    from datasketches import vector_of_kll_floats_sketches

    sketches = vector_of_kll_floats_sketches(200, FEATURES)
    batches = _batches(stream, AGENT_BATCH)

    def turn() -> None:
        for batch in batches:
            sketches.update(batch)

    return turn
