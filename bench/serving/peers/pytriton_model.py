"""The model behind Triton; runs in pytriton's own environment. `python pytriton_model.py HTTP_PORT GRPC_PORT METRICS_PORT`, beside model.onnx."""

import sys

import numpy as np
import onnxruntime
from pytriton.decorators import batch
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig


def main(http: int, grpc: int, metrics: int) -> None:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession("model.onnx", options, providers=["CPUExecutionProvider"])

    @batch
    def infer(**inputs: np.ndarray) -> list[np.ndarray]:
        return session.run(None, {"input": inputs["input"]})

    with Triton(config=TritonConfig(http_port=http, grpc_port=grpc, metrics_port=metrics)) as triton:
        given, told = Tensor(name="input", dtype=np.float32, shape=(-1,)), Tensor(name="logits", dtype=np.float32, shape=(-1,))
        triton.bind("toy", infer, [given], [told], config=ModelConfig(max_batch_size=16))
        triton.serve()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
