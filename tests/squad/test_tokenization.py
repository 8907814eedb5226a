import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shared_data import vocabulary

from bertsquad.squad.tokenization import Vocabulary, basic_tokens, context_words

IDEOGRAPH_BLOCKS = [
    range(0x3400, 0x4DC0),
    range(0x4E00, 0xA000),
    range(0xF900, 0xFB00),
    range(0x20000, 0x2A6E0),
    range(0x2A700, 0x2B740),
    range(0x2B740, 0x2B820),
    range(0x2B820, 0x2CEB0),
    range(0x2F800, 0x2FA20),
]
KNOWN = frozenset(vocabulary().pieces)
ASCII_SIGNS = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"


def slow_basic_tokens(text: str) -> list[str]:
    """BERT's BasicTokenizer, one rule after the other over the whole text."""
    kept = ""
    for char in text:
        if char in "\t\n\r" or unicodedata.category(char) == "Zs":
            kept += " "
        elif unicodedata.category(char)[0] != "C" and char != "\N{REPLACEMENT CHARACTER}":
            kept += char
    spaced = ""
    for char in kept:
        ideograph = any(ord(char) in block for block in IDEOGRAPH_BLOCKS)
        spaced += f" {char} " if ideograph else char
    result = ""
    for word in unicodedata.normalize("NFC", spaced).split():
        result += " "
        for char in unicodedata.normalize("NFD", word.lower()):
            if unicodedata.category(char) == "Mn":
                continue
            sign = char in ASCII_SIGNS or unicodedata.category(char)[0] == "P"
            result += f" {char} " if sign else char
    return result.split()


def slow_word_pieces(word: str) -> list[str]:
    """BERT's WordPiece: the longest known piece, again and again; all or [UNK]."""
    if len(word) > 100:
        return ["[UNK]"]
    found: list[str] = []
    rest = word
    while rest:
        prefix = "##" if found else ""
        for length in range(len(rest), 0, -1):
            if prefix + rest[:length] in KNOWN:
                found.append(prefix + rest[:length])
                rest = rest[length:]
                break
        else:
            return ["[UNK]"]
    return found


def slow_pieces(text: str) -> list[str]:
    return [piece for word in slow_basic_tokens(text) for piece in slow_word_pieces(word)]


def pieces_of(text: str, words: Vocabulary | None = None) -> list[str]:
    words = words or vocabulary()
    return [words.pieces[index] for index in words.encode([text])[text]]


NASTY = {
    "": [],
    " \t\r\n\u00a0\u3000": [],
    "\u200b\u200d\ufeff\x00\ufffd": [],
    "Smith's": ["smith", "'", "s"],
    "U.S.A.,(1990-2000)": "u . s . a . , ( 1990 - 2000 )".split(),
    "a^b`c~d_e$f": "a ^ b ` c ~ d _ e $ f".split(),
    "Café RÉSUMÉ naïve Ångström": ["cafe", "resume", "naive", "angstrom"],
    "cafe\u0301 \u212bngstro\u0308m": ["cafe", "angstrom"],
    "Việt Nam": ["viet", "nam"],
    "ΟΔΟΣ ΣΑΣ. Ὀδυσσεύς": ["οδος", "σας", ".", "οδυσσευς"],
    "İstanbul DIŞ \u0131l\u0131k": ["istanbul", "dis", "\u0131l\u0131k"],
    "STRASSE straße GROẞ ﬁn": ["strasse", "straße", "groß", "ﬁn"],
    "5°C €5.50 £3 km² ½ µm": ["5°c", "€5", ".", "50", "£3", "km²", "½", "µm"],
    "“quoted” \u2013 …«là»": ["“", "quoted", "”", "\u2013", "…", "«", "la", "»"],
    "a\x00b\x07c\x7fd\x0be\x0cf\x1cg\x85h": ["abcdefgh"],
    "a\u00a0b\u2009c\u202fd\u3000e": ["a", "b", "c", "d", "e"],
    "a\u2028b\u2029c": ["a", "b", "c"],
    "zero\u200bwidth soft\u00adhyphen \ufeffbom": ["zerowidth", "softhyphen", "bom"],
    "a\ufffdb": ["ab"],
    "private\ue000use un\u0378assigned sur\ud800rogate": ["privateuse", "unassigned", "surrogate"],
    "東京tower塔x": ["東", "京", "tower", "塔", "x"],
    "ab\u9fffc": ["ab", "\u9fff", "c"],
    "a\U0002cea1b a\U0002ceb0b": ["a", "\U0002cea1", "b", "a\U0002ceb0b"],
    "\uf900": ["\u8c48"],
    "がばカタ、カナ": ["かはカタ", "、", "カナ"],
    "한국": ["\u1112\u1161\u11ab\u1100\u116e\u11a8"],
    "what\u037eno\u0387yes": ["what", ";", "no", "·", "yes"],
    "x\u1fefy": ["x", "`", "y"],
    "👍🏽ok 👩‍💻 ❤\ufe0f": ["👍🏽ok", "👩💻", "❤"],
    "\u0301alone": ["alone"],
    "\u0301": [],
}


