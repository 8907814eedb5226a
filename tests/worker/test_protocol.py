"""The messages between pytest's process and the worker arrive as they were, or are named."""

import json
from typing import Any

import pytest

from bertsquad.assets.fingerprint import Fingerprint, ModelFiles
from bertsquad.errors import BoundUnattainable, SuiteError, Unavailable
from bertsquad.loadgen.request import Request, Targets
from bertsquad.loadgen.user_conf import UserConf
from bertsquad.machine.noise import Disturbance
from bertsquad.progress import Step
from bertsquad.runtime.parallelism import Parallelism
from bertsquad.squad.datasets import CalibrationSet
from bertsquad.worker.protocol import (
    DevicesAsked,
    DevicesFound,
    Failing,
    Measured,
    Raised,
    Ready,
    Setup,
    UserConfAsked,
    decode,
    encode,
)

MEASURED = Measured(
    seconds=3.5,
    targets=Targets(None, 7.25, "probe"),
    provider="CPUExecutionProvider",
    proof="1 of 1",
    batch_tokens=1536,
    batches=9,
    padding_share=0.125,
    peak_memory_bytes=2**30,
    disturbances=[Disturbance("it was hot", "see to the cooling")],
    timeline={"latency": {"percentile": [50.0], "ms": [1.5]}},
    unwritten=None,
)
MODEL = ModelFiles("key", (Fingerprint("a.onnx", "sha256", "0123", (66305, 2**63 + 1, 3, 4, 5)),))
MESSAGES = (
    Setup(MODEL, "a.npz", "cpu", "fp32", 2, "none"),
    Setup(MODEL, "a.npz", "cpu", "int8", 2, CalibrationSet("b.npz", (1, 2), "two")),
    DevicesAsked(),
    Request("offline", "accuracy", "quick", "folder", 20),
    Request(
        "server",
        "performance",
        "mlperf",
        "a folder, \udcff",  # as Python names what is not UTF-8
        10_833,
        Parallelism(2, 1, ((0,), (1,))),
        target_qps=1e19,
        conf={"target_qps": 5.0, "schedule_rng_seed": 16159082839903944936.0},
    ),
    Ready("as it is", "int64", None, None),
    Ready("needs 384 tokens always", "int64", 384, "damaged"),
    DevicesFound({"cpu": None, "cuda": "no driver"}, {"cpu": ["fp32", "int8"]}),
    MEASURED,
    Step("running", 3, 10, "samples", 2.0),
    Step("loading"),
    Failing("out of data bounds"),
    UserConfAsked("a folder/user.conf"),
    UserConf(
        "user.conf", {"server": {"target_qps": 5.5}}, {"server": {"target_qps": 1}}, ["line 1"]
    ),
    Raised("SuiteError", "no"),
)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_arrives_as_it_was(message: Any) -> None:
    line = encode(message)
    assert line.count("\n") == 1
    assert decode(line) == message


@pytest.mark.parametrize(
    "error", [SuiteError("no"), Unavailable("no", "dataset"), BoundUnattainable("never")]
)
def test_an_error_is_the_same_error_in_the_other_process(error: SuiteError) -> None:
    again = decode(encode(Raised.of(error))).error()
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


def test_an_error_of_another_kind_is_a_plain_one() -> None:
    class Special(SuiteError):
        pass

    assert type(Raised.of(Special("no")).error()) is SuiteError


@pytest.mark.parametrize(
    "message",
    [message for message in MESSAGES if not isinstance(message, DevicesAsked)],
    ids=lambda message: type(message).__name__,
)
def test_a_message_that_lacks_a_field_is_named_with_it(message: Any) -> None:
    whole = json.loads(encode(message))
    for name in whole["fields"]:
        fields = {key: value for key, value in whole["fields"].items() if key != name}
        line = json.dumps(whole | {"fields": fields})
        with pytest.raises(SuiteError, match=f"in a message {type(message).__name__}, {name} is"):
            decode(line)


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("samples", "20", "samples is '20', and should be int"),
        ("samples", True, "samples is True, and should be int"),
        ("samples", 1e999, "samples is inf, and should be int"),
        ("folder", None, "folder is None, and should be str"),
        ("target_qps", [1.0], r"target_qps is \[1.0\], and should be float"),
        ("parallelism", {"instances": 1}, "parallelism threads is missing"),
        ("parallelism", {"instances": 1, "threads": 1.5, "pins": []}, "parallelism threads is 1.5"),
        ("conf", {"target_qps": "5"}, "conf is '5', and should be float"),
    ],
)
def test_a_field_of_another_type_is_named_with_what_it_should_be(
    name: str, value: object, wanted: str
) -> None:
    whole = json.loads(encode(MESSAGES[3]))
    whole["fields"][name] = value
    with pytest.raises(SuiteError, match=wanted) as caught:
        decode(json.dumps(whole))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["Hello", 5, None, ["Step"]])
def test_a_message_of_no_kind_is_refused_in_a_sentence(name: object) -> None:
    with pytest.raises(SuiteError, match="expected one of the messages Setup, "):
        decode(json.dumps({"message": name, "fields": {}}))


@pytest.mark.parametrize("line", ["", "welcome", "5", "[1]", '{"event": "done"}', "[" * 100_000])
def test_what_a_library_prints_is_no_message(line: str) -> None:
    assert decode(line) is None
