import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st
from made import LOSS, node
from spoilt import quick, sentence, texts

from bertsquad import rules
from bertsquad.assets import registry
from bertsquad.assets.cache import PACKAGE
from bertsquad.cluster.facts import NodeRun
from bertsquad.errors import SuiteError
from bertsquad.loadgen import logs
from bertsquad.models import zoo
from bertsquad.models.scales import Quantisation
from bertsquad.results import validity
from bertsquad.results.result import RESULT, of_document
from bertsquad.rules import CATEGORIES, SEEDS, TEST01, Category
from bertsquad.squad.datasets import DATASETS
from bertsquad.submission import tree
from bertsquad.submission.evidence import GROUP_FORM, Refused, find_evidence, refusals
from bertsquad.submission.system import Answers, read_answers, system_description
from bertsquad.submission.tree import SHORTENED, submit
from bertsquad.suite.cases import Case
from bertsquad.suite.harness import Harness
from bertsquad.suite.options import Options

SCENARIOS = ("offline", "singlestream")
MODES = ("accuracy", "performance", "compliance")
ANSWERS = {
    "submitter": "Acme",
    "system": "two_cores",
    "status": "rdi",
    "system_name": "Two cores",
    "host_storage_capacity": "1 TB",
    "host_storage_type": "NVMe SSD",
    "host_memory_configuration": "2 x 16 GB",
    "host_networking": "N/A",
    "host_networking_topology": "N/A",
    "host_network_card_count": "1",
    "cooling": "air",
    "starting_weights_filename": "minilm-squad.onnx",
    "weight_transformations": "none",
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output folder with short real runs of all that a closed submission needs.

    Of a model that takes no time, under the name of one that does.
    """
    output = tmp_path_factory.mktemp("runs") / "results"
    file = tiny.model(output.parent / "tiny.onnx")
    model = replace(zoo.MODELS["minilm"], file=None, path=file, reference_f1={})
    harness = Harness(Options(dataset_size=20, min_duration_s=0.2, output=output))
    try:
        for scenario in SCENARIOS:
            case = Case(model, DATASETS["pocket"], scenario, "cpu", "fp32")
            for mode in MODES:
                harness.run(case, mode)
    finally:
        harness.close()
    return output


@pytest.fixture
def runs(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "results"))


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    return filled_answers(tmp_path / "answers.toml")


def filled_answers(path: Path, **changes: str) -> Path:
    with pytest.raises(SuiteError, match="was written"):
        read_answers(path)
    text = path.read_text(encoding="utf-8")
    for key, value in (ANSWERS | changes).items():
        text, count = re.subn(rf'^{key} = ".*"', f'{key} = "{value}"', text, flags=re.M)
        assert count == 1, key
    path.write_text(text, encoding="utf-8")
    return path


def folder(runs: Path, mode: str, scenario: str) -> Path:
    return runs / f"{mode}-minilm-pocket-{scenario}-cpu-fp32"


def provenance(runs: Path, mode: str, scenario: str) -> dict[str, Any]:
    text = (folder(runs, mode, scenario) / "result.json").read_text()
    found: dict[str, Any] = json.loads(text)["provenance"]
    return found


def change(runs: Path, mode: str, scenario: str, **changes: Any) -> Path:
    """Change the provenance of a result; its file."""
    path = folder(runs, mode, scenario) / "result.json"
    result = json.loads(path.read_text())
    result["provenance"] |= changes
    path.write_text(json.dumps(result))
    return path


def reasons(runs: Path, answers: Path, tree: Path, shortened: bool = False) -> tuple[str, ...]:
    with pytest.raises(Refused) as refused:
        submit([runs], answers, tree, shortened=shortened)
    assert not tree.exists()
    return refused.value.reasons


def test_shortened_runs_make_a_marked_open_tree(runs: Path, answers: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    made = submit([runs], answers, tree, shortened=True)
    home = tree / "open" / "Acme"
    assert home / "results" / "two_cores" / "bert-99" in made
    marks = [tree / SHORTENED, *tree.rglob("results/**/README.md")]
    assert len(marks) == 1 + 2 * len(made)
    for mark in (*marks, home / "systems" / "two_cores.json"):
        assert "none of it may be submitted" in mark.read_text()
    package = home / "src" / "bertsquad"
    inside = {path.relative_to(PACKAGE) for path in PACKAGE.rglob("*") if path.is_file()}
    code = {one for one in inside if one.suffix != ".onnx" and one.parent.name != "__pycache__"}
    assert {path.relative_to(package) for path in package.rglob("*") if path.is_file()} == code
    assert {Path("report/page.html"), Path("submission/answers.toml")} <= code
    for name in ("SingleStream", "Offline"):
        scenario = home / "results" / "two_cores" / "bert-99" / name
        files = sorted(str(p.relative_to(scenario)) for p in scenario.rglob("*") if p.is_file())
        assert files == [
            "README.md",
            "accuracy/accuracy.txt",
            "accuracy/mlperf_log_accuracy.json",
            "accuracy/mlperf_log_detail.txt",
            "accuracy/mlperf_log_summary.txt",
            "measurements.json",
            "performance/run_1/mlperf_log_detail.txt",
            "performance/run_1/mlperf_log_summary.txt",
            "user.conf",
        ]
        assert all((scenario / file).stat().st_size for file in files)


def test_accuracy_is_the_official_line_the_hash_of_the_whole_log_and_a_cut_log(
    runs: Path, answers: Path, tmp_path: Path
) -> None:
    submit([runs], answers, tmp_path / "tree", shortened=True)
    made = tmp_path / "tree/open/Acme/results/two_cores/bert-99/Offline/accuracy"
    log = folder(runs, "accuracy", "offline") / logs.ACCURACY
    result = json.loads((log.parent / "result.json").read_text())
    official, digest = (made / "accuracy.txt").read_text().splitlines()
    # The pattern by which MLCommons' checker finds F1.
    pattern = r"^{[\"\']exact_match[\"\']\:\s*[\d\.]+,\s*[\"\']f1[\"\']\:\s*([\d\.]+)}"
    match = re.match(pattern, official)
    assert match is not None and float(match[1]) == result["f1"]
    assert digest == f"hash={hashlib.sha256(log.read_bytes()).hexdigest()}"
    cut = (made / logs.ACCURACY).read_bytes()
    assert len(cut) <= 10 * 1024 < log.stat().st_size
    assert cut[:4096] == log.read_bytes()[:4096]
    assert cut[-4096:] == log.read_bytes()[-4096:]


@pytest.mark.parametrize("told", [{"runtime": "onnxruntime-openvino"}, {}])
def test_the_system_description_names_the_runtime_whatever_it_is_called(
    runs: Path, answers: Path, told: dict[str, str]
) -> None:
    (file, *_) = runs.rglob("result.json")
    document = json.loads(file.read_bytes())
    name = told.get("runtime", "onnxruntime-gpu")  # the key isn't in older results
    facts = document["provenance"] | {"versions": {"python": "3.11.7", name: "1.24.1"}}
    del facts["runtime"]
    result = replace(of_document(document), provenance=facts | told)
    described = system_description(read_answers(answers), result)
    assert described["framework"] == "ONNX Runtime 1.24.1, CPUExecutionProvider"
    assert described["other_software_stack"] == f"python 3.11.7, {name} 1.24.1"


def test_the_system_description_has_every_key_and_measurements_no_empty_one(
    runs: Path, answers: Path, tmp_path: Path
) -> None:
    submit([runs], answers, tmp_path / "tree", shortened=True)
    home = tmp_path / "tree/open/Acme"
    system = json.loads((home / "systems/two_cores.json").read_text())
    assert len(system) == 35
    assert all(isinstance(value, str) for value in system.values())
    assert system["submitter"] == "Acme" and system["system_type"] == "edge"
    assert system["accelerators_per_node"] == "0" and system["cooling"] == "air"
    measured = json.loads(
        (home / "results/two_cores/bert-99/Offline/measurements.json").read_text()
    )
    assert sorted(measured) == [
        "input_data_types",
        "retraining",
        "starting_weights_filename",
        "weight_data_types",
        "weight_transformations",
    ]
    assert all(measured.values())


def test_short_runs_are_refused_with_file_and_cure(
    runs: Path, answers: Path, tmp_path: Path
) -> None:
    said = "\n".join(reasons(runs, answers, tmp_path / "tree"))
    assert str(folder(runs, "performance", "offline") / "result.json") in said
    for part in ("--rules quick", "run on pocket", "--rules mlperf"):
        assert part in said, part


def test_closed_wants_mlperfs_models(runs: Path, tmp_path: Path) -> None:
    answers = filled_answers(tmp_path / "closed.toml", division="closed")
    said = reasons(runs, answers, tmp_path / "tree", shortened=True)
    assert any("minilm is not MLPerf's model" in reason and "open" in reason for reason in said)


@pytest.fixture
def closed(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The answers for the closed division, where the model of the runs is MLPerf's own."""
    monkeypatch.setattr(rules, "CLOSED_MODELS", ("minilm",))
    name = str(zoo.MODELS["minilm"].file)
    own = registry.Entry(name, provenance(runs, "accuracy", "offline")["model_checksum"], ())
    monkeypatch.setattr(validity, "entries", lambda: {name: own})
    easy = (Category("bert-99", 1.0), Category("bert-99.9", 100.0))
    monkeypatch.setattr(rules, "CATEGORIES", easy)
    monkeypatch.setattr(tree, "CATEGORIES", easy)
    yield filled_answers(tmp_path / "closed.toml", division="closed")


def test_a_closed_tree_carries_test01(runs: Path, closed: Path, tmp_path: Path) -> None:
    submit([runs], closed, tmp_path / "tree", shortened=True)
    audit = tmp_path / "tree/closed/Acme/results/two_cores/bert-99/Offline/TEST01"
    for name in ("verify_accuracy.txt", "verify_performance.txt"):
        assert "TEST PASS" in (audit / name).read_text().splitlines()
    detail = (audit / "performance/run_1" / logs.DETAIL).read_text()
    assert str(TEST01.accuracy_log_rng_seed) in detail
    assert (audit / "accuracy" / logs.ACCURACY).stat().st_size <= 10 * 1024


def test_the_audits_accuracy_folder_holds_what_the_older_checker_wants(
    runs: Path, closed: Path, tmp_path: Path
) -> None:
    submit([runs], closed, tmp_path / "tree", shortened=True)
    for scenario in ("Offline", "SingleStream"):
        results = tmp_path / "tree/closed/Acme/results/two_cores/bert-99"
        audit = results / scenario / "TEST01/accuracy"
        # It takes these two files and no other.
        assert sorted(path.name for path in audit.iterdir()) == ["accuracy.txt", logs.ACCURACY]
        whole = folder(runs, "compliance", scenario.lower()) / logs.ACCURACY
        digest = hashlib.sha256(whole.read_bytes()).hexdigest()
        assert (audit / "accuracy.txt").read_text() == f"hash={digest}\n"


@pytest.fixture(scope="module")
def int8_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `finished` holds, of a model that the suite quantised, for the open division."""
    output = tmp_path_factory.mktemp("int8") / "results"
    file = tiny.model(output.parent / "wide.onnx", wide=True)
    model = replace(zoo.MODELS["minilm"], file=None, path=file, reference_f1={})
    harness = Harness(Options(dataset_size=20, min_duration_s=0.2, output=output))
    try:
        for scenario in SCENARIOS:
            for mode in ("accuracy", "performance"):
                harness.run(Case(model, DATASETS["pocket"], scenario, "cpu", "int8"), mode)
    finally:
        harness.close()
    return output


def test_a_tree_says_how_and_with_what_its_model_was_quantised(
    int8_runs: Path, answers: Path, tmp_path: Path
) -> None:
    submit([int8_runs], answers, tmp_path / "tree", shortened=True)
    (document,) = (tmp_path / "tree").rglob("calibration.md")
    assert document == tmp_path / "tree/open/Acme/documentation/calibration.md"
    text = document.read_text()
    result = json.loads(next(int8_runs.glob("accuracy-*/result.json")).read_text())
    made = result["provenance"]["model_quantisation"]
    assert made["by_suite"] and made["quantised"] and made["windows"]
    for part in (
        *("wide.onnx", result["provenance"]["model_checksum"], made["calibration"]),
        f"{made['quantised']} of its {made['products']} matrix products",
        f"{made['windows']} in all (pocket/calibration-v1.1.json)",
        "int8, symmetric" if made["symmetric"] else "uint8 with a zero point",
        f"Of {made['tensors']} tensors {made['smoothed']} were smoothed",
    ):
        assert part in text, part


def test_a_tree_of_a_model_that_is_not_quantised_says_nothing_of_calibration(
    runs: Path, answers: Path, tmp_path: Path
) -> None:
    submit([runs], answers, tmp_path / "tree", shortened=True)
    assert not list((tmp_path / "tree").rglob("calibration.md"))


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("bert_large_int8", "MLPerf quantised and calibrated it"),
        ("own", "The submitter says of its weights: by hand"),
    ],
)
def test_who_quantised_a_file_that_was_int8_before_is_said(
    int8_runs: Path, tmp_path: Path, model: str, said: str
) -> None:
    told = read_answers(filled_answers(tmp_path / "a.toml", weight_transformations="by hand"))
    (evidence,) = find_evidence([next(int8_runs.glob("accuracy-*"))])
    stored = replace(
        evidence,
        result=replace(evidence.result, model=model),
        quantisation=Quantisation(98, 97, by_suite=False),
    )
    text = tree.calibration(stored, told)
    assert said in text and "97 of its 98 matrix products" in text
    assert "bertsquad" not in text


def test_an_int8_run_that_does_not_say_how_it_was_quantised_is_run_again(
    int8_runs: Path, answers: Path, tmp_path: Path
) -> None:
    own = Path(shutil.copytree(int8_runs, tmp_path / "results"))
    path = next(own.glob("accuracy-*offline*")) / "result.json"
    result = json.loads(path.read_text())
    del result["provenance"]["model_quantisation"]
    path.write_text(json.dumps(result))
    with pytest.raises(SuiteError, match="no model_quantisation: run the case again"):
        submit([own], answers, tmp_path / "tree", shortened=True)


@quick
@given(data=st.data())
def test_a_run_with_anything_anywhere_in_its_facts_is_taken_or_refused_in_a_sentence(
    data: st.DataObject, finished: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    source = folder(finished, "accuracy", "offline")
    place = tmp_path_factory.mktemp("facts") / source.name
    shutil.copytree(source, place)
    document = json.loads((source / "result.json").read_text())
    document["timeline"] = {}
    (place / "result.json").write_text(data.draw(texts(document)), "utf-8")
    try:
        (evidence,) = find_evidence([place])
        assert list(refusals(evidence, "open", shortened=False))
        system_description(Answers("open", "Acme", "two", "rdi", {}, {}), evidence.result)
    except SuiteError as error:
        sentence(error)


def rewrite(path: Path, text: str, runs: Path) -> None:
    """Tamper with a log and with the checksum that `result.json` has of it."""
    path.write_text(text)
    result = json.loads((path.parent / "result.json").read_text())
    checksums = logs.checksums(path.parent)
    result["provenance"]["log_checksums"] = checksums
    (path.parent / "result.json").write_text(json.dumps(result))


def test_tampered_responses_fail_test01(runs: Path, closed: Path, tmp_path: Path) -> None:
    log = folder(runs, "compliance", "offline") / logs.ACCURACY
    entries = json.loads(log.read_text())
    data = bytearray.fromhex(entries[0]["data"])
    data[-1] ^= 0x01  # the exponent of the last logit: the official tool looks at byte 0 alone
    entries[0]["data"] = data.hex().upper()
    rewrite(log, json.dumps(entries), runs)
    said = reasons(runs, closed, tmp_path / "tree", shortened=True)
    assert any("TEST01" in reason and str(log) in reason for reason in said)


@pytest.mark.parametrize("name", [logs.DETAIL, logs.SUMMARY, logs.ACCURACY])
def test_an_edited_truncated_or_missing_log_is_named(
    name: str, runs: Path, answers: Path, tmp_path: Path
) -> None:
    log = folder(runs, "accuracy", "offline") / name
    whole = log.read_text()
    for content in (f"{whole}\n", whole[: len(whole) // 2], None):
        if content is None:
            log.unlink()
        else:
            log.write_text(content)
        with pytest.raises(SuiteError, match=re.escape(str(log))):
            submit([runs], answers, tmp_path / "tree", shortened=True)
    assert not (tmp_path / "tree").exists()


def test_another_runs_log_is_refused(runs: Path, answers: Path, tmp_path: Path) -> None:
    own = folder(runs, "accuracy", "offline") / logs.ACCURACY
    shutil.copy(folder(runs, "accuracy", "singlestream") / logs.ACCURACY, own)
    with pytest.raises(SuiteError, match="mixed up"):
        submit([runs], answers, tmp_path / "tree", shortened=True)


def test_runs_of_different_models_are_refused(runs: Path, answers: Path, tmp_path: Path) -> None:
    path = change(runs, "performance", "singlestream", model_checksum="0" * 64)
    said = reasons(runs, answers, tmp_path / "tree", shortened=True)
    assert any("model_checksum" in reason and str(path) in reason for reason in said)


def test_a_run_whose_cached_model_was_rebuilt_goes_with_the_others(
    runs: Path, answers: Path, tmp_path: Path
) -> None:
    change(runs, "performance", "singlestream", model_rebuilt="damaged")
    assert submit([runs], answers, tmp_path / "tree", shortened=True)


def test_each_scenario_may_divide_the_cores_in_its_own_way(
    runs: Path, answers: Path, tmp_path: Path
) -> None:
    for mode in MODES:
        change(runs, mode, "offline", instances=64, threads=1)
        change(runs, mode, "singlestream", instances=1, threads=64)
    assert submit([runs], answers, tmp_path / "tree", shortened=True)


def on_gpus(runs: Path, offline: list[str], singlestream: list[str]) -> None:
    """Let the runs be of a GPU device."""
    for mode in MODES:
        for scenario, names in (("offline", offline), ("singlestream", singlestream)):
            path = change(runs, mode, scenario, gpus=names)
            result = json.loads(path.read_text()) | {"device": "cuda"}
            path.write_text(json.dumps(result))


def test_the_accelerators_are_those_that_the_runs_used(
    runs: Path, answers: Path, tmp_path: Path
) -> None:
    on_gpus(runs, ["Tesla T4", "Tesla T4", "NVIDIA L4"], ["Tesla T4"])
    told = [
        "memory_capacity",
        *("host_interconnect", "interconnect", "memory_configuration"),
    ]
    lines = "\n".join(f'accelerator_{key} = "some"' for key in told)
    text = answers.read_text().replace("[system_description]", f"[system_description]\n{lines}")
    answers.write_text(text)
    submit([runs], answers, tmp_path / "tree", shortened=True)
    system = json.loads((tmp_path / "tree/open/Acme/systems/two_cores.json").read_text())
    assert system["accelerators_per_node"] == "3"
    assert system["accelerator_model_name"] == "Tesla T4, NVIDIA L4"


@pytest.mark.parametrize(("first", "said"), [("NVIDIA L4", "gpus"), ("Tesla T4", None)])
def test_a_scenario_may_use_fewer_gpus_but_no_others(
    runs: Path, answers: Path, tmp_path: Path, first: str, said: str | None
) -> None:
    for mode in MODES:
        change(runs, mode, "offline", gpus=["Tesla T4", "Tesla T4"])
        change(runs, mode, "singlestream", gpus=[first])
    if said is None:
        assert submit([runs], answers, tmp_path / "tree", shortened=True)
        return
    for reason in reasons(runs, answers, tmp_path / "tree", shortened=True):
        assert f"its {said} is ['Tesla T4'], but ['{first}'] in " in reason


@pytest.mark.parametrize("key", ["instances", "threads", "gpus"])
def test_runs_of_one_scenario_that_divided_the_cores_otherwise_are_refused(
    key: str, runs: Path, answers: Path, tmp_path: Path
) -> None:
    other: object = 0
    if key == "gpus":
        on_gpus(runs, ["Tesla T4"], ["Tesla T4"])
        other = ["Tesla T4", "Tesla T4"]
    path = change(runs, "performance", "offline", **{key: other})
    (said,) = reasons(runs, answers, tmp_path / "tree", shortened=True)
    shown = tuple(other) if isinstance(other, list) else other
    assert said.startswith(f"{path}: its {key} is {shown}, but ")
    assert str(folder(runs, "accuracy", "offline")) in said


def clustered(runs: Path, *, modes: Sequence[str] = MODES, **changes: Any) -> None:
    """Make the runs of Offline those of a cluster of two nodes, as this machine is one.

    `changes` are of its second node.
    """
    for mode in modes:
        path = folder(runs, mode, "offline") / "result.json"
        document = json.loads(path.read_text())
        keys = {field.name for field in fields(NodeRun)} - {"gpus", "machine"}
        own = {key: one for key, one in document["provenance"].items() if key in keys}
        nodes = [asdict(node(1, **own)), asdict(node(2, **own)) | changes]
        document |= {"nodes": nodes, "number_of_nodes": 2}
        path.write_text(json.dumps(document))


def test_a_cluster_is_a_system_of_many_nodes_whose_hardware_is_that_of_a_node(
    runs: Path, answers: Path, tmp_path: Path
) -> None:
    clustered(runs)
    change(runs, "performance", "offline", cores=1, physical_cores=1)  # of who drove the run
    submit([runs], answers, tmp_path / "tree", shortened=True)
    home = tmp_path / "tree/open/Acme"
    system = json.loads((home / "systems/two_cores.json").read_text())
    facts = provenance(runs, "accuracy", "offline")
    assert system["number_of_nodes"] == "2"
    assert system["host_processor_model_name"] == facts["cpu"]
    assert system["host_memory_capacity"] == f"{facts['memory_bytes'] / 2**30:.0f} GiB"
    assert system["accelerators_per_node"] == "0"
    assert len(system) == 35 and "is_network" not in system
    results = home / "results/two_cores/bert-99"
    assert (results / "Offline").is_dir()


@pytest.mark.parametrize(("scenario", "count"), [("offline", 2), ("singlestream", 1)])
def test_a_readme_says_on_how_many_nodes_its_scenario_ran(
    scenario: str, count: int, runs: Path
) -> None:
    before = of_document(json.loads((folder(runs, "performance", scenario) / RESULT).read_bytes()))
    assert "nodes" not in tree._readme(before, before, 1)
    clustered(runs)
    after = of_document(json.loads((folder(runs, "performance", scenario) / RESULT).read_bytes()))
    assert f"on {count} of the system's 2 nodes" in tree._readme(after, after, 2)


def test_what_a_system_description_says_of_a_node_is_not_of_who_drove_the_run(
    runs: Path, answers: Path
) -> None:
    document = json.loads((folder(runs, "performance", "offline") / "result.json").read_bytes())
    big = [
        node(
            n,
            cpu="Big CPU",
            sockets=2,
            physical_cores=128,
            memory_bytes=2**40,
            gpus=["NVIDIA H200"] * 8,
            operating_system="Ubuntu",
            versions={**document["provenance"]["versions"], "ray": "2.60.0"},
        )
        for n in range(4)
    ]
    result = replace(of_document(document), nodes=big, number_of_nodes=4, device="cuda")
    told = read_answers(answers)
    needed = {
        f"accelerator_{key}": "some"
        for key in ("memory_capacity", "host_interconnect", "interconnect", "memory_configuration")
    }
    told = replace(told, system_description={**told.system_description, **needed})
    described = system_description(told, result)
    assert described["number_of_nodes"] == "4"
    stack = described["other_software_stack"].split(", ")
    assert "ray 2.60.0" in stack and len(stack) == len(document["provenance"]["versions"]) + 1
    assert described["host_processor_model_name"] == "Big CPU"
    assert described["host_processors_per_node"] == "2"
    assert described["host_processor_core_count"] == "64"
    assert described["host_memory_capacity"] == "1024 GiB"
    assert described["accelerators_per_node"] == "8"
    assert described["accelerator_model_name"] == "NVIDIA H200"
    assert described["operating_system"] == "Ubuntu"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("cpu", "Other CPU"),
        ("cores", 1_000),
        ("physical_cores", 1_000),
        ("sockets", 7),
        ("memory_bytes", 2**30),
        ("gpus", ["NVIDIA H200"]),
    ],
)
def test_nodes_that_are_unlike_are_no_system(
    key: str, value: Any, runs: Path, answers: Path, tmp_path: Path
) -> None:
    clustered(runs, modes=["performance"], **{key: value})
    clustered(runs, modes=["accuracy", "compliance"])
    (said,) = reasons(runs, answers, tmp_path / "tree", shortened=True)
    assert str(folder(runs, "performance", "offline") / "result.json") in said
    for part in ("10.0.0.1", "10.0.0.2", key, "alike"):
        assert part in said


def test_nodes_whose_firmware_keeps_a_little_more_memory_are_alike(
    runs: Path, answers: Path, tmp_path: Path
) -> None:
    facts = provenance(runs, "performance", "offline")
    clustered(runs, memory_bytes=int(0.97 * facts["memory_bytes"]), operating_system="another")
    assert submit([runs], answers, tmp_path / "tree", shortened=True)


def test_runs_of_one_scenario_on_another_number_of_nodes_are_refused(
    runs: Path, answers: Path, tmp_path: Path
) -> None:
    clustered(runs, modes=["accuracy"])
    (said,) = reasons(runs, answers, tmp_path / "tree", shortened=True)
    path = folder(runs, "performance", "offline") / "result.json"
    assert said.startswith(f"{path}: its number_of_nodes is 1, but 2 in ")


def test_a_stream_that_ran_on_a_machine_that_is_no_node_is_refused(
    runs: Path, answers: Path, tmp_path: Path
) -> None:
    clustered(runs)
    for mode in MODES:
        change(runs, mode, "singlestream", cpu="Other CPU")
    said = reasons(runs, answers, tmp_path / "tree", shortened=True)
    assert said and all(" its cpu is " in reason for reason in said)


def test_nodes_that_share_a_machine_are_for_trying_only(
    runs: Path, answers: Path, tmp_path: Path
) -> None:
    clustered(runs, machine="machine 1")
    said = "\n".join(reasons(runs, answers, tmp_path / "tree"))
    assert "its nodes 10.0.0.1 and 10.0.0.2 are one machine" in said
    assert submit([runs], answers, tmp_path / "tree", shortened=True)


@pytest.mark.parametrize("mode", MODES)
def test_a_run_that_lost_a_node_is_refused_even_in_shortened_runs(
    mode: str, runs: Path, closed: Path, tmp_path: Path
) -> None:
    clustered(runs)
    path = folder(runs, mode, "offline") / "result.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps(document | {"nodes_lost": [asdict(LOSS)]}))
    (said,) = reasons(runs, closed, tmp_path / "tree", shortened=True)
    assert said.startswith(f"{path}: {LOSS}: ")


def test_an_f1_that_the_log_does_not_give_is_refused(
    runs: Path, answers: Path, tmp_path: Path
) -> None:
    path = folder(runs, "accuracy", "offline") / "result.json"
    result = json.loads(path.read_text())
    path.write_text(json.dumps(result | {"f1": 99.9}))
    said = reasons(runs, answers, tmp_path / "tree", shortened=True)
    assert any("99.9" in reason and str(path) in reason for reason in said)


def test_other_seeds_are_refused_even_in_shortened_runs(
    runs: Path, answers: Path, tmp_path: Path
) -> None:
    log = folder(runs, "performance", "offline") / logs.DETAIL
    seed = str(SEEDS["effective_qsl_rng_seed"])
    rewrite(log, log.read_text().replace(seed, "12345"), runs)
    said = reasons(runs, answers, tmp_path / "tree", shortened=True)
    assert any("effective_qsl_rng_seed is 12345" in reason for reason in said)


def test_a_missing_scenario_says_the_command_that_makes_it(
    runs: Path, answers: Path, tmp_path: Path
) -> None:
    shutil.rmtree(folder(runs, "performance", "singlestream"))
    (said,) = reasons(runs, answers, tmp_path / "tree", shortened=True)
    assert "no performance run of singlestream" in said and "pytest benchmarks" in said


def test_a_valid_full_run_is_not_refused(runs: Path) -> None:
    (evidence,) = find_evidence([folder(runs, "performance", "offline")])
    values = dict(evidence.run.values) | {
        "result_validity": "VALID",
        "effective_min_duration_ms": 600_000,
        "effective_performance_sample_count": 10_833,
        "effective_samples_per_query": 40_000,
    }
    result = replace(evidence.result, rules="mlperf", dataset="squad")
    whole = replace(evidence, result=result, run=replace(evidence.run, values=values))
    assert list(refusals(whole, "open", shortened=False)) == []
    (closed,) = refusals(whole, "closed", shortened=False)
    assert "open division only" in closed


def test_the_same_case_twice_is_not_chosen_from(runs: Path, answers: Path, tmp_path: Path) -> None:
    twice = tmp_path / "again"
    shutil.copytree(folder(runs, "accuracy", "offline"), twice)
    with pytest.raises(SuiteError, match="are the same case"):
        submit([runs, twice], answers, tmp_path / "tree", shortened=True)


def test_a_group_of_runs_that_is_not_there_is_named(
    runs: Path, answers: Path, tmp_path: Path
) -> None:
    with pytest.raises(SuiteError, match="minilm-pocket-cpu-fp32"):
        submit([runs], answers, tmp_path / "tree", group="bert_large-squad-cuda-fp32")


def test_several_groups_of_runs_are_listed_as_session_takes_them(
    runs: Path, answers: Path, tmp_path: Path
) -> None:
    path = folder(runs, "performance", "offline") / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"dataset": "squad"}))
    with pytest.raises(SuiteError, match=f"choose one by --session {GROUP_FORM}") as caught:
        submit([runs], answers, tmp_path / "tree", shortened=True)
    listed = str(caught.value).partition("runs of ")[2].partition(":")[0].split(", ")
    assert listed == ["minilm-pocket-cpu-fp32", "minilm-squad-cpu-fp32"]
    for group in listed:
        with pytest.raises(Refused, match=f"for {group}: "):
            submit([runs], answers, tmp_path / "tree", group=group)


def test_targets_are_those_of_the_rules() -> None:
    assert [round(category.f1_target, 6) for category in CATEGORIES] == [89.96526, 90.783126]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"submitter": "A/B"}, "folder's name"),
        ({"status": "sold"}, "available, preview, rdi"),
        ({"division": "network"}, "open, closed"),
        ({"cooling": " "}, "cooling is empty"),
        ({"cooling": 'air"\nsystem_type = "datacenter'}, "system_type doesn't belong"),
        ({"cooling": 'air"\ncolour = "red'}, "no key 'colour'"),
    ],
)
def test_bad_answers_are_named(change: dict[str, str], complaint: str, tmp_path: Path) -> None:
    path = filled_answers(tmp_path / "a.toml", **change)
    with pytest.raises(SuiteError, match=complaint):
        read_answers(path)
