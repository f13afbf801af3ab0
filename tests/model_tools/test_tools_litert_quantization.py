"""TFLite files made smaller: how near to float32 they stay, on networks like ours and on those of MLPerf Tiny."""

import warnings
from collections.abc import Callable

import numpy as np
import pytest

from tests.fakes import corpus
from tests.fakes.onnx_graphs import graph

pytest.importorskip("ai_edge_quantizer", reason="the extra `tflite` is not installed")

from model_tools.errors import BadData, BadInput
from model_tools.evaluate.noise import sqnr_db
from model_tools.graphs import LiteRtGraph
from model_tools.litert import flatbuffer
from model_tools.litert.conversion import convert_to_tflite
from model_tools.litert.float_form import float_form
from model_tools.litert.quantization import quantize_tflite
from model_tools.quantize.recipe import Recipe
from model_tools.running import answers
from tests.fakes import mlperf_rows

needs_corpus = pytest.mark.skipif(corpus.missing() is not None, reason=str(corpus.missing()))


def even(*shape: int) -> np.ndarray:
    """As torch draws its first weights."""
    return np.random.default_rng(len(shape)).uniform(-1, 1, shape).astype(np.float32)


def network() -> bytes:
    """Normalised pictures, three convolutions, a pool, one dense layer."""
    return convert_to_tflite(
        graph(
            "rows, 3, 16, 16",
            """s = Sub(input, m) n = Mul(s, k) c = Conv<pads = [1, 1, 1, 1], strides = [2, 2]>(n, w1) r = Relu(c)
               d = Conv<pads = [1, 1, 1, 1]>(r, w2) e = Relu(d) f = Conv<pads = [1, 1, 1, 1]>(e, w2) g = Relu(f)
               p = AveragePool<kernel_shape = [2, 2], strides = [2, 2]>(g) h = Flatten(p) logits = Gemm(h, w3)""",
            m=np.full((1, 3, 1, 1), 120, np.float32),
            k=np.full((1, 3, 1, 1), 1 / 60, np.float32),
            w1=even(16, 3, 3, 3) / 3,
            w2=even(16, 16, 3, 3) / 7,
            w3=even(16 * 16, 10) / 9,
        )
    )


def rows(count: int = 96) -> np.ndarray:
    """Pictures of very different brightness, as cameras give them."""
    rng = np.random.default_rng(0)
    return (rng.uniform(0, 255, (count, 3, 16, 16)) * rng.uniform(0.1, 1, (count, 1, 1, 1))).astype(np.float32)


def averaged(model: bytes, fed: np.ndarray) -> bytes:
    """As ai-edge-quantizer does it by itself: a moving average of each row's extremes."""
    from ai_edge_quantizer.quantizer import Quantizer
    from ai_edge_quantizer.recipe import static_wi8_ai8

    quantizer = Quantizer(bytearray(model), static_wi8_ai8())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        statistics = quantizer.calibrate({"serving_default": [{"input": row[None]} for row in fed]}, num_threads=1)
        return bytes(quantizer.quantize(statistics, enable_progress_report=False).quantized_model)


def test_true_ranges_keep_35_db_where_the_librarys_own_calibration_does_not() -> None:
    model, fed = network(), rows()
    wanted = answers("litert", model, fed)
    ours, theirs = quantize_tflite(model, fed, whole=True).model, averaged(model, fed)
    assert sqnr_db(wanted, answers("litert", ours, fed)) >= 35
    assert sqnr_db(wanted, answers("litert", theirs, fed)) <= 20


@pytest.mark.parametrize(
    ("recipe", "least_db", "most_share"),
    [
        pytest.param(Recipe("int8"), 35, 0.5, id="int8"),
        pytest.param(Recipe("int8", "percentile"), 30, 0.5, id="int8-percentile"),
        pytest.param(Recipe("int8", "mse"), 35, 0.5, id="int8-mse"),
        pytest.param(Recipe("int8", "entropy"), 30, 0.5, id="int8-entropy"),
        pytest.param(Recipe("dynamic"), 40, 0.5, id="dynamic"),
        pytest.param(Recipe("weights"), 40, 0.5, id="weights"),
        pytest.param(Recipe("fp16"), 60, 0.6, id="fp16"),
    ],
)
def test_each_recipe_is_small_and_near(recipe: Recipe, least_db: float, most_share: float) -> None:
    model, fed = network(), rows()
    made = quantize_tflite(model, fed, recipe).model
    assert made == quantize_tflite(model, fed, recipe).model
    assert sqnr_db(answers("litert", model, fed), answers("litert", made, fed)) >= least_db
    assert len(made) < most_share * len(model)
    assert LiteRtGraph(made, fused=True).inputs["input"].dtype == "float32"


def test_the_whole_graph_is_int8_where_that_is_asked_for() -> None:
    opened = LiteRtGraph(quantize_tflite(network(), rows(), Recipe("int8"), whole=True).model, fused=True)
    assert (opened.inputs["input"].dtype, opened.outputs["logits"].dtype) == ("int8", "int8")


