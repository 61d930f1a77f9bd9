"""A GPU and a TensorRT that need neither: what drives them runs for real, over threads and ONNX Runtime."""
