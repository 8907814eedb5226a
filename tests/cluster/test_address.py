"""What `--cluster` takes."""

import pytest

from bertsquad.cluster.address import Address, host_and_port, parse
from bertsquad.errors import SuiteError


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("auto", Address("auto")),
        ("local:1", Address("local:1", 1)),
        ("local:064", Address("local:64", 64)),
        ("10.0.0.7:6379", Address("10.0.0.7:6379")),
        ("head-1.cluster.internal:6379", Address("head-1.cluster.internal:6379")),
        ("[fd00::7]:6379", Address("[fd00::7]:6379")),
    ],
)
def test_an_address_is_auto_a_host_with_its_port_or_a_number_of_local_nodes(
    text: str, address: Address
) -> None:
    assert parse(text) == address
    assert str(parse(text)) == address.text


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "Auto", "local", "local:", "local:0", "local:-1", "local:two", "local:65"),
        *("local:1.5", "local: 2", "local:٣", f"local:{'9' * 5000}", "head", "head:", ":6379"),
        *(
            "head:0",
            "head:65536",
            "head:ray",
            "http://head:6379",
            "head:6379/",
            "::1:6379",
            "a b:1",
        ),
        *("head:6379\n", "head:٦٣٧٩"),
    ],
)
def test_anything_else_is_refused_in_a_sentence_with_the_forms(text: str) -> None:
    with pytest.raises(SuiteError, match=r"expected (auto\|HOST:PORT\|local:N|local:N with)"):
        parse(text)


def test_rays_client_is_refused_with_the_reason() -> None:
    with pytest.raises(SuiteError, match="through a proxy, which would be timed; run pytest on a"):
        parse("ray://head:10001")


def test_an_ipv6_address_loses_its_brackets() -> None:
    assert host_and_port("[::1]:6379") == ("::1", 6379)
    assert host_and_port("head:6379") == ("head", 6379)
    assert host_and_port("auto") is None
