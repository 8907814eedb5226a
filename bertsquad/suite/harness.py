"""Runs cases, one after the other: gets the files, lets the worker run, has the run judged."""

import contextlib
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from bertsquad import __version__
from bertsquad.assets.cache import PACKAGE, kept
from bertsquad.assets.fingerprint import ModelFiles
from bertsquad.console import SILENT, Progress
from bertsquad.credentials import masked
from bertsquad.devices import DEVICES
from bertsquad.errors import SuiteError, Unavailable
from bertsquad.files import unwritable
from bertsquad.loadgen import logs
from bertsquad.loadgen.request import Request
from bertsquad.machine import device_lock, hardware, provenance
from bertsquad.models.fitting import Fitted, fit
from bertsquad.models.zoo import Model, locate
from bertsquad.progress import Step
from bertsquad.results import compliance, predictions
from bertsquad.results.accuracy import read_log
from bertsquad.results.result import RESULT, Result
from bertsquad.results.run_folder import RunFolder, owned, refuse_another
from bertsquad.squad import datasets, known_questions
from bertsquad.squad.datasets import DATASETS, CalibrationSet, Data, DatasetEntry
from bertsquad.squad.known_questions import KnownSet
from bertsquad.squad.reading import Reading
from bertsquad.suite.cases import Case, division, leaves_out, missing_device, sample_count
from bertsquad.suite.judge import Audit, Ran, judge
from bertsquad.suite.nodes import Nodes
from bertsquad.suite.options import Options
from bertsquad.suite.pairs import Pairs
from bertsquad.worker.handle import OnMessage, Worker
from bertsquad.worker.protocol import Failing, Ready, Setup

#: How a test asks for the result of a case in a mode: the `run` fixture.
RunCase = Callable[[Case, str], Result]


