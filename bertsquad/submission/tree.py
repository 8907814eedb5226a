"""A submitter's tree for MLPerf Inference, made from finished runs.

    python -m bertsquad submission RESULTS --answers submission.toml --tree DIR

It checks the logs themselves, and more of them than MLCommons' checker does, and writes the tree
only if nothing is wrong. What no program can know of a system, the user fills into a small TOML
file that the first call writes.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bertsquad.assets import cache
from bertsquad.errors import SuiteError
from bertsquad.loadgen import logs
from bertsquad.models.scales import CLIPPINGS
from bertsquad.results import compliance
from bertsquad.results.accuracy import score_log
from bertsquad.results.result import PASSED, RESULT, Result, Verdict
from bertsquad.rules import CATEGORIES, CLOSED_MODELS, EDGE_SCENARIOS, TEST01, Category
from bertsquad.scenarios import SCENARIOS
from bertsquad.squad import datasets
from bertsquad.squad.datasets import DATASETS
from bertsquad.squad.score import Score
from bertsquad.submission.evidence import (
    Chosen,
    Evidence,
    Refused,
    choose,
    find_evidence,
    mixed_up,
    on_the_whole_system,
    refusals,
)
from bertsquad.submission.system import Answers, read_answers, system_description

#: The accuracy log is cut to this many bytes from its beginning and as many from its end.
CUT_BYTES = 4096
#: Where a submitter says how and with what a model was quantised.
CALIBRATION = Path("documentation", "calibration.md")
#: The file that marks a tree of shortened runs.
SHORTENED = "SHORTENED-NOT-FOR-SUBMISSION.txt"
_NOT_A_RESULT = (
    "Made from shortened runs by `python -m bertsquad submission --shortened`, to test the "
    "command. Nothing in this tree is an MLPerf result and none of it may be submitted."
)


def submit(
    folders: Sequence[Path],
    answers_file: Path,
    tree: Path,
    group: str | None = None,
    shortened: bool = False,
) -> list[Path]:
    """Check the runs and write the tree; the folders of the benchmarks in it.

    `group` names the runs to take where the folders hold several groups. If anything is wrong,
    Refused is raised with all reasons, and nothing is written.
    """
    if tree.exists():
        raise SuiteError(f"{tree} is there already: name a folder that isn't")
    evidence = find_evidence(folders)
    answers = read_answers(answers_file)
    chosen = choose(evidence, answers.division, group)
    reasons = [why for one in chosen.values() for why in refusals(one, answers.division, shortened)]
    reasons += mixed_up(chosen)
    if reasons:
        raise Refused(reasons)
    scores = {scenario: _score(chosen[scenario, "accuracy"]) for scenario in EDGE_SCENARIOS}
    reasons += _wrong_scores(chosen, scores)
    fitting = categories(answers.division, scores)
    if not fitting and not shortened:
        accuracy = chosen[EDGE_SCENARIOS[0], "accuracy"]
        reasons.append(
            f"{accuracy.file(logs.ACCURACY)}: F1 is {accuracy.result.f1}, under closed's "
            f'{CATEGORIES[0].f1_target:.5f}: set division = "open", or use a better model'
        )
    audited = EDGE_SCENARIOS if answers.division == "closed" else ()
    audits = {scenario: _audit(chosen, scenario) for scenario in audited}
    for scenario, verdict in audits.items():
        if verdict.word != PASSED:
            log = chosen[scenario, "compliance"].file(logs.ACCURACY)
            reasons.append(f"{log}: {verdict.reason}: run the three cases again")
    if reasons:
        raise Refused(reasons)
    return _write(tree, answers, chosen, scores, audits, fitting or [CATEGORIES[0]], shortened)


def categories(division: str, scores: Mapping[str, Score]) -> list[Category]:
    """The categories whose target the F1 reaches; in open, which has no target, the first."""
    worst = min(score.f1 for score in scores.values())
    met = [category for category in CATEGORIES if worst >= category.f1_target]
    return met or ([CATEGORIES[0]] if division == "open" else [])


def _score(accuracy: Evidence) -> Score:
    result = accuracy.result
    data = datasets.load(DATASETS[result.dataset])
    if result.provenance.get("dataset_checksum") != data.checksum:
        raise SuiteError(f"{accuracy.file(RESULT)}: made on another version of {result.dataset}")
    return score_log(data, accuracy.folder, result.sample_count)


def _wrong_scores(chosen: Chosen, scores: Mapping[str, Score]) -> Iterator[str]:
    for scenario, score in scores.items():
        accuracy = chosen[scenario, "accuracy"]
        if score.f1 != accuracy.result.f1:
            yield (
                f"{accuracy.file(RESULT)} says F1 {accuracy.result.f1}, but its log gives "
                f"{score.f1}: run the case again"
            )


def _write(
    tree: Path,
    answers: Answers,
    chosen: Chosen,
    scores: Mapping[str, Score],
    audits: Mapping[str, Verdict],
    fitting: Sequence[Category],
    shortened: bool,
) -> list[Path]:
    """Write the tree into a temporary folder beside its place, then move it there in one step."""
    tree.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=tree.parent, prefix=f".{tree.name}.") as scratch:
        root = Path(scratch) / "tree"
        home = root / answers.division / answers.submitter
        description = system_description(answers, on_the_whole_system(chosen).result)
        if shortened:
            description["sw_notes"] += f"; {_NOT_A_RESULT}"
        _write_json(home / "systems" / f"{answers.system}.json", description)
        accuracy = chosen[EDGE_SCENARIOS[0], "accuracy"]
        if accuracy.quantisation is not None:
            _write_text(home / CALIBRATION, calibration(accuracy, answers))
        _copy_source(home / "src")
        written = []
        for category in fitting:
            benchmark = home / "results" / answers.system / category.name
            for scenario in EDGE_SCENARIOS:
                folder = benchmark / SCENARIOS[scenario].loadgen_name
                _write_scenario(folder, answers, chosen, scenario, scores[scenario])
                if shortened:
                    _write_text(folder / "README.md", f"{_NOT_A_RESULT}\n")
                if scenario in audits:
                    audited = chosen[scenario, "compliance"]
                    _write_audit(folder / TEST01.name, audited, audits[scenario])
            written.append(tree / benchmark.relative_to(root))
        if shortened:
            _write_text(root / SHORTENED, f"{_NOT_A_RESULT}\n")
        shutil.move(root, tree)
    return written


def _audit(chosen: Chosen, scenario: str) -> Verdict:
    """TEST01's judgement, made anew from the logs."""
    audited, accuracy = chosen[scenario, "compliance"], chosen[scenario, "accuracy"]
    result, plain = audited.result, chosen[scenario, "performance"].run
    found = compliance.audit(audited.run, plain, accuracy.folder, scenario, result.precision)
    return found.judge(result.rules, result.what)


