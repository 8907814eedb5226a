"""Whatever stands in a file, its reader reads it or says in one sentence what is wrong with it.

Every reader of a file that this suite, LoadGen, pytest-benchmark, the system or a user wrote, fed
with good files that are spoilt at any place. The slow tests do the same, more often.
"""

import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from made import GATED, LOSS, REFERENCE, accuracy, benchmark_json, on_nodes, performance, timeline
from shared_data import reading
from spoilt import contents, long, quick, sentence, texts

from bertsquad import typed
from bertsquad.assets import cache, registry
from bertsquad.errors import SuiteError
from bertsquad.loadgen import logs
from bertsquad.loadgen.timeline import TIMELINE
from bertsquad.loadgen.timeline import load as load_timeline
from bertsquad.machine import hardware, noise, processor, tuning
from bertsquad.models.onnx_file import load_model, weight_files
from bertsquad.progress import Step
from bertsquad.report import page, published
from bertsquad.results import archive, baseline, comparison, table
from bertsquad.results.accuracy import score_log
from bertsquad.results.gate import BAND
from bertsquad.results.result import RESULT, Outcome, Result
from bertsquad.results.validity import objections
from bertsquad.rules import SEEDS
from bertsquad.scenarios import SCENARIOS
from bertsquad.squad import datasets, features, questions, tokeniser
from bertsquad.squad.datasets import DATASETS
from bertsquad.squad.hugging_face import HuggingFaceReading
from bertsquad.squad.mlperf import mlperf_reading
from bertsquad.squad.questions import Dataset, Question
from bertsquad.squad.score import score
from bertsquad.squad.tokenization import Vocabulary
from bertsquad.submission.system import read_answers
from bertsquad.suite import earlier
from bertsquad.worker import protocol


@dataclass(frozen=True, repr=False)
class Reader:
    """A reader of a file: the file's name, a good file's content, and how to read it.

    A JSON reader's content is a document, another's bytes. `frame` makes a file's content of that.
    """

    name: str
    content: Any
    read: Callable[[Path], object]
    frame: Callable[[bytes], bytes] = bytes


# What a pytest session leaves.


def _shown(path: Path) -> None:
    """Read results and show them, as `report` does in a terminal."""
    found = archive.read([path])
    outcomes: list[Outcome] = [*(one.newest for one in found.series), *found.missing]
    for line, _ in table.lines(outcomes):
        line.encode("utf-8")


def _drawn(path: Path) -> None:
    """Read results and draw a page of them."""
    assert page.render(archive.read([path])).encode("utf-8")


def _small(result: Result) -> dict[str, Any]:
    """A result as JSON, its timeline cut down so that the other places are met, too."""
    document = json.loads(json.dumps(result.as_dict()))
    for lists in (document["timeline"]["latency"], document["timeline"]["course"]):
        lists |= {key: value[:3] for key, value in lists.items() if isinstance(value, list)}
    document["timeline"]["batches"] = document["timeline"]["batches"][:1]
    for node in document["nodes"]:
        node["samples_per_s"] = node["samples_per_s"][:3]
    return dict(document)


def _benchmark_document(folder: Path) -> Any:
    path = benchmark_json(folder / "made.json", performance(), accuracy())
    document = json.loads(path.read_text("utf-8"))
    document["failures"] = [{"case": "a", "mode": "accuracy", "verdict": "failed", "reason": "b"}]
    document["benchmarks"][0]["extra_info"] = _small(performance())
    document["accuracy"] = [_small(accuracy())]
    return document


def _gated(path: Path) -> None:
    """Judge a run by the earlier results in a file."""
    verdict = baseline.judge(performance(day=28), archive.read([path]).results, BAND)
    assert verdict is not None
    assert len(verdict.reason) < 6_000