class Harness:
    """Runs cases, and keeps what they share: data sets, models, results, and one worker."""

    def __init__(
        self,
        options: Options,
        parallel: int = 1,
        command: str = "",
        progress: Progress = SILENT,
    ) -> None:
        """`parallel` says how many harnesses divide the cores; `command` goes into the results."""
        self._options = options
        self._parallel = parallel
        self._cores = max(1, hardware.cores() // parallel)
        self._command = command
        self._progress = progress
        self._splits = leaves_out(options)
        # Each is had once, and again where its file has gone: the reading that fits a model; a data
        # set read so; what that is calibrated with; questions that a model is asked to tell its
        # outputs apart; a model's files, which stay what they are until the end.
        self._fitted = kept(self._fit, lambda fitted: [])
        self._dataset = kept(self._load, lambda data: [data.features_file])
        self._calibration_set = kept(
            self._load_calibration_set, lambda found: [Path(found.features)]
        )
        self._known = kept(self._load_known, lambda found: [Path(found.features)])
        self._model = kept(
            partial(locate, show=progress.show),
            lambda found: [Path(one.path) for one in found.files],
        )
        self._checksums: dict[str, str] = {}  # of each data set, when it was first read
        self._nodes = Nodes(options)
        self._pairs = Pairs()
        self._worker: tuple[tuple[str, ...], Worker, Ready] | None = None
        # The newest result of each case and mode, whose logs are still in the run folder.
        self._newest: dict[tuple[str, str], Result] = {}
        self._owned: dict[Path, RunFolder] = {}
        self._owning = contextlib.ExitStack()

    def release(self) -> None:
        """Let other pytest sessions write to the folders of the runs so far."""
        self._owned.clear()
        self._owning.close()

    def close(self) -> None:
        """End the worker and what else was started, and let others write to the run folders."""
        self.release()
        self._end_worker()
        self._nodes.close()

    def _end_worker(self) -> None:
        if self._worker is not None:
            self._worker[1].close()
            self._worker = None

    def run(self, case: Case, mode: str) -> Result:
        """Run one case in one mode; its folder holds the logs and `result.json` then.

        Every call is a run of its own. Until `release` is called no other pytest session writes to
        its folder; what ends without a result leaves the result of an earlier run there. Mode
        `compliance` compares with the newest accuracy and performance runs of the case, and makes
        only those that are missing. Raises Unavailable where something can't be had,
        BoundUnattainable where no Server rate is honest, SuiteError where the run itself failed.
        """
        key = case.id, mode
        self._newest.pop(key, None)
        with self._progress:
            result = self._newest[key] = self._run(case, mode)
        return result

    def _had(self, case: Case, mode: str) -> Result:
        """The newest result of the case in a mode; it is run for that where there is none."""
        return self._newest.get((case.id, mode)) or self.run(case, mode)

    def _run(self, case: Case, mode: str) -> Result:
        unaudited: tuple[Result, Result] | None = None
        if mode == "compliance":
            unaudited = self._had(case, "accuracy"), self._had(case, "performance")
        started = datetime.now(UTC)
        reason = missing_device(case, self._options)
        if reason is not None:  # before anything is downloaded for it
            raise Unavailable(reason, "device")
        fitted = self._fitted(case.model)  # a wrong match shows before gigabytes are hashed
        model = self._model(case.model)
        data = self._dataset((case.dataset, fitted.reading))
        request = self._request(case, mode, data, unaudited[1] if unaudited else None)
        on_message = self._showing(case, mode)
        worker, ready = self._worker_for(case, model, fitted, data, on_message)
        run_folder = self._own(Path(request.folder))
        folder = run_folder.begin()
        request = replace(request, folder=str(folder))
        alone: AbstractContextManager[object] = contextlib.nullcontext()
        if mode != "accuracy":  # what is timed has the device to itself
            alone = device_lock.device_to_itself(DEVICES[case.device].marker, self._progress.say)
        with alone:
            measured = worker.run(request, self._options.timeout_s, on_message)
        run, unwritten = logs.read_run(folder), measured.unwritten
        if mode == "accuracy" and run.errors:
            raise SuiteError(f"the accuracy run ended with errors: {'; '.join(run.errors)}")
        versions = ready.versions | {"mlperf_loadgen": run.loadgen_version}
        facts = self._facts(started, versions)
        facts |= _of_files(case, model, data, ready)
        if DEVICES[case.device].is_gpu:
            facts |= provenance.gpus_used(request.parallelism.gpus)
        facts["tokeniser"] = fitted.facts
        facts["log_checksums"] = logs.checksums(folder)
        ran = Ran(
            case,
            request,
            measured,
            run,
            dataset_samples=len(data.features),
            provenance=facts,
            accuracy_target=self._options.accuracy_target,
            reference_f1=case.model.reference_f1.get(case.dataset.name, self._options.reference_f1),
            left_out=len(data.left_out.questions) if data.left_out else 0,
        )
        if mode == "accuracy":
            self._progress.show(Step("scoring", of=f"{case.id}, accuracy"))
            answered = read_log(data, folder, request.samples, self._options.null_threshold)
            written = predictions.write(folder, answered)
            pair = self._pairs.find(case, data, answered, ran.reference_f1)
            result = replace(judge(replace(ran, pair=pair), answered), answers=written.checksums)
            self._pairs.keep(case, answered, result.verdict)
            unwritten = unwritten or written.unwritten
        elif unaudited is not None:
            accuracy, performance = unaudited
            plain = logs.read_run(Path(performance.run_dir))
            log, asked = Path(accuracy.run_dir), accuracy.sample_count
            audited = compliance.audit(run, plain, log, case.scenario, case.precision, asked)
            for earlier in unaudited:
                refuse_another(earlier)
            source, count = performance.target_source, performance.number_of_nodes
            result = judge(ran, audit=Audit(audited, source, count))
        else:
            result = judge(ran)
        return _saved(result, unwritten, run_folder)

    def _own(self, path: Path) -> RunFolder:
        """The run folder at `path`, owned until `release`."""
        if path not in self._owned:
            folder = owned(path, self._progress.say)
            self._owned[path] = self._owning.enter_context(folder)
        return self._owned[path]

    def _worker_for(
        self, case: Case, model: ModelFiles, fitted: Fitted, data: Data, on_message: OnMessage
    ) -> tuple[Worker, Ready]:
        """The worker of the case's group, ready; that of another group is ended first."""
        # The files of these are there, should the worker need them.
        calibration = self._calibration(case, fitted.reading)
        known = self._known(fitted.reading) if fitted.asks else None
        if self._worker is not None:
            group, worker, ready = self._worker
            if group == case.group and worker.alive and not self._nodes.lost:
                return worker, ready
            self._end_worker()
        setup = Setup(
            model=model,
            features=str(data.features_file),
            device=case.device,
            precision=case.precision,
            threads=self._cores,
            calibration=calibration,
            reads=replace(fitted.reads, highest_id=int(data.features.tokens.max())),
            known=known,
            cluster=self._nodes.membership(on_message, self._progress.say),
        )
        log = self._options.output / f"worker-{'-'.join(case.group)}-{os.getpid()}.log"
        worker = Worker(log)
        ready = worker.prepare(setup, self._options.timeout_s, on_message)
        self._worker = case.group, worker, ready
        return worker, ready

    def _showing(self, case: Case, mode: str) -> OnMessage:
        """Show the steps of the worker, each with the name of the case before it."""

        def show(message: Step | Failing) -> None:
            if isinstance(message, Step):
                self._progress.show(replace(message, of=f"{case.id}, {mode}"))

        return show

    def _fit(self, model: Model) -> Fitted:
        options = self._options
        return fit(model, options.max_length, options.doc_stride, options.outputs)

    def _load(self, key: tuple[DatasetEntry, Reading]) -> Data:
        data = datasets.load(*key, self._splits, self._progress.show)
        if self._checksums.setdefault(key[0].name, data.checksum) != data.checksum:
            raise SuiteError(
                f"{data.file} was changed since the first case with it, and now has other "
                "questions: run all of them again"
            )
        return data

    def _load_known(self, reading: Reading) -> KnownSet:
        """Bundled questions, to ask a model of this reading."""
        data = self._dataset((DATASETS["pocket"], reading))
        texts = reading.texts(data.dataset, data.features)
        return known_questions.choose(data.dataset, data.features, texts, str(data.features_file))

    def _calibration(self, case: Case, reading: Reading) -> CalibrationSet | str:
        """What the worker may quantise the model with, or why there is nothing."""
        if not case.quantised:
            return "no calibration data was given"
        try:
            return self._calibration_set((case.dataset, reading))
        except Unavailable as error:  # only the worker knows whether it is quantised already
            return str(error)

    def _load_calibration_set(self, key: tuple[DatasetEntry, Reading]) -> CalibrationSet:
        data, own = self._dataset(key), self._options.calibration
        return datasets.calibration(key[0], data, own, self._progress.show)

    def _request(self, case: Case, mode: str, data: Data, unaudited: Result | None) -> Request:
        options = self._options
        qps, latency_ms = options.target_qps, options.target_latency_ms
        if unaudited is not None:  # audited and unaudited run must have been asked for the same
            qps, latency_ms = unaudited.target_qps, unaudited.target_latency_ms
        owned = hardware.owned_cpus() if self._parallel == 1 else ()
        conf = options.user_conf
        return Request(
            scenario=case.scenario,
            mode=mode,
            rules=options.rules,
            folder=str(options.output / f"{mode}-{case.id}"),
            samples=sample_count(case, options, len(data.features), mode),
            parallelism=division(case, options, self._cores, owned),
            batch_tokens=options.batch_tokens,
            buffer_size=options.buffer_size,
            target_qps=qps,
            target_latency_ms=latency_ms,
            min_duration_s=options.min_duration_s,
            user_conf=conf.file if conf else None,
            conf=options.conf(case.scenario),
        )

    def _facts(self, started: datetime, versions: Mapping[str, str]) -> dict[str, Any]:
        """What a result's provenance says of the suite, the machine and the command line."""
        conf, cluster = self._options.user_conf, self._options.cluster
        return {
            "suite_version": __version__,
            "git_revision": provenance.git_revision(PACKAGE.parent),
            "started_at": started.isoformat(timespec="milliseconds"),
            "command": self._command,
            "working_folder": str(Path.cwd()),
            "environment": {
                name: masked(value)
                for name, value in os.environ.items()
                if name.startswith("BERTSQUAD_")
            },
            **provenance.facts(versions),
            "user_conf": conf.as_dict() if conf else None,
            "cluster": {"address": cluster.text, "nodes": self._options.nodes} if cluster else None,
            "given": self._options.own,
        }


def _of_files(case: Case, files: ModelFiles, data: Data, ready: Ready) -> dict[str, Any]:
    """What a result's provenance says of the model and the data set."""
    model, path = case.model, case.dataset.path
    return {
        "model_preparation": ready.preparation,
        "model_padded_to": ready.padded_to,
        "model_rebuilt": ready.rebuilt,
        "model_quantisation": asdict(ready.quantisation) if ready.quantisation else None,
        "model_file": (model.path or files.path).name,
        "model_path": str(model.path) if model.path else None,
        "model_checksum": files.key,
        "model_input_type": ready.input_type,
        "dataset_file": data.file.name,
        "dataset_path": str(path) if path else None,
        "dataset_checksum": data.checksum,
    }


def _saved(result: Result, unwritten: str | None, folder: RunFolder) -> Result:
    """The result, once `result.json` is written and its run has taken the earlier one's place.

    Where that can't be done, or another file of the run not be written (`unwritten` says why), the
    result fails and says so; its figures still reach the table and the JSON.
    """
    result = replace(result, run_dir=str(folder.path))
    try:
        if unwritten is None:
            result.save(folder.unfinished)
            folder.settle()
            return result
    except OSError as error:
        place = Path(result.run_dir) / RESULT
        unwritten = str(unwritable(place, error, "choose another folder with --output"))
    failed = result.unwritten(unwritten)
    with contextlib.suppress(OSError):
        failed.save(folder.unfinished)
        folder.settle()
        return failed
    return replace(failed, run_dir=str(folder.unfinished))
