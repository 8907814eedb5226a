"""ONNX Runtime: sessions on a device, and the proof of what they really are.

- `availability`: why a device can't be had, as far as shows without loading a runtime.
- `parallelism`: how the cores are divided into instances and threads.
- `sessions`: an ONNX Runtime session on one device.
- `openvino`: what OpenVINO's plugin needs.
- `nvidia`: what NVIDIA GPUs need.
- `proofs`: proofs of a session's provider and precision.
- `engine`: a prepared model on a device: its sessions, with their proof.
- `inference`: where batches come from and who calculates them, instances side by side.
"""
