"""The prediction service, built on FastAPI and ONNX Runtime; it imports neither Kedro nor TensorFlow."""