def _compared(path: Path) -> None:
    """Compare a run with earlier figures as pytest-benchmark has loaded them."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError):
        return  # pytest-benchmark warns of it
    unlike = comparison.differences(performance().as_dict(), earlier._info(found))
    assert len(comparison.refusal("a::b", path, unlike)) < 6_000


# What LoadGen leaves.


def _log(values: dict[str, Any]) -> bytes:
    records = [_record(key, value) for key, value in values.items()]
    return "".join(f":::MLLOG {json.dumps(record)}\n" for record in records).encode()


def _record(key: str, value: Any) -> dict[str, Any]:
    metadata = {"is_error": False, "is_warning": False, "file": "a.cc", "line_no": 1}
    return {"key": key, "value": value, "metadata": metadata}


def _appended(record: bytes) -> bytes:
    """The good log, with a record more."""
    return _log(_VALUES) + b":::MLLOG " + record + b"\n"


_VALUES = {
    "effective_scenario": "Server",
    "effective_test_mode": "PerformanceOnly",
    **SEEDS,
    "effective_min_duration_ms": 600_000,
    "effective_min_query_count": 270_336,
    "effective_performance_sample_count": 10_833,
    "effective_samples_per_query": 1,
    "result_validity": "INVALID",
    "result_min_duration_met": True,
    "result_perf_constraints_met": False,
    "early_stopping_met": False,
    "early_stopping_result": "Need to process at least 662 more queries.",
    "result_invalid_reason": "Increase the target",
    "result_query_count": 1_000,
    "result_90.00_percentile_latency_ns": 5_000,
    "result_90.00_percentile_per_query_latency_ns": 5_000,
    "result_samples_per_second": 12.5,
    "result_completed_samples_per_sec": 12.5,
    "early_stopping_latency_ss": 5_000,
    "early_stopping_latency_ms": 5_000,
    "num_errors": 0,
}


def _judged(path: Path) -> None:
    """Take everything out of a detail log that a result takes."""
    run = logs.read_run(path.parent)
    assert all(cause.reason.isprintable() for cause in run.invalid_causes)
    for scenario in SCENARIOS.values():
        run.metric(scenario)
    for percentile in (50, 90, 99, 99.9):
        run.latency_ms(percentile)
    list(objections(performance(rules="mlperf"), run))


_WINDOWS = [np.zeros((12, 2), np.float32), np.ones((12, 2), np.float32)]
_RESPONSES = [
    {"seq_id": n, "qsl_idx": n, "data": one.tobytes().hex().upper(), "token_count": 0}
    for n, one in enumerate(_WINDOWS)
]


def _squad(context: str = "Low tide at six.") -> dict[str, Any]:
    answer = {"text": "six", "answer_start": 12}
    qas = [{"id": str(n), "question": "When is it?", "answers": [answer]} for n in range(2)]
    return {"data": [{"title": "a", "paragraphs": [{"context": context, "qas": qas}]}]}


def _scored(path: Path) -> None:
    """Score an accuracy log of two windows."""
    file = path.with_name("squad.json")
    file.write_text(json.dumps(_squad()), "utf-8")
    dataset = questions.load(file)
    built = reading().build(dataset)
    data = datasets.Data(dataset, built, reading(), path.with_name("a.npz"), file, "")
    assert score_log(data, path.parent, len(built)).total == 2


# What users give, and what is fetched.


def _featurised(path: Path) -> None:
    dataset = questions.load(path)
    built = reading().build(dataset)
    given = {one.id: one.answers[0] if one.answers else "" for one in dataset.questions}
    score(given, dataset.questions, dataset.version_2)
    assert len(built) >= 0


def _prepared(path: Path) -> None:
    """Read a derived model's facts; they are made again where they can't be used."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BERTSQUAD_CACHE", str(path.parent))
        facts = cache.cache_folder() / "prepared" / "a.json"
        facts.parent.mkdir(parents=True, exist_ok=True)
        facts.write_bytes(path.read_bytes())
        made = cache.derived_model("a.onnx", _Equal, lambda path: {"equal": False})
        assert "sha256" in made.content and isinstance(made.content["equal"], bool)
        assert typed.parse(facts.read_bytes())


