"""MLPerf's rules for BERT, as data.

Sources: MLPerf Inference v6.1: inference_rules.adoc (edge suite), LoadGen's mlperf.conf as compiled
into mlcommons-loadgen 6.0.17, and the submission checker's constants
(tools/submission/submission_checker/constants.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass

RULES = ("quick", "mlperf")

#: `--rules quick`: how long a performance run lasts, in seconds, and how many queries it has at
#: least. 64 is what LoadGen's early stopping wants in SingleStream.
QUICK_DURATION_S = 3.0
QUICK_QUERIES = {"offline": 1, "singlestream": 64, "multistream": 8, "server": 64}

#: `--rules quick`: the most samples that an accuracy run has outside of Offline by default.
QUICK_ANSWERS = 100

#: Seconds that a case may take, unless it runs a whole data set.
QUICK_TIMEOUT_S = 1800.0

ROUND = "v6.1"

#: F1 of the fp32 reference model on the SQuAD v1.1 dev set, per cent.
REFERENCE_F1 = 90.874

#: Samples of the SQuAD v1.1 dev set: accuracy runs cover them all, performance runs draw from all.
SAMPLES = 10_833

#: Least duration of a performance run, seconds (mlperf.conf: `*.*.min_duration`).
MIN_DURATION_S = 600.0

#: The latency in ms that 99 % of Server's queries must keep (mlperf.conf:
#: `bert.Server.target_latency`).
SERVER_BOUND_MS = 130.0

#: The seeds of the round (mlperf.conf), by the key under which LoadGen logs them.
SEEDS: Mapping[str, int] = {
    "effective_qsl_rng_seed": 2085463073848966840,
    "effective_sample_index_rng_seed": 2747215439041700203,
    "effective_schedule_rng_seed": 16159082839903944936,
}

#: Models that the closed division admits: the reference itself and MLPerf's own quantised one.
CLOSED_MODELS = ("bert_large", "bert_large_int8")


@dataclass(frozen=True)
class Category:
    """A benchmark of the edge suite: its name in the tree, and the F1 that closed wants."""

    name: str
    f1_target: float


CATEGORIES = (
    Category("bert-99", 0.99 * REFERENCE_F1),
    Category("bert-99.9", 0.999 * REFERENCE_F1),
)

#: The scenarios that the edge suite wants of BERT, in every category. Server and MultiStream are
#: no part of it any more.
EDGE_SCENARIOS = ("singlestream", "offline")


@dataclass(frozen=True)
class Audit:
    """A compliance test: LoadGen's audit settings, and how far the audited speed may be off."""

    name: str
    accuracy_log_rng_seed: int
    accuracy_log_sampling_target: int
    speed_tolerance: float

    @property
    def config(self) -> str:
        """The text of the `audit.config` that LoadGen reads (mode 2 is performance)."""
        return (
            "*.*.mode = 2\n"
            f"*.*.accuracy_log_rng_seed = {self.accuracy_log_rng_seed}\n"
            f"*.*.accuracy_log_sampling_target = {self.accuracy_log_sampling_target}\n"
        )


#: The only compliance test that BERT needs (compliance/TEST01).
TEST01 = Audit("TEST01", 720381539243781796, 4096, 0.10)