def _write_scenario(
    folder: Path, answers: Answers, chosen: Chosen, scenario: str, score: Score
) -> None:
    performance, accuracy = chosen[scenario, "performance"], chosen[scenario, "accuracy"]
    result = performance.result
    nodes = on_the_whole_system(chosen).result.number_of_nodes
    measurements = {
        "input_data_types": result.provenance["model_input_type"],
        "weight_data_types": result.precision,
        **answers.measurements,
    }
    _write_json(folder / "measurements.json", measurements)
    _write_text(folder / "user.conf", user_conf(result))
    _write_text(folder / "README.md", _readme(result, accuracy.result, nodes))
    _copy_logs(performance, folder / "performance" / "run_1")
    _copy_logs(accuracy, folder / "accuracy")
    official = json.dumps({"exact_match": score.exact_match, "f1": score.f1})
    _write_accuracy(folder / "accuracy", accuracy.file(logs.ACCURACY), official)


def calibration(evidence: Evidence, answers: Answers) -> str:
    """How the model of a run was quantised, and with what data, as MLPerf wants it told."""
    facts, made = evidence.result.provenance, evidence.quantisation
    assert made is not None
    share = f"{made.quantised} of its {made.products} matrix products have int8 inputs"
    text = f"# Calibration of {facts['model_file']}\n\nChecksum {facts['model_checksum']}; "
    if not made.by_suite and evidence.result.model in CLOSED_MODELS:
        return (
            f"{text}{share}.\n\nThis is MLPerf's own fake-quantised model. MLPerf quantised and "
            "calibrated it, and its scales were used as they are: nothing was calibrated for this "
            "submission.\n"
        )
    if not made.by_suite:
        return (
            f"{text}{share}.\n\nThe file was quantised before it was given to the benchmark, "
            "which used its scales as they are. The submitter says of its weights: "
            f"{answers.measurements['weight_transformations']}\n"
        )
    activations = "int8, symmetric" if made.symmetric else "uint8 with a zero point"
    parts = ", ".join(f"{part:g}" for part in CLIPPINGS)
    return (
        f"{text}bertsquad {facts['suite_version']} quantised it before it ran: statically, after "
        f"training, without training it again. {share}; all else is calculated in float32.\n\n"
        "- Weights: int8, symmetric, a scale for each output channel, by its largest magnitude.\n"
        f"- Activations: {activations}, one scale for each tensor, fixed before the first run: by "
        "the lowest and the highest value that the calibration data gave, cut to a part of the "
        f"largest magnitude ({parts}), after smoothing by SmoothQuant (arXiv 2211.10438) or none. "
        "The pair was taken whose products come closest to the float ones on the calibration "
        f"data. Of {made.tensors} tensors {made.smoothed} were smoothed and {made.clipped} cut.\n"
        f"- Calibration data: {made.calibration}, {made.windows} in all "
        f"({DATASETS[evidence.result.dataset].calibration}). No other data was used.\n\n"
        "The code is `src/bertsquad/models/quantisation.py` and `scales.py`.\n"
    )


