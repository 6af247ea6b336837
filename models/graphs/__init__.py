"""ONNX graphs: exported from PyTorch, written node by node, quantised."""
