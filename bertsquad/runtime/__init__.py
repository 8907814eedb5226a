"""ONNX Runtime: sessions on a device, and the proof of what they really are."""
