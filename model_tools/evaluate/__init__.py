"""How well an ONNX model does."""