def test_an_excluded_layer_stays_float() -> None:
    made = flatbuffer.decode(quantize_tflite(network(), rows(), Recipe("int8", excluded=("logits",))).model)
    kernels = {
        flatbuffer.operator_name(made, o): made.subgraphs[0].tensors[int(o.inputs[1])].type
        for o in made.subgraphs[0].operators
        if len(o.inputs) > 1
    }
    assert (kernels["FULLY_CONNECTED"], kernels["CONV_2D"]) == (0, 9)


def test_an_outlier_is_said_and_left_out() -> None:
    fed = rows()
    fed[17] *= 1_000
    made = quantize_tflite(network(), fed, Recipe("int8"))
    assert "[17]" in made.warnings[0]
    usual = np.delete(fed, 17, axis=0)
    assert sqnr_db(answers("litert", network(), usual), answers("litert", made.model, usual)) >= 35


@pytest.mark.parametrize(
    ("model", "fed", "error", "field"),
    [
        pytest.param(lambda: b"ONNX", rows(), BadInput, "model", id="no-tflite"),
        pytest.param(lambda: network()[:3_000], rows(), BadInput, "model", id="torn"),
        pytest.param(network, None, BadData, "quantize.rows", id="no-rows"),
        pytest.param(network, rows()[:, :2], BadData, "quantize.rows", id="other-shape"),
        pytest.param(network, rows() * np.float32(np.inf), BadInput, "quantize.rows", id="infinite"),
        pytest.param(lambda: quantize_tflite(network(), rows(), Recipe("int8")).model, rows(), BadInput, "model", id="quantized-already"),
    ],
)
def test_bad_input_is_named(model: Callable[[], bytes], fed: np.ndarray | None, error: type[BadInput], field: str) -> None:
    with np.errstate(invalid="ignore"), pytest.raises(error) as refused:
        quantize_tflite(model(), fed, Recipe("int8"))
    assert refused.value.field == field


def read(name: str) -> bytes:
    return (corpus.folder() / f"mlperf_tiny/models/{name}.tflite").read_bytes()


def agreement(one: np.ndarray, other: np.ndarray) -> float:
    return float((one.argmax(axis=1) == other.argmax(axis=1)).mean())


@needs_corpus
class TestMlperfTiny:
    """Reference int8 files beside ours, both made from the same float ones."""

    def test_wake_words_on_the_samples_given_there(self) -> None:
        """There is no float file: ours is made from what the reference stands for."""
        spectrograms, labels = mlperf_rows.wake_words()
        reference = read("str_ww_ref_model")
        plain = float_form(reference, thaw=True)
        ours = quantize_tflite(plain, spectrograms, whole=True).model
        one, other = (answers("litert", model, spectrograms) for model in (ours, reference))
        assert agreement(one, other) >= 0.99
        assert abs((one.argmax(axis=1) == labels).mean() - (other.argmax(axis=1) == labels).mean()) <= 0.01

    @pytest.mark.parametrize(
        ("name", "reference", "fed"),
        [
            pytest.param("pretrainedResnet", "pretrainedResnet_quant", lambda: mlperf_rows.pictures(160, 32), id="pictures"),
            pytest.param(
                "pretrainedResnet_large_float", "pretrainedResnet_large_int8", lambda: mlperf_rows.pictures(80, 32), id="pictures-large"
            ),
            pytest.param("vww_96_float", "vww_96_int8", lambda: mlperf_rows.pictures(64, 96) / 255, id="persons"),
            pytest.param("kws_ref_model_float32", "kws_ref_model", mlperf_rows.keywords, id="keywords"),
        ],
    )
    def test_ours_keeps_the_float_models_answers_as_often(self, name: str, reference: str, fed: Callable[[], np.ndarray]) -> None:
        given = np.ascontiguousarray(fed(), np.float32)
        plain = read(name)
        wanted = answers("litert", float_form(plain), given[1::2])
        ours = answers("litert", quantize_tflite(plain, given[::2], whole=True).model, given[1::2])
        theirs = answers("litert", read(reference), given[1::2])
        assert agreement(ours, wanted) >= agreement(theirs, wanted) - 0.01
        assert sqnr_db(wanted, ours) >= sqnr_db(wanted, theirs)

    def test_ours_keeps_the_anomaly_scores(self) -> None:
        given = mlperf_rows.machines()
        plain = read("ad01_fp32")

        def score(model: bytes) -> np.ndarray:
            return np.square(answers("litert", model, given[1::2]) - given[1::2]).mean(axis=1)

        wanted = score(plain)
        ours, theirs = score(quantize_tflite(plain, given[::2], whole=True).model), score(read("ad01_int8"))
        assert np.abs(ours / wanted - 1).mean() <= 0.05
        assert np.abs(ours / wanted - 1).mean() <= np.abs(theirs / wanted - 1).mean()