@pytest.mark.parametrize(("text", "expected"), NASTY.items(), ids=map(ascii, NASTY))
def test_nasty_text_is_split_as_bert_splits_it(text: str, expected: list[str]) -> None:
    assert basic_tokens(text) == expected
    assert slow_basic_tokens(text) == expected
    assert pieces_of(text) == slow_pieces(text)


def test_every_character_inside_a_word_is_treated_as_bert_treats_it() -> None:
    planes = [range(0x30000), range(0xE0000, 0xE0200), range(0x10FFF0, 0x110000)]
    texts = [f"A{chr(code)}b" for plane in planes for code in plane]
    different = [ascii(t) for t in texts if basic_tokens(t) != slow_basic_tokens(t)]
    assert not different


marks = st.sampled_from(
    "\u0300\u0301\u0323\u0345\u05b0\u093c\u0f71\u0f72\u0f73\u0344\u3099e\u00e9가か"
)


@settings(max_examples=100, deadline=None)
@given(text=st.lists(marks, max_size=40).map("".join), times=st.integers(1, 60))
def test_many_marks_on_a_letter_are_treated_as_bert_treats_them(text: str, times: int) -> None:
    assert basic_tokens(f"x{text * times}") == slow_basic_tokens(f"x{text * times}")


def test_a_word_of_one_letter_and_a_million_marks_is_taken_apart() -> None:
    assert basic_tokens("e" + "\u0301\u0323" * 500_000) == ["e"]


def test_every_pair_of_ascii_characters_is_treated_as_bert_treats_it() -> None:
    texts = [f"x{chr(a)}{chr(b)}Y" for a in range(128) for b in range(128)]
    assert [text for text in texts if basic_tokens(text) != slow_basic_tokens(text)] == []
    ids = vocabulary().encode(texts)
    pieces = vocabulary().pieces
    assert [t for t in texts if [pieces[i] for i in ids[t]] != slow_pieces(t)] == []


nasty_characters = st.one_of(
    st.characters(),
    st.sampled_from("aAzZ09 .,'\"-$"),
    st.sampled_from("\x00\t\n\r\x0b\x1c\x85\xa0\xad\u200b\u200d\u202f\u2028\u3000\ufeff\ufffd"),
    st.sampled_from("éÉßẞİıςσΣǅŉﬀΐ\u0300\u0301\u0307\u0323\u0345\u0591\u093f\u094d\u20dd\ufe0f"),
    st.sampled_from("京東\u3401\uf900\U00020001\U0002f800がハ한가ㄱ👍🏽\U0001f469"),
)
nasty_text = st.lists(
    st.one_of(
        st.text(nasty_characters, max_size=12),
        st.sampled_from(["playing", "Unaffable's", "embeddings", "supercalifragilistic"]),
        st.builds(lambda char, n: char * n, nasty_characters, st.integers(98, 103)),
    ),
    max_size=8,
).map(" ".join)


