"""Tiny extractive-QA models of seven families, as Hugging Face's tools leave them in a folder.

    python3.11 -m venv made && made/bin/pip install torch==2.13.0 transformers==4.57.6 \
        optimum==2.1.0 optimum-onnx==0.1.0 onnx==1.23.2 onnxruntime==1.32.0 onnxscript==0.7.2 \
        sentencepiece==0.2.3 protobuf==7.36.2 tokenizers==0.22.2
    made/bin/python tools/export_families.py tests/families

The weights are random, with a fixed seed: the tests ask whether the suite feeds a model and reads
its logits rightly, not whether it knows anything. The tokenisers are real: trained on the contexts
of bertsquad/pocket/pocket-v1.1.json (CC0), and written by the family's own class of transformers.
Each model is exported in two ways: `optimum/FAMILY` is what
`optimum-cli export onnx --task question-answering` writes, `torch/FAMILY` what PyTorch's own
exporter (`torch.onnx.export`, at the newest opset that it has) writes beside the fast tokeniser,
with the weights in a file of their own. `others` has one that is fused for ONNX Runtime, and one
that is quantised.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
import transformers
from vocabularies import byte_level, unigram, wordpiece

#: Windows of 384 tokens and more must fit, as in the models that these stand for.
POSITIONS = 512
HIDDEN = 16
SHARED = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
#: So wide that logits differ clearly.
SPREAD = 0.3
#: Weights are multiples of this: the files then pack to a quarter.
GRAIN = 1 / 32
OPSET = 23


@dataclass(frozen=True)
class Family:
    """A model, its tokeniser, and what makes this family unlike others.

    `stored` are truncation and padding that stand in its tokenizer.json, as in many on the hub.
    """

    model: str
    tokenizer: str
    vocabulary: Callable[[Path], dict[str, Any]]
    settings: Mapping[str, Any]
    positions: int = POSITIONS
    rows_to_spare: int = 0
    stored: bool = False


FAMILIES = {
    "bert_uncased": Family(
        "Bert", "Bert", lambda at: wordpiece(at, lowercase=True), {"hidden_size": HIDDEN, **SHARED}
    ),
    "bert_cased": Family(
        "Bert",
        "Bert",
        lambda at: wordpiece(at, lowercase=False),
        {"hidden_size": HIDDEN, **SHARED},
        stored=True,
    ),
    "distilbert": Family(
        "DistilBert",
        "DistilBert",
        lambda at: wordpiece(at, lowercase=False),
        {"dim": HIDDEN, "n_layers": 1, "n_heads": 2, "hidden_dim": 32},
    ),
    "roberta": Family(
        "Roberta",
        "Roberta",
        byte_level,
        {"hidden_size": HIDDEN, "type_vocab_size": 1, **SHARED},
        positions=POSITIONS + 2,
    ),
    "albert": Family(
        "Albert",
        "Albert",
        lambda at: unigram(
            at,
            "spiece.model",
            pad_id=0,
            unk_id=1,
            bos_id=-1,
            eos_id=-1,
            control_symbols=["[CLS]", "[SEP]", "[MASK]"],
        ),
        {"hidden_size": HIDDEN, "embedding_size": 8, **SHARED, "num_hidden_layers": 2},
    ),
    "xlm_roberta": Family(
        "XLMRoberta",
        "XLMRoberta",
        lambda at: unigram(at, "sentencepiece.bpe.model", whole=True),
        {"hidden_size": HIDDEN, "type_vocab_size": 1, **SHARED},
        positions=POSITIONS + 2,
    ),
    "deberta_v2": Family(
        "DebertaV2",
        "DebertaV2",
        lambda at: unigram(
            at,
            "spm.model",
            pad_id=0,
            bos_id=1,
            eos_id=2,
            unk_id=3,
            pad_piece="[PAD]",
            bos_piece="[CLS]",
            eos_piece="[SEP]",
            unk_piece="[UNK]",
        ),
        # As in DeBERTa-v3, whose embedding has more rows than its tokeniser has pieces.
        {
            "hidden_size": HIDDEN,
            "type_vocab_size": 0,
            "relative_attention": True,
            "position_buckets": 32,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_biased_input": False,
            **SHARED,
        },
        rows_to_spare=7,
    ),
}


#: What else Optimum's command makes of a model: a name for it, and the command's words.
OTHERS = {
    "roberta": (
        "fused",
        "export onnx --task question-answering --optimize O2 --model {source} {target}",
    ),
    "distilbert": (
        "quantised",
        "onnxruntime quantize --avx512_vnni --onnx_model {exported} -o {target}",
    ),
}


def make(family: Family, at: Path) -> tuple[Any, Any]:
    """A random model and its tokeniser, written to the empty folder `at` as transformers does."""
    raw = at.parent / "raw"
    raw.mkdir()
    tokenizer = getattr(transformers, f"{family.tokenizer}TokenizerFast")(
        **family.vocabulary(raw), model_max_length=POSITIONS
    )
    if family.stored:
        tokenizer.backend_tokenizer.enable_truncation(128)
        tokenizer.backend_tokenizer.enable_padding(length=128)
    config = getattr(transformers, f"{family.model}Config")(
        vocab_size=len(tokenizer) + family.rows_to_spare,
        max_position_embeddings=family.positions,
        initializer_range=SPREAD,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        **family.settings,
    )
    torch.manual_seed(13)
    model = getattr(transformers, f"{family.model}ForQuestionAnswering")(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_((parameter / GRAIN).round() * GRAIN)
    model.save_pretrained(at)
    tokenizer.save_pretrained(at)
    return model, tokenizer


def optimum(words: str) -> None:
    """Call Optimum's command."""
    command = Path(sys.executable).with_name("optimum-cli")
    done = subprocess.run([command, *words.split()], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"optimum-cli {words} failed:\n{done.stdout}{done.stderr}")


