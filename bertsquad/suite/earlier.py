"""Which earlier results pytest-benchmark may compare a pytest session with."""

import contextlib
from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest

from bertsquad.assets.registry import entries
from bertsquad.errors import SuiteError
from bertsquad.loadgen import work
from bertsquad.loadgen.request import (
    Request,
    buffered_samples,
    given_targets,
    server_bound_ms,
)
from bertsquad.models.fitting import fit
from bertsquad.models.zoo import files_of
from bertsquad.results import comparison
from bertsquad.results.comparison import Figures
from bertsquad.results.result import SCHEMA_VERSION
from bertsquad.squad.datasets import locate
from bertsquad.suite.cases import Case, leaves_out, sample_count
from bertsquad.suite.options import Options


def expected(case: Case, options: Options, old: Figures) -> Figures:
    """What is known of a timed case's result before it runs, to be compared with `old`."""
    available = old.get("dataset_samples")
    samples = sample_count(case, options, available if isinstance(available, int) else 0)
    files = entries()
    conf = options.conf(case.scenario)
    asked = Request(
        scenario=case.scenario,
        mode="performance",
        rules=options.rules,
        folder="",
        samples=samples,
        buffer_size=options.buffer_size,
        target_qps=options.target_qps,
        target_latency_ms=options.target_latency_ms,
        conf=conf,
    )
    targets = given_targets(asked)
    settings = work.usual(case.scenario, options.rules)
    known: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "scenario": case.scenario,
        "rules": options.rules,
        "sample_count": samples,
        "buffer_size": buffered_samples(asked),
        "min_duration_s": int(options.shortest_s(case.scenario) * 1000) / 1000,
        "target_qps": targets.qps if targets else "probed",
        "target_latency_ms": server_bound_ms(asked),
        "target_source": targets.source if targets else "probe",
        "settings": work.normal({key: conf.get(key, settings[key]) for key in settings}),
        "provenance": {},
        "questions_left_out": _left_out(case, options, old),
        "number_of_nodes": _nodes(options),
    }
    if case.dataset.file is not None:
        known["provenance"]["dataset_checksum"] = files[case.dataset.file].checksum
    else:
        with contextlib.suppress(SuiteError):  # which the case will say
            known["provenance"]["dataset_checksum"] = locate(case.dataset)[1]
    if case.model.path is not None:
        with contextlib.suppress(SuiteError):  # which the case will say
            known["provenance"]["model_checksum"] = _files(case.model.path).key
            fitted = _fitted(case.model, options.max_length, options.doc_stride, options.outputs)
            known["provenance"]["tokeniser"] = fitted.facts
    elif case.model.file is not None:
        known["provenance"]["model_checksum"] = files[case.model.file].digest
    return known


def _nodes(options: Options) -> int | None:
    """How many nodes the case will begin with; None where only the cluster knows."""
    if options.cluster is None:
        return 1
    return options.cluster.local or options.nodes


def _left_out(case: Case, options: Options, old: Figures) -> object:
    """How many questions the case will lack, as far as that shows without reading them."""
    if case.dataset.path is None or not leaves_out(options):
        return 0
    return old.get("questions_left_out") or "some"  # as many as then, where the file is the same


_files = cache(files_of)
_fitted = cache(fit)


def refuse_unlike(config: pytest.Config, timed: Mapping[str, Case], options: Options) -> None:
    """UsageError where a case that will be timed is unlike its earlier result.

    `timed` are these cases, by the full names of their tests. What can be known is compared here,
    before they run for hours.
    """
    benchmarks = benchmark_session(config)
    if benchmarks is None or not timed:
        return
    refusals, compared = [], False
    for path, earlier in benchmarks.compared_mapping.items():
        for name, case in timed.items():
            if name in earlier:
                compared, old = True, _info(earlier[name])
                unlike = comparison.differences(expected(case, options, old), old)
                refusals += [comparison.refusal(name, path, unlike)] if unlike else []
    if benchmarks.compare_fail and not compared:
        refusals.append(
            "--benchmark-compare-fail has nothing to compare with, since no earlier results of "
            f"these cases were found in {benchmarks.storage}: save some first "
            "(--benchmark-autosave), or say which (--benchmark-compare, --benchmark-storage)"
        )
    if refusals:
        raise pytest.UsageError(*refusals)


def benchmark_session(config: pytest.Config) -> Any:
    """pytest-benchmark's own session object; None without the plugin, and in an xdist worker."""
    return None if hasattr(config, "workerinput") else getattr(config, "_benchmarksession", None)


def part_unlike(benchmarks: Any) -> list[str]:
    """Remove earlier results that are unlike those of this run; a sentence for each."""
    sentences = []
    for path, earlier in benchmarks.compared_mapping.items():
        for one in _of_suite(benchmarks):
            if one.fullname in earlier:
                old = _info(earlier[one.fullname])
                if unlike := comparison.differences(one.extra_info, old):
                    sentences.append(comparison.refusal(one.fullname, path, unlike))
                    del earlier[one.fullname]
    return sentences


def without_earlier(benchmarks: Any) -> list[str]:
    """A sentence for each case that no earlier results have."""
    found = benchmarks.compared_mapping.values()
    return [
        f"{one.fullname} was compared with nothing: the earlier results lack it"
        for one in _of_suite(benchmarks)
        if found and not any(one.fullname in earlier for earlier in found)
    ]


def has_earlier(benchmarks: Any) -> bool:
    """Whether the earlier results have any case that was timed."""
    found = benchmarks.compared_mapping.values()
    return any(one.fullname in earlier for one in benchmarks.benchmarks for earlier in found)


def _info(earlier: Any) -> Figures:
    """What an entry of pytest-benchmark's file says beside its figures; nothing where it is odd."""
    info = earlier.get("extra_info") if isinstance(earlier, Mapping) else None
    return info if isinstance(info, Mapping) else {}


def _of_suite(benchmarks: Any) -> list[Any]:
    return [one for one in benchmarks.benchmarks if "schema_version" in one.extra_info]