@settings(max_examples=400, deadline=None)
@given(nasty_text)
def test_any_text_gives_the_pieces_that_bert_gives(text: str) -> None:
    assert basic_tokens(text) == slow_basic_tokens(text)
    assert pieces_of(text) == slow_pieces(text)


@settings(max_examples=200, deadline=None)
@given(nasty_text)
def test_encoding_a_context_word_by_word_loses_nothing(text: str) -> None:
    words = context_words(text)
    ids = vocabulary().encode(words)
    apart = [vocabulary().pieces[index] for word in words for index in ids[word]]
    assert apart == [piece for word in words for piece in slow_pieces(word)]


def test_a_word_of_100_characters_is_looked_up_and_a_longer_one_is_unknown() -> None:
    longest = pieces_of("a" * 100)
    assert "".join(longest).replace("##", "") == "a" * 100
    assert pieces_of("a" * 101) == ["[UNK]"]
    assert pieces_of("é" * 100) == pieces_of("e" * 100) != ["[UNK]"]
    assert pieces_of("é" * 101) == ["[UNK]"]


@pytest.fixture
def small_vocabulary(tmp_path: Path) -> Vocabulary:
    path = tmp_path / "vocab.txt"
    lines = "[PAD] [UNK] [CLS] [SEP] un ##aff ##able ##a able ##ffb".split()
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Vocabulary(path)


def test_a_piece_s_id_is_its_line_counted_from_0(small_vocabulary: Vocabulary) -> None:
    assert (small_vocabulary.cls_id, small_vocabulary.sep_id) == (2, 3)
    assert len(small_vocabulary.pieces) == 10
    assert list(small_vocabulary.encode(["able unable"])["able unable"]) == [8, 4, 6]


def test_a_word_is_cut_greedily_and_unknown_as_a_whole(small_vocabulary: Vocabulary) -> None:
    assert pieces_of("Unaffable", small_vocabulary) == ["un", "##aff", "##able"]
    assert pieces_of("unaffa", small_vocabulary) == ["un", "##aff", "##a"]
    assert pieces_of("unaable", small_vocabulary) == ["un", "##a", "##able"]
    assert pieces_of("unabl able", small_vocabulary) == ["[UNK]", "able"]
    # un ##a ##ffb would do, but the greedy cut takes ##aff and is left with a b.
    assert pieces_of("unaffb", small_vocabulary) == ["[UNK]"]


def test_a_vocabulary_without_a_final_newline_reads_the_same(tmp_path: Path) -> None:
    path = tmp_path / "vocab.txt"
    path.write_bytes(b"[PAD]\n[UNK]\n[CLS]\n[SEP]\nlast")
    assert pieces_of("last", Vocabulary(path)) == ["last"]


def test_equal_texts_are_encoded_once() -> None:
    encoded = vocabulary().encode(iter(["one", "two", "one", ""]))
    assert list(encoded) == ["one", "two", ""]
    assert list(encoded[""]) == []


@pytest.mark.parametrize("special", ["[CLS]", "[SEP]", "[PAD]", "[MASK]", "[UNK]"])
def test_text_that_looks_like_a_special_token_is_ordinary_text(special: str) -> None:
    pieces = pieces_of(f"see {special} here")
    assert special not in pieces
    assert pieces == slow_pieces(f"see {special} here")


def test_a_context_is_split_at_the_blanks_of_mlperf_s_script_alone() -> None:
    assert context_words("a b\tc\r\nd\u202fe  f\u00a0g\u2009h\u3000i\x0bj\u2028k") == [
        *"abcde",
        "f\u00a0g\u2009h\u3000i\x0bj\u2028k",
    ]
    assert context_words("  lead and trail \n") == ["lead", "and", "trail"]
    assert context_words(" \t\n") == []
    assert context_words("") == []
