"""The Open Inference Protocol v2 as REST, with the extension of binary tensors."""
