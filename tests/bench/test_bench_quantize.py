"""What the benchmark of quantizing calls a miss."""

from types import SimpleNamespace

import pytest

from bench import quantize


def line(maker: str, **figures: object) -> SimpleNamespace:
    usual = {"accuracy": 0.9, "sqnr_db": 40.0, "bytes": 250, "latency_us": 10.0, "said": ""}
    return SimpleNamespace(maker=maker, case=SimpleNamespace(name="net", heavy=True), **{**usual, **figures})


@pytest.mark.parametrize(
    ("ours", "missed"),
    [
        pytest.param({}, [], id="all is well"),
        pytest.param({"accuracy": 0.894}, ["points of accuracy lost"], id="less accurate than float"),
        pytest.param({"sqnr_db": 29.9}, ["dB over plain defaults"], id="noisier than plain defaults"),
        pytest.param({"bytes": 300}, ["times smaller where weights dominate"], id="hardly smaller"),
        pytest.param({"latency_us": 11.0}, ["slower than float without a word"], id="slower, and silent"),
        pytest.param({"latency_us": 11.0, "said": "slower-than-float: 11 us"}, [], id="slower, and said"),
    ],
)
def test_each_aim_has_its_miss(ours: dict, missed: list[str]) -> None:
    plain = line("onnxruntime defaults", sqnr_db=30.0)
    aims = quantize._aims([line("float", bytes=1_000), line("ours", **ours), plain])
    assert [aim.name for aim in aims if not aim.holds] == missed
