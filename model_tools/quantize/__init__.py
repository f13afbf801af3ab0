"""From a float32 ONNX model to smaller ones, each measured."""
