"""The ONNX files: found, examined, and prepared for a device and a precision.

- `zoo`: the models that the suite knows, and any other given by its path.
- `own_model`: which file the user's own model is, and what lies beside it.
- `onnx_file`: an ONNX file loaded or written, and the other files that hold weights of it.
- `reads`: what a model is fed with.
- `config`: what a model's `config.json` says of it.
- `fitting`: from a model to the reading that fits it, before anything runs.
- `skimming`: an ONNX file read without what its weights hold.
- `signature`: a model's inputs and outputs by role, its fixed sizes, its products.
- `values`: what a graph says of its inputs and outputs: their types and sizes.
- `outputs`: which outputs hold the start and the end logits.
- `asking`: questions with known answers, which tell outputs apart.
- `embedding`: how many ids, positions and kinds of segments a model has.
- `matching`: whether a tokeniser and a model belong together.
- `products`: what a matrix product is, and which can be quantised.
- `stored`: in what precision a model's matrix products are stored.
- `preparation`: a file made ready to run: sizes opened, the precision written in.
- `equality`: whether a changed copy of a model gives the original's logits.
- `calibration`: what enters a model's products, seen on a few windows.
- `quantisation`: a float model made an int8 one.
- `scales`: how an int8 tensor is scaled.
- `random_bert`: a BERT-large with random weights, for speed alone.
"""
