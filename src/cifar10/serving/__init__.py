"""The prediction service: FastAPI and ONNX Runtime, without Kedro and without TensorFlow."""
