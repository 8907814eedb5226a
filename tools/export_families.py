"""Tiny extractive-QA models of seven families, as Hugging Face's tools leave them in a folder.

    python3.11 -m venv made && made/bin/pip install torch==2.13.0 transformers==4.57.6 \
        optimum==2.1.0 optimum-onnx==0.1.0 onnx==1.23.2 onnxruntime==1.32.0 onnxscript==0.7.2 \
        sentencepiece==0.2.3 protobuf==7.36.2 tokenizers==0.22.2
    made/bin/python tools/export_families.py tests/families

The weights are random, with a fixed seed: the tests ask whether the suite feeds a model and reads
its logits rightly, not whether it knows anything. The tokenisers are real: trained on the contexts
of bertsquad/pocket/pocket-v1.1.json (CC0) and on a few lines in other scripts below, and written by
the family's own class of transformers. Each model is exported in two ways: `optimum/FAMILY` is what
`optimum-cli export onnx --task question-answering` writes, `torch/FAMILY` what PyTorch's own
exporter (`torch.onnx.export`, at the newest opset that it has) writes beside the fast tokeniser,
with the weights in a file of their own.
"""

import contextlib
import io
import json
import shutil
import subprocess
import sys
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import sentencepiece
import torch
import transformers
from tokenizers import ByteLevelBPETokenizer, Tokenizer, models, normalizers, pre_tokenizers
from tokenizers.trainers import WordPieceTrainer

ROOT = Path(__file__).resolve().parents[1]
POCKET = ROOT / "bertsquad" / "pocket" / "pocket-v1.1.json"

#: Windows of 384 tokens and more must fit, as in the models that these stand for.
POSITIONS = 512
HIDDEN = 16
SHARED = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
#: So wide that logits differ clearly.
SPREAD = 0.3
#: Weights are multiples of this: the files then pack to a quarter.
GRAIN = 1 / 32
OPSET = 23

OTHER_SCRIPTS = (
    "Zoë's café in São Tomé served crème brûlée; naïve façades, Ångström and Łódź.",
    "東京は日本の首都です。北京是中国的首都。",
    "Москва — столица России. Αθήνα: πόλη της Ελλάδας.",
    "ירושלים היא עיר עתיקה. القاهرة عاصمة مصر.",
    "The rocket 🚀 rose over the lake 🌊 while the crowd cheered 👍🏽.",
)
#: So many letters are in a WordPiece vocabulary; others are unknown.
ALPHABET = 120
WORDPIECES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def texts() -> list[str]:
    """What the tokenisers are trained on."""
    articles = json.loads(POCKET.read_bytes())["data"]
    contexts = [paragraph["context"] for a in articles for paragraph in a["paragraphs"]]
    return [*contexts, *OTHER_SCRIPTS]


def wordpiece(folder: Path, lowercase: bool, size: int = 500) -> dict[str, Any]:
    """BERT's vocabulary, as the arguments of a tokeniser of transformers."""
    tokenizer = Tokenizer(models.WordPiece(unk_token=WORDPIECES[1]))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    counts = Counter("".join(tokenizer.normalizer.normalize_str(text) for text in texts()))
    common = sorted(counts, key=lambda one: (-counts[one], one))[:ALPHABET]
    letters = sorted(one for one in common if not one.isspace())
    trainer = WordPieceTrainer(
        vocab_size=size,
        # The letters too, or their order, and with it what is merged, would differ each time.
        special_tokens=[*WORDPIECES, *letters, *(f"##{letter}" for letter in letters)],
        initial_alphabet=letters,
        limit_alphabet=len(letters),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts(), trainer)
    ids = tokenizer.get_vocab()
    file = folder / "vocab.txt"
    file.write_text("".join(f"{token}\n" for token in sorted(ids, key=ids.__getitem__)), "utf-8")
    return {"vocab_file": str(file), "do_lower_case": lowercase}


def byte_level(folder: Path, size: int = 400) -> dict[str, Any]:
    """RoBERTa's vocabulary and merges: pairs of bytes, the mask as the last of all ids."""
    tokenizer = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    tokenizer.train_from_iterator(texts(), size - 1, special_tokens=special, show_progress=False)
    tokenizer.save_model(str(folder))
    file = folder / "vocab.json"
    vocabulary = json.loads(file.read_bytes())
    vocabulary["<mask>"] = len(vocabulary)
    file.write_text(json.dumps(vocabulary, ensure_ascii=False), "utf-8")
    return {"vocab_file": str(file), "merges_file": str(folder / "merges.txt")}


def unigram(folder: Path, name: str, whole: bool = False, **special: Any) -> dict[str, Any]:
    """A SentencePiece model, which transformers turns into a fast tokeniser by itself.

    Its normaliser knows all that NFKC changes if `whole`: a quarter of a megabyte.
    """
    rules = folder / "rules.tsv"
    rules.write_text("".join(f"{ord(old):X}\t{new}\n" for old, new in _few_rules()), "ascii")
    form = (
        {"normalization_rule_name": "nmt_nfkc"} if whole else {"normalization_rule_tsv": rules.name}
    )
    model = io.BytesIO()
    with contextlib.chdir(folder):  # all that is given here stands in the file
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts()),
            model_writer=model,
            vocab_size=400,
            model_type="unigram",
            character_coverage=0.9999,
            num_threads=1,
            minloglevel=2,
            **form,
            **special,
        )
    file = folder / name
    file.write_bytes(model.getvalue())
    return {"vocab_file": str(file)}


def _few_rules() -> Iterator[tuple[str, str]]:
    """Characters that a normaliser replaces, and the code points that it writes for each."""
    for character in "\t\n\r\u00a0\u3000\ufb01\u2026\u2122\u00bd\uff21\uff22\uff11\uff12":
        spaced = unicodedata.normalize("NFKC", character if character > " " else " ")
        yield character, " ".join(f"{ord(one):X}" for one in spaced)


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


def by_optimum(source: Path, target: Path) -> None:
    """Export a folder of transformers as Optimum's command does."""
    command = Path(sys.executable).with_name("optimum-cli")
    words = f"export onnx --model {source} --task question-answering {target}".split()
    done = subprocess.run([command, *words], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} failed:\n{done.stdout}{done.stderr}")


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
            ways = {"optimum": out / "optimum" / name, "torch": out / "torch" / name}
            for way, target in ways.items():
                shutil.rmtree(target, ignore_errors=True)
                if way == "optimum":
                    by_optimum(source, target)
                else:
                    by_torch(model, tokenizer, source, target)
                apart = difference(model, tokenizer, target / "model.onnx")
                print(f"{way} {name}: largest difference to PyTorch's logits {apart:.1e}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