def _write_audit(folder: Path, audited: Evidence, verdict: Verdict) -> None:
    _copy_logs(audited, folder / "performance" / "run_1")
    # Of responses that LoadGen chose at random there is no score, only the whole log's hash.
    _write_accuracy(folder / "accuracy", audited.file(logs.ACCURACY))
    for name in ("verify_accuracy.txt", "verify_performance.txt"):
        _write_text(folder / name, f"{verdict.reason}\nTEST PASS\n")


def user_conf(result: Result) -> str:
    """The user.conf that asks LoadGen for what a performance run was asked for."""
    name, text = f"bert.{SCENARIOS[result.scenario].loadgen_name}", ""
    if result.target_qps is not None:
        text += f"{name}.target_qps = {result.target_qps}\n"
    if result.target_latency_ms is not None:
        text += f"{name}.target_latency = {result.target_latency_ms}\n"
    return text


def _readme(performance: Result, accuracy: Result, nodes: int) -> str:
    commands = [result.provenance["command"] for result in (accuracy, performance)]
    facts = performance.provenance
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    count = performance.number_of_nodes
    where = f"\nCalculated on {count} of the system's {nodes} nodes.\n" if nodes > 1 else ""
    return (
        f"# {SCENARIOS[performance.scenario].loadgen_name}: {performance.model} on "
        f"{performance.device}, {performance.precision}\n\n"
        f"Made with bertsquad {facts['suite_version']}, revision {facts['git_revision']}, whose "
        f"source (but not the bundled model) is in `src/`; {versions}.\n\n"
        "Install it as its README says, then repeat the runs:\n\n"
        "```sh\n" + "\n".join(dict.fromkeys(commands)) + "\n```\n\n"
        f"Model {facts['model_file']}, checksum {facts['model_checksum']}; "
        f"{facts['instances']} x {facts['threads']} threads; {facts['provider_proof']}.\n"
        f"{where}"
    )


def _write_accuracy(folder: Path, log: Path, *lines: str) -> None:
    """Write `lines` and the hash of an accuracy log, and the log, cut."""
    digest = hashlib.sha256(log.read_bytes()).hexdigest()
    _write_text(folder / "accuracy.txt", "\n".join([*lines, f"hash={digest}", ""]))
    _cut(log, folder / logs.ACCURACY)


def _cut(log: Path, to: Path) -> None:
    """Copy an accuracy log, without its middle if it is longer than the checker allows."""
    content = log.read_bytes()
    if len(content) > 2 * CUT_BYTES:
        note = f"\n\n... cut to its first and last {CUT_BYTES} bytes ...\n\n".encode()
        content = content[:CUT_BYTES] + note + content[-CUT_BYTES:]
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_bytes(content)


def _copy_logs(evidence: Evidence, to: Path) -> None:
    to.mkdir(parents=True, exist_ok=True)
    for name in (logs.SUMMARY, logs.DETAIL):
        shutil.copyfile(evidence.file(name), to / name)


def _copy_source(to: Path) -> None:
    """Copy the package without its bundled model, and what is beside it in a clone."""
    root = cache.PACKAGE.parent
    code = (path for path in cache.PACKAGE.rglob("*") if path.parent.name != "__pycache__")
    sources = [path for path in code if path.is_file() and path.suffix != ".onnx"]
    if (root / "data_registry.txt").is_file():  # a clone, and no site-packages
        sources += root.glob("benchmarks/*.py")
        names = "conftest.py pytest.ini pyproject.toml data_registry.txt LICENSE README.md"
        sources += (root / name for name in names.split())
    for source in sources:
        target = to / source.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    _write_text(path, json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def _write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
