"""Networks from ONNX files, and into them."""
