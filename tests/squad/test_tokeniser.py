"""Tokenisers as transformers leaves them, whole and in parts, told and untold, odd and damaged."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from shared_data import PROJECT, VOCABULARY_FILE, pocket
from tokenizers import Tokenizer

from bertsquad.errors import SuiteError
from bertsquad.squad import tokeniser
from bertsquad.squad.frame import Frame
from bertsquad.squad.tokeniser import Tokeniser

FAMILIES = PROJECT / "tests" / "families" / "optimum"
ALL = sorted(path.name for path in FAMILIES.iterdir())

BERT = Frame((2,), (3,), 3, segment=1)
ROBERTA = Frame((0,), (2, 2), 2, segment=None)

Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "a model"


def place(folder: Path, family: str, *names: str) -> Path:
    """Copy files of a family into `folder`, all but the model where no name is given."""
    folder.mkdir(exist_ok=True)
    for path in (FAMILIES / family).iterdir():
        if path.name in names or (not names and path.suffix != ".onnx"):
            shutil.copy(path, folder)
    return folder


def change(folder: Path, name: str, how: Change) -> None:
    path = folder / name
    document = json.loads(path.read_bytes()) if path.exists() else {}
    how(document)
    path.write_text(json.dumps(document), encoding="utf-8")


def tell(folder: Path, **settings: object) -> None:
    """Write settings into `tokenizer_config.json`."""
    change(folder, "tokenizer_config.json", lambda document: document.update(settings))


def same(one: Tokeniser, other: Tokeniser) -> None:
    """Assert that two tokenise alike."""
    texts = [question.text for question in pocket().questions] + list(pocket().contexts)
    texts += ["Café «ÉTÉ» 東京 ΟΔΟΣ 😀", " two  blanks ", ""]
    for a, b in zip(one.encode(texts), other.encode(texts), strict=True):
        assert (a.ids, a.offsets) == (b.ids, b.offsets)
    assert one.frame == other.frame
    assert (one.kind, one.vocabulary_size, one.padding_id) == (
        *(other.kind, other.vocabulary_size, other.padding_id),
    )


def refusal(path: Path) -> str:
    with pytest.raises(SuiteError) as caught:
        tokeniser.load(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("family", "kind", "padding", "frame"),
    [
        ("bert_uncased", "WordPiece", 0, BERT),
        ("bert_cased", "WordPiece", 0, BERT),
        ("distilbert", "WordPiece", 0, BERT),
        ("albert", "Unigram", 0, BERT),
        ("deberta_v2", "Unigram", 0, Frame((1,), (2,), 2, segment=1)),
        ("roberta", "BPE", 1, ROBERTA),
        ("xlm_roberta", "Unigram", 1, ROBERTA),
    ],
)
def test_each_family_is_known_by_its_facts(
    family: str, kind: str, padding: int, frame: Frame
) -> None:
    found = tokeniser.load(FAMILIES / family)
    size = json.loads((FAMILIES / family / "config.json").read_bytes())["vocab_size"]
    if family == "deberta_v2":
        size -= 7  # rows that no id is of
    assert found.source == FAMILIES / family / "tokenizer.json"
    assert (found.kind, found.vocabulary_size, found.padding_id) == (kind, size, padding)
    assert (found.frame, found.longest, found.from_end) == (frame, 512, False)


def test_a_file_is_opened_with_what_lies_beside_it() -> None:
    folder = FAMILIES / "bert_cased"
    same(tokeniser.load(folder / "tokenizer.json"), tokeniser.load(folder))
    assert tokeniser.load(VOCABULARY_FILE).vocabulary_size == 30_522


@pytest.mark.parametrize("family", ["bert_uncased", "bert_cased", "distilbert"])
@pytest.mark.parametrize("told", [True, False], ids=["told", "untold"])
def test_a_vocabulary_of_pieces_alone_is_read_in_its_own_case(
    folder: Path, family: str, told: bool
) -> None:
    names = ("vocab.txt", "tokenizer_config.json") if told else ("vocab.txt",)
    found = tokeniser.load(place(folder, family, *names))
    assert found.source == folder / "vocab.txt"
    same(found, tokeniser.load(FAMILIES / family))


def test_a_vocabulary_with_lines_as_windows_ends_them_is_the_same(folder: Path) -> None:
    file = place(folder, "bert_cased", "vocab.txt") / "vocab.txt"
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    same(tokeniser.load(file), tokeniser.load(FAMILIES / "bert_cased"))


def test_a_vocabulary_with_merges_is_a_byte_level_bpe(folder: Path) -> None:
    found = tokeniser.load(place(folder, "roberta", "vocab.json", "merges.txt"))
    same(found, tokeniser.load(FAMILIES / "roberta"))
    same(tokeniser.load(folder / "merges.txt"), found)
    tell(folder, add_prefix_space=True)
    assert tokeniser.load(folder).encode(["tide"])[0].tokens[0].startswith("Ġ")


def test_what_the_configuration_says_counts_more_than_the_tokeniser(folder: Path) -> None:
    place(folder, "bert_uncased")
    assert tokeniser.load(folder).encode(["THE"])[0].tokens == ["the"]
    tell(folder, do_lower_case=False)
    assert tokeniser.load(folder).encode(["THE"])[0].tokens != ["the"]
    tell(folder, do_lower_case=True, strip_accents=False)
    assert (
        tokeniser.load(folder).encode(["é"])[0].ids != tokeniser.load(folder).encode(["e"])[0].ids
    )


@pytest.mark.parametrize("prefix", [False, True])
def test_a_blank_before_the_first_word_is_put_there_if_the_configuration_says_so(
    folder: Path, prefix: bool
) -> None:
    place(folder, "roberta")
    tell(folder, add_prefix_space=prefix)
    found = tokeniser.load(folder).encode(["tide", " tide"])
    assert (found[0].ids == found[1].ids) == prefix


@pytest.mark.parametrize("way", ["added_tokens.json", "tokenizer_config.json"])
def test_tokens_that_were_added_to_a_vocabulary_are_known(folder: Path, way: str) -> None:
    names = ["vocab.txt", "special_tokens_map.json"]
    size = tokeniser.load(place(folder, "bert_cased", *names)).vocabulary_size
    added: dict[str, Any] = {"Kraków-17": size}
    if way != "added_tokens.json":
        added = {"added_tokens_decoder": {f"{size}": {"content": "Kraków-17", "special": False}}}
    (folder / way).write_text(json.dumps(added), encoding="utf-8")
    own = tokeniser.load(folder)
    assert own.vocabulary_size == size + 1
    assert own.encode(["Kraków-17"])[0].ids == [size]


def test_a_whole_tokeniser_is_given_what_its_configuration_adds(folder: Path) -> None:
    size = tokeniser.load(place(folder, "roberta")).vocabulary_size
    change(
        folder,
        "tokenizer_config.json",
        lambda document: document["added_tokens_decoder"].update({f"{size}": {"content": "K-17"}}),
    )
    assert tokeniser.load(folder).encode(["K-17"])[0].ids == [size]


@pytest.mark.parametrize(
    "added", [{"K-17": 7}, {"K-17": 10**6}, {"K-17": "seven"}, {"K-17": None}, {"": 460}, [1]]
)
def test_an_added_token_whose_id_cannot_be_is_refused(folder: Path, added: Any) -> None:
    place(folder, "bert_cased", "vocab.txt")
    (folder / "added_tokens.json").write_text(json.dumps(added), encoding="utf-8")
    assert "added_tokens.json" in refusal(folder)


def test_truncation_and_padding_that_a_file_holds_are_switched_off() -> None:
    document = json.loads((FAMILIES / "bert_cased" / "tokenizer.json").read_bytes())
    assert document["truncation"]["max_length"] == document["padding"]["strategy"]["Fixed"] == 128
    long, short = tokeniser.load(FAMILIES / "bert_cased").encode(["tide " * 500, "tide"])
    assert len(long.ids) == 500 * len(short.ids) and len(short.ids) < 5


def test_tokens_are_not_dropped_at_random(folder: Path) -> None:
    place(folder, "roberta")
    change(folder, "tokenizer.json", lambda document: document["model"].update(dropout=0.9))
    same(tokeniser.load(folder), tokeniser.load(FAMILIES / "roberta"))


@pytest.mark.parametrize("family", ["bert_cased", "albert", "deberta_v2", "roberta", "xlm_roberta"])
def test_without_a_post_processor_the_configuration_names_the_special_tokens(
    folder: Path, family: str
) -> None:
    place(folder, family)
    change(folder, "tokenizer.json", lambda document: document.update(post_processor=None))
    assert tokeniser.load(folder).frame == tokeniser.load(FAMILIES / family).frame
    (folder / "tokenizer_config.json").unlink()
    assert tokeniser.load(folder).frame == tokeniser.load(FAMILIES / family).frame
    (folder / "special_tokens_map.json").unlink()
    said = refusal(folder)
    assert "doesn't say which special tokens" in said and "tokenizer_config.json" in said


def test_special_tokens_are_known_in_a_text_unless_the_configuration_says_otherwise(
    folder: Path,
) -> None:
    place(folder, "bert_cased")
    assert 3 in tokeniser.load(folder).encode(["a [SEP] b"])[0].ids
    tell(folder, split_special_tokens=True)
    assert 3 not in tokeniser.load(folder).encode(["a [SEP] b"])[0].ids


def test_a_model_without_segments_gets_none(folder: Path) -> None:
    place(folder, "distilbert")
    tell(folder, model_input_names=["input_ids", "attention_mask"])
    assert tokeniser.load(folder).frame == Frame((2,), (3,), 3, segment=None)


@pytest.mark.parametrize(
    ("said", "longest"), [(10**30, None), (1e30, None), (0, None), (0.5, None), (128.0, 128)]
)
def test_a_limit_that_is_none_is_not_taken_for_one(
    folder: Path, said: float, longest: int | None
) -> None:
    place(folder, "bert_cased")
    tell(folder, model_max_length=said)
    assert tokeniser.load(folder).longest == longest


def test_padding_is_found_where_nothing_but_the_tokens_tells_it(folder: Path) -> None:
    assert tokeniser.load(place(folder, "roberta", "tokenizer.json")).padding_id == 1
    assert tokeniser.load(place(folder, "bert_cased", "tokenizer.json")).padding_id == 0


def pad_left(document: dict[str, Any]) -> None:
    document["padding"]["direction"] = "Left"


@pytest.mark.parametrize("where", ["tokenizer.json", "tokenizer_config.json"])
def test_a_tokeniser_that_pads_on_the_left_is_refused(folder: Path, where: str) -> None:
    place(folder, "bert_cased")
    if where == "tokenizer.json":
        change(folder, where, pad_left)
        change(folder, "tokenizer_config.json", lambda document: document.pop("padding_side", None))
    else:
        tell(folder, padding_side="left")
    assert "set padding_side to right in tokenizer_config.json" in refusal(folder)
    tell(folder, padding_side="right")
    assert tokeniser.load(folder).frame == BERT


def special(token: str, segment: int = 0) -> dict[str, Any]:
    return {"SpecialToken": {"id": token, "type_id": segment}}


def sequence(name: str, segment: int = 0) -> dict[str, Any]:
    return {"Sequence": {"id": name, "type_id": segment}}


@pytest.mark.parametrize(
    "pair",
    [
        [special("[CLS]"), sequence("B"), special("[SEP]"), sequence("A"), special("[SEP]")],
        [sequence("A"), special("[SEP]"), sequence("B"), special("[SEP]"), special("[CLS]")],
        [special("[CLS]"), sequence("A"), special("[SEP]"), sequence("B")],
        [special("[CLS]", 2), sequence("A"), sequence("B", 1), special("[SEP]", 1)],
        [special("[CLS]"), sequence("A"), sequence("B", 1), special("[SEP]", 0)],
        [special("[CLS]"), sequence("A", 1), special("[SEP]", 1), sequence("B", 1)],
    ],
    ids=["context first", "two after", "none after", "segment 2", "falling", "question 1"],
)
def test_special_tokens_in_places_of_no_known_model_are_refused(
    folder: Path, pair: list[dict[str, Any]]
) -> None:
    place(folder, "bert_cased")
    change(folder, "tokenizer.json", lambda document: document["post_processor"].update(pair=pair))
    assert "as no model of BERT's family reads them" in refusal(folder)


@pytest.mark.parametrize(
    ("family", "name"), [("albert", "spiece.model"), ("deberta_v2", "spm.model")]
)
def test_a_sentencepiece_file_alone_is_refused_with_the_way_to_a_whole_tokeniser(
    folder: Path, family: str, name: str
) -> None:
    place(folder, family, name)
    for path in (folder, folder / name):
        said = refusal(path)
        assert str(folder / name) in said
        assert "AutoTokenizer.from_pretrained" in said and "save_pretrained" in said


def test_a_folder_without_a_tokeniser_is_refused(folder: Path) -> None:
    place(folder, "albert", "config.json")
    assert "expected a tokeniser" in refusal(folder) and "--tokenizer" in refusal(folder)
    assert "expected a tokeniser" in refusal(folder / "config.json")
    assert "there is no tokeniser" in refusal(folder / "nowhere")


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt"])
def test_half_a_byte_level_bpe_is_refused(folder: Path, name: str) -> None:
    (lacking,) = {"vocab.json", "merges.txt"} - {name}
    assert f"lacks {lacking}" in refusal(place(folder, "roberta", name))


def test_a_vocabulary_that_is_split_by_other_rules_is_refused(folder: Path) -> None:
    place(folder, "bert_cased", "vocab.txt")
    tell(folder, tokenizer_class="BertJapaneseTokenizer")
    said = refusal(folder)
    assert "BertJapaneseTokenizer" in said and "tokenizer.json" in said


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("cls_token", True, "text"),
        ("do_lower_case", "yes", "true or false"),
        ("model_max_length", "512", "a number"),
        ("model_max_length", True, "a number"),
        ("model_input_names", "input_ids", "a list"),
        ("padding_side", 1, "text"),
    ],
)
def test_a_setting_of_another_type_is_named(
    folder: Path, name: str, value: object, wanted: str
) -> None:
    tell(place(folder, "bert_cased"), **{name: value})
    said = refusal(folder)
    assert (
        said
        == f"{folder / 'tokenizer_config.json'} should have {wanted} as {name}, found {value!r}"
    )


def test_a_list_of_words_is_no_vocabulary(folder: Path) -> None:
    folder.mkdir()
    (folder / "vocab.txt").write_text("tide\nsea\n", encoding="utf-8")
    assert "lacks [UNK]" in refusal(folder)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"{}", b"\xff\xfe", b'{"model": {}}', b"null"],
    ids=["empty", "cut", "list", "object", "binary", "no model", "null"],
)
@pytest.mark.parametrize(
    "name", ["tokenizer.json", "tokenizer_config.json", "vocab.json", "vocab.txt"]
)
def test_a_damaged_file_is_a_sentence(folder: Path, name: str, content: bytes) -> None:
    if name == "tokenizer.json":
        place(folder, "bert_cased")
    elif name == "vocab.json":
        place(folder, "roberta", "vocab.json", "merges.txt")
    else:
        place(folder, "bert_cased", "vocab.txt", "tokenizer_config.json")
    (folder / name).write_bytes(content)
    try:
        tokeniser.load(folder)
    except SuiteError as error:
        assert str(folder / name) in str(error) and "\n" not in str(error)
    else:
        assert content[:1] == b"{" and name.endswith(("_config.json", "vocab.json"))


def test_what_makes_the_library_itself_fail_is_a_sentence(folder: Path) -> None:
    place(folder, "xlm_roberta")

    def spoil(document: dict[str, Any]) -> None:
        document["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": ""}

    change(folder, "tokenizer.json", spoil)
    said = refusal(folder)
    assert f"{folder / 'tokenizer.json'} is no tokeniser: Precompiled" in said


def test_a_text_that_cannot_be_tokenised_is_a_sentence(folder: Path) -> None:
    place(folder, "bert_cased")

    def spoil(document: dict[str, Any]) -> None:
        document["model"]["unk_token"] = "nowhere"

    change(folder, "tokenizer.json", spoil)
    with pytest.raises(SuiteError, match="can't tokenise the questions: WordPiece error"):
        tokeniser.load(folder).encode(["😀"])


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs a file nobody may read")
def test_a_file_that_may_not_be_read_is_a_sentence(folder: Path) -> None:
    place(folder, "bert_cased")
    (folder / "tokenizer.json").chmod(0)
    assert "can't be read" in refusal(folder)


def test_a_link_is_followed(folder: Path, tmp_path: Path) -> None:
    """As in the hub's cache, where every file is a link."""
    place(folder, "roberta")
    linked = tmp_path / "linked"
    linked.mkdir()
    for path in folder.iterdir():
        (linked / path.name).symlink_to(path)
    same(tokeniser.load(linked), tokeniser.load(folder))


def test_the_digest_follows_what_is_in_the_files(folder: Path, tmp_path: Path) -> None:
    place(folder, "bert_cased")
    other = Path(shutil.copytree(folder, tmp_path / "another place"))
    first = tokeniser.load(folder).digest
    assert tokeniser.load(other).digest == first
    tell(other, do_lower_case=True)
    assert tokeniser.load(other).digest != first
    change(folder, "tokenizer.json", lambda document: document.update(padding=None))
    assert tokeniser.load(folder).digest != first


def test_half_a_character_is_read_as_an_unknown_one() -> None:
    """A JSON file can hold half of a surrogate pair, which no tokeniser takes."""
    found = tokeniser.load(FAMILIES / "roberta").encode(["a\ud800b", "a\ufffdb"])
    assert found[0].ids == found[1].ids
    assert found[0].offsets[-1] == (2, 3)


def test_the_library_opens_what_the_tests_are_made_of() -> None:
    for family in ALL:
        Tokenizer.from_file(str(FAMILIES / family / "tokenizer.json"))
