"""The ONNX files: found, examined, and prepared for a device and a precision."""
