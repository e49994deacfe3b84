"""ONNX files as torch modules that the reader of whole modules watches, compared with ONNX Runtime."""