def by_torch(model: Any, tokenizer: Any, source: Path, target: Path) -> None:
    """Export a model as PyTorch's own exporter does: its weights are in a file of their own."""
    others = shutil.ignore_patterns("*.safetensors", "*.model", "vocab*", "merges.txt")
    shutil.copytree(source, target, ignore=others)
    inputs = dict(tokenizer(["Who?", "When?"], ["He did."] * 2, return_tensors="pt", padding=True))
    axes = {0: torch.export.Dim("batch", min=1), 1: torch.export.Dim("tokens", min=2, max=512)}
    program = torch.onnx.export(
        model,
        kwargs=inputs,
        dynamo=True,
        opset_version=OPSET,
        input_names=list(inputs),
        output_names=["start_logits", "end_logits"],
        dynamic_shapes=dict.fromkeys(inputs, axes),
        verbose=False,
    )
    proto = program.model_proto
    _forget_sources([*proto.graph.node, *(n for f in proto.functions for n in f.node)])
    onnx.save(
        proto,
        target / "model.onnx",
        save_as_external_data=True,
        location="model.onnx.data",
        size_threshold=256,
    )


def _forget_sources(nodes: Iterable[Any]) -> None:
    """Take away what the exporter notes about each node: paths, and half of the file."""
    for node in nodes:
        del node.metadata_props[:]
        node.ClearField("doc_string")


def difference(model: Any, tokenizer: Any, file: Path) -> float:
    """The largest difference between the logits of PyTorch and of ONNX Runtime for two windows."""
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    names = {value.name for value in session.get_inputs()}
    tokens = tokenizer(
        ["Where is Łódź?", "Who cheered?"],
        ["東京は日本の首都です。 " * 9, "The crowd cheered 👍🏽."],
        padding=True,
        return_tensors="pt",
    )
    with torch.no_grad():
        out = model(**tokens)
    expected = np.stack([out.start_logits.numpy(), out.end_logits.numpy()])
    given = {name: array.numpy() for name, array in tokens.items() if name in names}
    got = np.stack(session.run(["start_logits", "end_logits"], given))
    return float(np.abs(got - expected).max())


def main(out: Path) -> None:
    """Make all of it anew in the folder `out`."""
    for name, family in FAMILIES.items():
        with tempfile.TemporaryDirectory() as temporary:
            # Optimum writes the folder's name into config.json.
            source = Path(temporary) / name
            model, tokenizer = make(family, source)
            exported, by_pytorch = out / "optimum" / name, out / "torch" / name
            targets = [exported, by_pytorch]
            if name in OTHERS:
                kind, words = OTHERS[name]
                targets.append(out / "others" / f"{name}_{kind}")
            for target in targets:
                shutil.rmtree(target, ignore_errors=True)
            optimum(f"export onnx --task question-answering --model {source} {exported}")
            by_torch(model, tokenizer, source, by_pytorch)
            if name in OTHERS:
                optimum(words.format(source=source, exported=exported, target=targets[-1]))
            for target in targets:
                (file,) = target.glob("*.onnx")
                apart = difference(model, tokenizer, file)
                print(f"{target}: largest difference to PyTorch's logits {apart:.1e}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