@dataclass(frozen=True)
class _Equal:
    equal: bool


def _message(path: Path) -> None:
    for line in path.read_text("utf-8").splitlines():
        protocol.decode(line)


def _calibration(path: Path) -> None:
    built = tiny.build_features(path.parent)
    data = datasets.Data(
        *(None, built, mlperf_reading()),  # type: ignore[arg-type]
        path.parent / "a.npz",
        path,
        "",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "fetch", lambda *_: path)
        assert datasets.calibration(DATASETS["squad"], data).windows


def _registered(path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "registry_file", lambda: path)
        for entry in registry.entries.__wrapped__().values():
            for algorithm, _ in entry.checksums:
                hashlib.new(algorithm)


def _recalled(path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_failure_note", lambda name: path)
        assert isinstance(registry._recall_failure("a"), str)


def _machine(path: Path) -> None:
    """Ask for everything that is read in /proc and /sys, with one content in every file there."""
    root, content = path.parent / "root", path.read_bytes()
    for name in (
        *("proc/stat", "proc/cpuinfo", "sys/fs/cgroup/cpu.stat", "sys/fs/cgroup/cpu.max"),
        "sys/devices/system/cpu/cpu0/topology/thread_siblings_list",
        "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
        "sys/devices/system/cpu/intel_pstate/no_turbo",
        "sys/devices/system/node/node0/cpulist",
        *("sys/class/dmi/id/sys_vendor", "run/systemd/container", "proc/1/environ"),
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    (root / "proc/self").mkdir(exist_ok=True)
    (root / "proc/self/cgroup").write_text("0::/\n", "utf-8")
    hardware._logical_cpus.cache_clear()
    assert hardware.cores(root) >= 1
    assert hardware.physical_cores(root) >= 1
    assert hardware.sockets(root) >= 1
    assert hardware.cpu_name(root)
    processor.has_vnni(root)
    found = processor.read(root)
    tuning.in_short(found)
    tuning.in_full(found)
    tuning.advice(found)
    hardware.owned_cpus(root)
    reading = noise.read(root)
    noise.disturbances(reading, reading, 1)


def _onnx(path: Path) -> None:
    weight_files(path, load_model(path, weights=False))
    load_model(path)


def _archived(arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **vars(arrays))
    return file.getvalue()


def _published(path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(published, "__file__", str(path))
        published.submissions.__wrapped__()


_STAT = b"cpu  10 2 3 40 5 6 7 8 0 0\nthrottled_usec 12\nmodel name : a\ncore id : 1\n20000 10000\n"
_STEP = json.loads(protocol.encode(Step("running", 1, 2, "samples", 1.0)))
_RAISED = json.loads(protocol.encode(protocol.Raised("SuiteError", "a sentence")))


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Reader]:
    folder = tmp_path_factory.mktemp("good")
    model = tiny.model(folder / "a.onnx").read_bytes()
    with pytest.raises(SuiteError):
        read_answers(folder / "answers.toml")
    filled = (folder / "answers.toml").read_bytes().replace(b'""', b'"rdi"')
    csv = Path(published.__file__).with_name("published.csv").read_bytes()
    found = (
        Reader(RESULT, _small(performance()), _shown),
        Reader("accuracy.json", _small(accuracy(reference=REFERENCE)), _shown),
        Reader("accuracy-page.json", _small(accuracy(reference=REFERENCE)), _drawn),
        Reader("benchmark.json", _benchmark_document(folder), _shown),
        Reader("page.json", _small(performance()), _drawn),
        Reader("gated.json", _small(performance(gate=GATED)), _shown),
        Reader("gated-page.json", _small(performance(gate=GATED)), _drawn),
        Reader("history.json", _small(performance(gate=GATED)), _gated),
        Reader("cluster.json", _small(on_nodes(performance(), nodes_lost=[LOSS])), _shown),
        Reader("cluster-page.json", _small(on_nodes(performance(), nodes_lost=[LOSS])), _drawn),
        Reader("earlier.json", {"extra_info": _small(performance()), "stats": {}}, _compared),
        Reader("squad.json", _squad(), _featurised),
        Reader(logs.ACCURACY, _RESPONSES, _scored),
        Reader("facts.json", {"equal": True, "sha256": None}, _prepared),
        Reader("raised.txt", _RAISED, _message),
        Reader("step.txt", _STEP, _message),
        Reader(logs.DETAIL, _log(_VALUES), _judged),
        Reader(TIMELINE, _archived(timeline(20)), lambda path: load_timeline(path.parent)),
        Reader("features.npz", _archived(tiny.build_features(folder)), _features),
        Reader("a.onnx", model, _onnx),
        Reader("answers.toml", filled, read_answers),
        Reader("calibration.txt", b"1\n20\n3\n", _calibration),
        Reader("vocab.txt", b"[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n##b\n", _tokenised),
        Reader("tokenizer.json", _TOKENISER, _cut_by_its_own),
        Reader("tokenizer_config.json", _TOKENISER_CONFIG, _cut_as_configured),
        Reader("data_registry.txt", registry.registry_file().read_bytes(), _registered),
        Reader("a.failed-1", "café: not here".encode(), _recalled),
        Reader("stat", _STAT, _machine),
        Reader("published.csv", csv, _published),
    )
    by_name = {reader.name: reader for reader in found}
    for key in KEYS:
        by_name[key] = Reader(logs.DETAIL, _record(key, _VALUES[key]), _judged, _appended)
    return by_name


def _features(path: Path) -> None:
    try:
        features.load(path)
    except (LookupError, ValueError) as error:  # as the cache wants them
        raise SuiteError(str(error.args[0])) from error


def _tokenised(path: Path) -> None:
    assert set(Vocabulary(path).encode(["a b", "abb ☃"])) == {"a b", "abb ☃"}


_PIECES = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "a": 4, "##b": 5}
_PAIR = [
    {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
    {"Sequence": {"id": "A", "type_id": 0}},
    {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
    {"Sequence": {"id": "B", "type_id": 1}},
    {"SpecialToken": {"id": "[SEP]", "type_id": 1}},
]
_TOKENISER: dict[str, Any] = {
    "version": "1.0",
    "truncation": {
        **{"direction": "Right", "max_length": 128, "strategy": "LongestFirst", "stride": 0},
    },
    "padding": {
        **{"strategy": {"Fixed": 128}, "direction": "Right", "pad_to_multiple_of": None},
        **{"pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"},
    },
    "added_tokens": [
        {
            **{"id": 3, "content": "[SEP]", "single_word": False, "lstrip": False},
            **{"rstrip": False, "normalized": False, "special": True},
        }
    ],
    "normalizer": {
        **{"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True},
        **{"strip_accents": None, "lowercase": True},
    },
    "pre_tokenizer": {"type": "BertPreTokenizer"},
    "post_processor": {
        **{"type": "TemplateProcessing", "single": _PAIR[:3], "pair": _PAIR},
        "special_tokens": {
            name: {"id": name, "ids": [_PIECES[name]], "tokens": [name]}
            for name in ("[CLS]", "[SEP]")
        },
    },
    "decoder": None,
    "model": {
        **{"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##"},
        **{"max_input_chars_per_word": 100, "vocab": _PIECES},
    },
}
_TOKENISER_CONFIG: dict[str, Any] = {
    **{"do_lower_case": False, "strip_accents": None, "tokenize_chinese_chars": True},
    **{"cls_token": "[CLS]", "sep_token": {"content": "[SEP]"}, "model_max_length": 512},
    **{"tokenizer_class": "BertTokenizer", "padding_side": "right", "truncation_side": "right"},
    **{"model_input_names": ["input_ids", "token_type_ids"], "split_special_tokens": False},
}


def _cut_by_its_own(path: Path) -> None:
    """Cut windows by a model's own tokeniser, with whatever lies beside it."""
    own = tokeniser.load(path)
    data = Dataset(("ab a [SEP] 😀.", ""), (Question("q", "a?", 0, ()), Question("r", "", 1, ())))
    HuggingFaceReading(own, min(64, own.longest or 64)).build(data)


def _cut_as_configured(path: Path) -> None:
    path.with_name("vocab.txt").write_text("\n".join(_PIECES), encoding="utf-8")
    _cut_by_its_own(path.with_name("vocab.txt"))


#: Records of the detail log that are spoilt.
KEYS = ("result_90.00_percentile_latency_ns", "result_query_count", "early_stopping_result")
DOCUMENTS = (
    *(
        RESULT,
        "accuracy.json",
        "cluster.json",
        "gated.json",
        "history.json",
        "benchmark.json",
        "earlier.json",
        "squad.json",
    ),
    *(logs.ACCURACY, "facts.json", "raised.txt", "step.txt"),
    *("tokenizer.json", "tokenizer_config.json", *KEYS),
)
FILES = (
    *(logs.DETAIL, TIMELINE, "features.npz", "a.onnx", "answers.toml", "calibration.txt"),
    *("vocab.txt", "data_registry.txt", "a.failed-1", "stat", "published.csv"),
)
#: Readers of what is no file, or whose caller names the file, or that name the one beside it.
NAMELESS = ("raised.txt", "step.txt", "earlier.json", "tokenizer_config.json")


def hold(reader: Reader, folder: Path, content: bytes) -> None:
    """Hold that a content is read, or refused in a sentence that names the file."""
    path = folder / reader.name
    path.write_bytes(reader.frame(content))
    try:
        reader.read(path)
    except SuiteError as error:
        if reader.name not in NAMELESS:
            sentence(error, path)


def spoil(data: st.DataObject, reader: Reader) -> bytes:
    if isinstance(reader.content, bytes):
        return data.draw(contents(reader.content))
    return data.draw(texts(reader.content)).encode("utf-8")


def _tried(data: st.DataObject, readers: dict[str, Reader], name: str, base: Path) -> None:
    place = base / f"read-{name}"
    place.mkdir(exist_ok=True)
    hold(readers[name], place, spoil(data, readers[name]))


@pytest.mark.parametrize("name", [*DOCUMENTS, *FILES])
def test_a_good_file_is_read(name: str, readers: dict[str, Reader], tmp_path: Path) -> None:
    reader = readers[name]
    content = reader.content
    path = tmp_path / reader.name
    whole = content if isinstance(content, bytes) else json.dumps(content).encode()
    path.write_bytes(reader.frame(whole))
    reader.read(path)


@pytest.mark.parametrize("name", [*DOCUMENTS, *FILES])
@quick
@given(data=st.data())
def test_a_spoilt_file_is_read_or_refused_in_a_sentence(
    name: str,
    data: st.DataObject,
    readers: dict[str, Reader],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    _tried(data, readers, name, tmp_path_factory.getbasetemp())


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["page.json", "cluster-page.json", "gated-page.json", "accuracy-page.json"]
)
@settings(long, max_examples=100)
@given(data=st.data())
def test_a_page_is_drawn_of_a_spoilt_result_or_it_is_refused_in_a_sentence(
    name: str,
    data: st.DataObject,
    readers: dict[str, Reader],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    _tried(data, readers, name, tmp_path_factory.getbasetemp())


@pytest.mark.slow
@pytest.mark.parametrize("name", [*DOCUMENTS, *FILES])
@long
@given(data=st.data())
def test_many_spoilt_files_are_read_or_refused_in_a_sentence(
    name: str,
    data: st.DataObject,
    readers: dict[str, Reader],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    _tried(data, readers, name, tmp_path_factory.getbasetemp())
