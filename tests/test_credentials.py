"""What a URL keeps secret is in no text that was masked, and everything else is."""

import shlex

import pytest

from bertsquad.credentials import masked
from bertsquad.errors import SuiteError, Unavailable

ADDRESSES = {
    "https://someone:hunter2@mirror.invalid/files": "https://***@mirror.invalid/files",
    "https://hunter2@mirror.invalid/files": "https://***@mirror.invalid/files",
    "https://hunter2:@mirror.invalid/files": "https://***@mirror.invalid/files",
    "https://:hunter2@mirror.invalid": "https://***@mirror.invalid",
    "HTTPS://someone:hunter2@mirror.invalid:8443/a": "HTTPS://***@mirror.invalid:8443/a",
    "http://someone:hunter2@[::1]:8080/a": "http://***@[::1]:8080/a",
    "https://some%40one:hunter%2F2@mirror.invalid/a": "https://***@mirror.invalid/a",
    # What should have been percent-encoded and wasn't.
    "https://someone:hunter2@hunter2@mirror.invalid/a": "https://***@mirror.invalid/a",
    "https://someone:hunter2/hunter2@mirror.invalid/a": "https://***@mirror.invalid/a",
    "https://someone:?hunter2@mirror.invalid/a": "https://***@mirror.invalid/a",
    "https://someone:#hunter2'@mirror.invalid/a": "https://***@mirror.invalid/a",
    "https://someone:hunter2%40mirror.invalid/a": "https://***%40mirror.invalid/a",
    # What isn't quite an address.
    "someone:hunter2@mirror.invalid/files": "***@mirror.invalid/files",
    "https:/someone:hunter2@mirror.invalid/files": "https:/***@mirror.invalid/files",
    "https:/hunter2@mirror.invalid/files": "https:/***@mirror.invalid/files",
    "https%3A%2F%2Fsomeone%3Ahunter2%40mirror.invalid": "https%3A%2F%2F***%40mirror.invalid",
    # Tokens and signatures.
    "https://mirror.invalid/a?token=hunter2": "https://mirror.invalid/a?***",
    "https://mirror.invalid/a?hunter2": "https://mirror.invalid/a?***",
    "https://mirror.invalid?X-Amz-Signature=hunter2&x=https://b.invalid/c?d": (
        "https://mirror.invalid?***"
    ),
    "https://mirror.invalid/a?sig='hunter2'&b=1": "https://mirror.invalid/a?***",
    "https://mirror.invalid/a#access_token=hunter2": "https://mirror.invalid/a?***",
    "https://someone:hunter2@mirror.invalid/a?token=hunter2": "https://***@mirror.invalid/a?***",
    "/files/a?token=hunter2": "/files/a?***",
}


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize(
    "around",
    ["{}", "{}: 404", "({})", "'{}';", 'see "{}".', "{0}, {0}", "--from={}", "a@b.invalid {}\n"],
)
def test_credentials_in_an_address_are_masked_wherever_it_stands(address: str, around: str) -> None:
    text = masked(around.format(address))
    assert "hunter2" not in text
    assert text == around.format(ADDRESSES[address])
    assert masked(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "https://rajpurkar.github.io/SQuAD-explorer/dataset/dev-v1.1.json: 404 Not Found",
        "http://127.0.0.1:8080/files/a@b.onnx",
        "http://[::1]:8080/a: Failed to establish a new connection: [Errno 111] Connection refused",
        "https://docs.invalid/page.html#part and https://docs.invalid:443, me@mirror.invalid",
        "pytest 'test_accuracy.py::test_accuracy[minilm-pocket-offline-cpu-fp32]' -k a@b",
        "C:\\Users\\me@corp\\model.onnx",
        "C:/Users/me@corp/model.onnx",
        "/data/me@corp/what?/model.onnx: No such file or directory",
        "expected a name, got 'x'; is that right? a = b",
        *(f"@{part * 50_000}" for part in ("a.", "a:/", "a:", "?", "https://a")),
        "",
    ],
    ids=lambda text: text[:20],
)
def test_what_holds_no_credentials_stays_as_it_is(text: str) -> None:
    assert masked(text) == text


def test_a_masked_command_line_is_one_still() -> None:
    words = ["pytest", "--from", "https://someone:hunt'er2@mirror.invalid/a b"]
    line = shlex.join(map(masked, words))
    assert shlex.split(line) == ["pytest", "--from", "https://***@mirror.invalid/a b"]


def test_no_sentence_for_a_user_shows_credentials() -> None:
    address = "https://someone:hunter2@mirror.invalid/model.onnx"
    assert str(SuiteError(f"there is no file {address}")) == (
        "there is no file https://***@mirror.invalid/model.onnx"
    )
    error = Unavailable(f"{address}: 404", "model", of="bert_large")
    assert "hunter2" not in f"{error} {error.reason}"
