"""The commands of `model-tools`, one noun a file; cli.py puts them together. torch, onnx and tuf are imported by the commands that need them."""
