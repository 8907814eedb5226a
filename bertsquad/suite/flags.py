"""The command-line options of the suite: how each is parsed, and what its help says."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from bertsquad import rules
from bertsquad.cluster import address
from bertsquad.devices import DEVICES, PRECISIONS
from bertsquad.errors import SuiteError
from bertsquad.models.zoo import DEFAULT_MODELS, MODELS, find
from bertsquad.results.gate import BAND
from bertsquad.runtime.parallelism import BATCH_TOKENS, SERVER_THREADS
from bertsquad.squad import datasets
from bertsquad.squad.datasets import DATASETS
from bertsquad.squad.features import MAX_TOKENS
from bertsquad.squad.hugging_face import DOC_STRIDE
from bertsquad.suite import parsers
from bertsquad.suite.options import OUTPUT, Options
from bertsquad.worker.handle import read_user_conf


@dataclass(frozen=True)
class Option:
    """A command-line option; `parse` makes the value of its `field` of Options from its text.

    An option that `repeats` may be given several times, and its field is a tuple. One with a `bare`
    value may stand alone, and has that then; where it takes no text, its `metavar` is empty.
    """

    flag: str
    parse: Callable[[str], object]
    metavar: str
    help: str
    repeats: bool = False
    bare: object = None

    @property
    def field(self) -> str:
        """The field of Options, as `dataset_size` of --dataset-size and `models` of --model."""
        name = self.flag.removeprefix("--").replace("-", "_")
        return f"{name}s" if self.repeats else name


OPTIONS = (
    Option(
        "--model",
        find,
        "NAME|DIR|FILE",
        f"{', '.join(MODELS)} or the path of an .onnx file, or of a folder that holds one with its "
        "tokeniser, as optimum-cli leaves it; may be repeated "
        f"(default: {' and '.join(DEFAULT_MODELS)})",
        repeats=True,
    ),
    Option(
        "--dataset",
        datasets.find,
        "NAME|FILE",
        f"{' or '.join(DATASETS)} or a file of your own, SQuAD's .json (v1.1 or v2.0) or one "
        "question a line (.jsonl); may be repeated (default: the model's own)",
        repeats=True,
    ),
    Option(
        "--device",
        parsers.choice(*DEVICES),
        "NAME",
        f"{', '.join(DEVICES)}; may be repeated (default: all)",
        repeats=True,
    ),
    Option(
        "--precision",
        parsers.choice(*PRECISIONS),
        "NAME",
        f"{', '.join(PRECISIONS)}; may be repeated (default: the one the model is stored in, fp32 "
        f"for all but {', '.join(n for n, model in MODELS.items() if model.precision != 'fp32')})",
        repeats=True,
    ),
    Option(
        "--dataset-size",
        parsers.size,
        "N|all",
        "samples (windows) to run, from the first on (default: "
        f"{DATASETS['squad'].quick_samples} of a downloaded data set, all of a bundled one, but "
        f"{rules.QUICK_ANSWERS} of it for accuracy outside of Offline; always all under --rules "
        "mlperf)",
    ),
    Option(
        "--buffer-size",
        parsers.count,
        "N",
        "LoadGen's performance sample count: how many samples a performance run draws from "
        "(default: all that are run)",
    ),
    Option(
        "--target-qps", parsers.positive, "QPS", "the rate of Offline and Server (default: probed)"
    ),
    Option(
        "--target-latency-ms",
        parsers.positive,
        "MS",
        "the latency LoadGen expects in SingleStream and MultiStream (default: probed), and "
        f"Server's bound (default: {rules.SERVER_BOUND_MS:g})",
    ),
    Option(
        "--min-duration-s",
        parsers.positive,
        "S",
        f"how long a performance run lasts at least (default: {rules.QUICK_DURATION_S:g}, under "
        f"--rules mlperf {rules.MIN_DURATION_S:g})",
    ),
    Option(
        "--case-timeout-s",
        parsers.positive,
        "S",
        f"stop a case after this long (default: {rules.QUICK_TIMEOUT_S:g}; none for whole data "
        "sets)",
    ),
    Option(
        "--batch-tokens",
        parsers.tokens,
        "N",
        f"tokens that a batch may have, padding included (default: {BATCH_TOKENS}; on a GPU what "
        "its free memory holds)",
    ),
    Option(
        "--instances",
        parsers.count,
        "N",
        "batches that are calculated side by side in Offline and Server (default: in Offline one a "
        f"core, in Server one for {SERVER_THREADS} cores; on GPUs one each)",
    ),
    Option(
        "--threads",
        parsers.count,
        "N",
        "threads of an instance (default: its share of the physical cores)",
    ),
    Option(
        "--gpus",
        parsers.count,
        "N",
        "how many of the GPUs that CUDA_VISIBLE_DEVICES shows are used in Offline and Server, from "
        "the first on (default: all)",
    ),
    Option(
        "--cluster",
        address.parse,
        address.FORMS,
        "the nodes of a cluster of Ray calculate: auto takes the one that this machine is a node "
        "of, HOST:PORT the one with this head, local:N starts N nodes here that share its cores "
        "(default: this machine alone, without Ray)",
    ),
    Option(
        "--nodes",
        parsers.count,
        "N",
        "how many nodes of the cluster must calculate, no fewer and no more (default: all that are "
        "there)",
    ),
    Option(
        "--rules",
        parsers.choice(*rules.RULES),
        "NAME",
        "quick: a few seconds a case, never a valid MLPerf result; mlperf: LoadGen's own constants "
        f"and all samples (default: {Options.rules})",
    ),
    Option(
        "--accuracy-target",
        parsers.per_cent,
        "PERCENT",
        "the share of the reference F1 to reach, as MLPerf's 99 or 99.9 "
        f"(default: {Options.accuracy_target:g})",
    ),
    Option(
        "--reference-f1",
        parsers.per_cent,
        "F1",
        "the fp32 model's F1 in per cent, where the suite doesn't know it",
    ),
    Option(
        "--output",
        parsers.output,
        "DIR",
        f"a folder for each case's logs and result.json (default: {OUTPUT})",
    ),
    Option("--user-conf", parsers.user_conf, "FILE", "a LoadGen user.conf"),
    Option(
        "--tokenizer",
        parsers.existing,
        "FILE|DIR",
        "the tokeniser of a model of your own, a tokenizer.json or a folder that holds one "
        "(default: the one beside the model; BERT's uncased vocabulary where there is none)",
    ),
    Option(
        "--max-length",
        parsers.count,
        "N",
        "tokens that a window may have, for a model with a tokeniser of its own (default: "
        f"{MAX_TOKENS}, or fewer where the model takes no more)",
    ),
    Option(
        "--doc-stride",
        parsers.count,
        "N",
        "tokens that a window shares with the one before, for a model with a tokeniser of its own "
        f"(default: {DOC_STRIDE}, or a third of a shorter window)",
    ),
    Option(
        "--null-threshold",
        parsers.number,
        "X",
        "how much better than its best answer no answer must score to be chosen, on SQuAD v2.0 "
        f"data (default: {Options.null_threshold:g})",
    ),
    Option(
        "--outputs",
        parsers.pair,
        "START,END",
        "the outputs of a model of your own whose names don't say which is which (default: asked "
        "of the model by known questions)",
    ),
    Option(
        "--calibration",
        datasets.own_file,
        "FILE",
        "questions to quantise a model with, where it runs in int8 on data of your own (default: "
        "some of those, which are left out then)",
    ),
    Option(
        "--gate",
        parsers.band,
        "BAND",
        "fail a case whose figure is worse, by more than BAND per cent or by more than noise, "
        "than the median of the last good runs in --benchmark-storage, where results are saved "
        f"then; what misses is run again once first (without a number: {BAND:g})",
        bare=BAND,
    ),
    Option(
        "--gate-accept",
        bool,
        "",
        "with --gate: take the figures of this pytest session as the new baseline",
        bare=True,
    ),
    Option(
        "--require",
        parsers.required,
        "CASE|FILE",
        "a case that must run, by the name in the test's brackets, or a file with one a line: it "
        "fails where else it would be skipped, as does a pytest session without it; may be "
        "repeated",
        repeats=True,
    ),
)


def build(given: Mapping[str, Any]) -> Options:
    """Options from what was given on the command line, by field; None means "not given".

    What LoadGen reads in a user.conf is asked here, in a process of its own.
    """
    values: dict[str, Any] = {
        option.field: tuple(given[option.field]) if option.repeats else given[option.field]
        for option in OPTIONS
        if given.get(option.field) is not None
    }
    if (path := values.get("user_conf")) is not None:
        try:
            values["user_conf"] = read_user_conf(path)
        except SuiteError as error:
            raise SuiteError(f"--user-conf: {error}") from error
    if "tokenizer" in values and "models" in values:
        values["models"] = tuple(
            replace(model, tokeniser=values["tokenizer"]) if model.path is not None else model
            for model in values["models"]
        )
    return Options(**values)
