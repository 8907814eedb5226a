"""What LoadGen reads of a user.conf is shown in its own words."""

from bertsquad.loadgen.user_conf import UserConf

READ = UserConf(
    "/there/user.conf",
    {"offline": {"target_qps": 12.5, "min_duration": 60000}, "singlestream": {}, "server": {}},
    {"offline": {"target_qps": 1.0, "min_duration": 600000}, "singlestream": {}, "server": {}},
    [],
)


def test_each_scenario_has_the_keys_that_the_file_sets_in_it() -> None:
    assert READ.of("offline") == {"target_qps": 12.5, "min_duration": 60000}
    assert READ.of("singlestream") == READ.of("multistream") == {}


def test_a_result_names_the_file_and_what_it_sets_by_keys_that_loadgen_would_take() -> None:
    assert READ.as_dict() == {
        "file": "/there/user.conf",
        "settings": {"bert.Offline.target_qps": 12.5, "bert.Offline.min_duration": 60000},
    }


def test_what_it_sets_is_told_in_a_line() -> None:
    assert str(READ) == "offline target_qps 12.5, min_duration 60000"
    assert str(UserConf("user.conf", {"offline": {}}, {"offline": {}}, [])) == "nothing for BERT"
    seed = UserConf("user.conf", {"server": {"accuracy_log_rng_seed": 2**64 - 1}}, {}, [])
    assert str(seed) == "server accuracy_log_rng_seed 18446744073709551615"
