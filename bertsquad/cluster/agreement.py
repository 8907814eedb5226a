"""Whether nodes and their driver are alike enough that their answers and times mean one thing."""

from collections.abc import Mapping

from bertsquad.cluster.node import Survey


def disagreement(driver: Mapping[str, str], source: str, nodes: Mapping[str, Survey]) -> str | None:
    """What of the first node that differs is not as it is on the driver, in a sentence.

    `driver` are the driver's versions by distribution, `source` the digest of its code.
    """
    for name, survey in nodes.items():
        if survey.source != source:
            return (
                f"node {name} ({survey.host}) runs other code of this suite than this machine "
                f"(sources {survey.source:.12}… there, {source:.12}… here): install the same there"
            )
        for what in sorted(driver.keys() | survey.versions.keys()):
            here, there = driver.get(what), survey.versions.get(what)
            if here != there:
                return (
                    f"node {name} ({survey.host}) has {what} {there or 'not at all'}, but this "
                    f"machine has {here or 'none'}: install the same on both"
                )
    return None
