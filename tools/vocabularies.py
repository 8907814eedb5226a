"""Vocabularies of the kinds that BERT's family has, for tools/export_families.py.

They are trained on the contexts of bertsquad/pocket/pocket-v1.1.json (CC0) and on a few lines in
other scripts. Each function writes the family's files to a folder, and returns what the family's
class of transformers is to be called with; each makes the same files every time.
"""

import contextlib
import io
import json
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sentencepiece
from tokenizers import ByteLevelBPETokenizer, Tokenizer, models, normalizers, pre_tokenizers
from tokenizers.trainers import WordPieceTrainer

ROOT = Path(__file__).resolve().parents[1]
POCKET = ROOT / "bertsquad" / "pocket" / "pocket-v1.1.json"

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


def wordpiece(folder: Path, lowercase: bool) -> dict[str, Any]:
    """BERT's vocabulary, which has fewer entries where it is cased, as Google's have."""
    tokenizer = Tokenizer(models.WordPiece(unk_token=WORDPIECES[1]))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    counts = Counter("".join(tokenizer.normalizer.normalize_str(text) for text in texts()))
    common = sorted(counts, key=lambda one: (-counts[one], one))[:ALPHABET]
    letters = sorted(one for one in common if not one.isspace())
    trainer = WordPieceTrainer(
        vocab_size=500 if lowercase else 460,
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
