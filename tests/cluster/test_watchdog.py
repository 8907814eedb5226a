"""A node that says nothing counts as lost in time, and no other does."""

from bertsquad.cluster.watchdog import EVERY_S, SILENT_S, Watchdog


def run(until_s: float, answers: dict[int, float]) -> dict[int, float]:
    """When each node was found silent, where nodes answer pings at once until they stop."""
    dog, now = Watchdog(answers, 0.0), 0.0
    found: dict[int, float] = {}
    while now <= until_s:
        for node in dog.to_ping(now):
            if now < answers[node]:
                dog.heard(node, now)
        for node in dog.silent(now):
            found[node] = now
            dog.gone(node)
        now += 0.5
    return found


def test_a_node_that_answers_is_never_lost() -> None:
    assert run(3600.0, {0: 1e9, 1: 1e9}) == {}


def test_a_node_that_falls_silent_is_noticed_within_fifteen_seconds() -> None:
    for stops_at in (0.0, 0.1, 31.0, 31.7, 33.9):
        found = run(100.0, {0: 1e9, 1: stops_at})

        assert found.keys() == {1}
        assert stops_at < found[1] <= stops_at + 15


def test_an_answered_batch_is_a_sign_of_life_too() -> None:
    dog = Watchdog([0], 0.0)
    dog.heard(0, SILENT_S)

    assert dog.silent(SILENT_S + 5) == []
    assert dog.silent(2 * SILENT_S + 1) == [0]


def test_pings_go_out_once_in_a_while() -> None:
    dog = Watchdog([0, 1], 0.0)

    assert dog.to_ping(0.0) == [0, 1]
    assert dog.to_ping(EVERY_S / 2) == []
    assert dog.to_ping(EVERY_S) == [0, 1]


def test_what_is_gone_is_neither_pinged_nor_lost_again() -> None:
    dog = Watchdog([0, 1], 0.0)
    dog.gone(1)
    dog.heard(1, 5.0)

    assert dog.to_ping(10.0) == [0]
    assert dog.silent(1000.0) == [0]
