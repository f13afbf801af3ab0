"""Which operators a backend computes itself; what it does not take, the CPU does, at the price of copies. Written from the engines' own documentation,
without a board at hand: the proof on the board has the last word.
"""

from firmware_profiles.catalog import Backend

_XNNPACK = frozenset(
    (
        "AveragePool",
        "Conv",
        "ConvTranspose",
        "MatMul",
        "Gemm",
        "MaxPool",
        "Resize",
        "Softmax",
        "QLinearConv",
        "QLinearAveragePool",
        "QLinearSoftmax",
    )
)
"""https://onnxruntime.ai/docs/execution-providers/Xnnpack-ExecutionProvider.html"""
_QNN = frozenset(
    (
        *(
            "Abs",
            "Add",
            "And",
            "ArgMax",
            "ArgMin",
            "Asin",
            "Atan",
            "AveragePool",
            "BatchNormalization",
            "Cast",
            "Ceil",
            "Clip",
            "Concat",
            "Conv",
        ),
        *(
            "ConvTranspose",
            "Cos",
            "DepthToSpace",
            "DequantizeLinear",
            "Div",
            "Elu",
            "Equal",
            "Exp",
            "Expand",
            "Flatten",
            "Floor",
            "Gather",
            "Gelu",
        ),
        *("Gemm", "GlobalAveragePool", "Greater", "GridSample", "HardSigmoid", "HardSwish", "InstanceNormalization", "LayerNormalization"),
        *(
            "LeakyRelu",
            "Less",
            "Log",
            "LogSoftmax",
            "LRN",
            "MatMul",
            "Max",
            "MaxPool",
            "Min",
            "Mul",
            "Neg",
            "Not",
            "Or",
            "Pad",
            "Pow",
            "PRelu",
        ),
        *(
            "QuantizeLinear",
            "ReduceMax",
            "ReduceMean",
            "ReduceMin",
            "ReduceProd",
            "ReduceSum",
            "Relu",
            "Reshape",
            "Resize",
            "Round",
            "Sigmoid",
            "Sign",
        ),
        *(
            "Sin",
            "Slice",
            "Softmax",
            "SpaceToDepth",
            "Split",
            "Sqrt",
            "Squeeze",
            "Sub",
            "Tanh",
            "Tile",
            "TopK",
            "Transpose",
            "Unsqueeze",
            "Where",
        ),
    )
)
"""https://onnxruntime.ai/docs/execution-providers/QNN-ExecutionProvider.html"""
_EDGE_TPU = frozenset(
    (
        *(
            "ADD",
            "AVERAGE_POOL_2D",
            "CONCATENATION",
            "CONV_2D",
            "DEPTHWISE_CONV_2D",
            "EXPAND_DIMS",
            "FULLY_CONNECTED",
            "L2_NORMALIZATION",
            "LOGISTIC",
        ),
        *(
            "LSTM",
            "MAXIMUM",
            "MAX_POOL_2D",
            "MEAN",
            "MINIMUM",
            "MUL",
            "PACK",
            "PAD",
            "PRELU",
            "REDUCE_MAX",
            "REDUCE_MIN",
            "RELU",
            "RELU6",
            "RELU_N1_TO_1",
        ),
        *(
            "RESHAPE",
            "RESIZE_BILINEAR",
            "RESIZE_NEAREST_NEIGHBOR",
            "RSQRT",
            "SLICE",
            "SOFTMAX",
            "SPACE_TO_DEPTH",
            "SPLIT",
            "SQUEEZE",
            "STRIDED_SLICE",
        ),
        *("SUB", "SUM", "SQUARED_DIFFERENCE", "TANH", "TRANSPOSE", "TRANSPOSE_CONV", "QUANTIZE"),
    )
)
"""https://coral.ai/docs/edgetpu/models-intro/#supported-operations"""
_TEFLON = frozenset(("ADD", "CONCATENATION", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "PAD", "SPLIT"))
"""https://docs.mesa3d.org/teflon.html"""
_ONNX_KNOWN = {"XnnpackExecutionProvider": _XNNPACK, "QNNExecutionProvider": _QNN}
_LITERT_KNOWN = {"edgetpu": _EDGE_TPU, "teflon": _TEFLON}
NEEDED = {"edgetpu": "once edgetpu_compiler has made it of the model"}
"""What has to be done before a backend takes any."""


def taken_by(backend: Backend) -> frozenset[str] | None:
    """The operators it computes; None where nobody lists them: the board's own trial tells. A CPU takes all that its engine knows."""
    known = _ONNX_KNOWN.get(backend.provider) if backend.runtime == "onnxruntime" else _LITERT_KNOWN.get(backend.name)
    return known
