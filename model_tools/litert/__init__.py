"""TFLite files: written from ONNX graphs, and quantized."""
