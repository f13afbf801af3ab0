"""The model behind LitServe; runs in LitServe's own environment. `python litserve_model.py PORT`, beside model.onnx."""

import sys

import litserve
import numpy as np
import onnxruntime


class Perceptron(litserve.LitAPI):
    def setup(self, device: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession("model.onnx", options, providers=["CPUExecutionProvider"])

    def decode_request(self, request: dict) -> np.ndarray:
        return np.array(request["input"], np.float32)

    def predict(self, rows: np.ndarray) -> np.ndarray:
        return self._session.run(None, {"input": rows})[0]

    def encode_response(self, logits: np.ndarray) -> dict:
        return {"logits": logits.tolist()}


if __name__ == "__main__":
    litserve.LitServer(Perceptron(), accelerator="cpu").run(port=int(sys.argv[1]), generate_client_file=False, log_level="warning")
