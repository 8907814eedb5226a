"""A model on a device: sessions that answer batches side by side, and the proof of what they are.

Only the worker process imports this module.
"""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from bertsquad.assets.fingerprint import verify
from bertsquad.devices import Device
from bertsquad.errors import SuiteError, Unavailable
from bertsquad.machine import gpus
from bertsquad.models.preparation import Prepared
from bertsquad.runtime import nvidia
from bertsquad.runtime.availability import why_not
from bertsquad.runtime.inference import Answer, NotFinite, Source, side_by_side
from bertsquad.runtime.parallelism import BATCH_TOKENS, Parallelism
from bertsquad.runtime.proofs import (
    can_calculate,
    prove_precision,
    prove_products,
    prove_provider,
    trial_batch,
)
from bertsquad.runtime.sessions import make_session, run
from bertsquad.squad.features import MAX_TOKENS, Inputs


class Engine:
    """A prepared model on one device in one precision, ready to answer batches side by side."""

    def __init__(
        self,
        prepared: Prepared,
        device: Device,
        precision: str,
        parallelism: Parallelism,
        batch_tokens: int = BATCH_TOKENS,
    ) -> None:
        """Make the sessions and prove provider and precision.

        `batch_tokens` is the most tokens that a batch will have, padding included. Raises
        Unavailable if the device or precision can't be had, SuiteError if the model can't be
        loaded, or isn't what was prepared any more.
        """
        reason = why_not(device)
        if reason is not None:
            raise Unavailable(reason, of=device.name)
        self.device = device
        self.precision = precision
        self.parallelism = parallelism
        self.prepared = prepared
        self.batch_tokens = batch_tokens
        #: How many callers `logits` may have at a time.
        self.instances = parallelism.instances
        #: The samples that a batch may have at most; None without a limit.
        self.most_samples = device.most_samples
        #: The samples and the tokens that every batch must have; None where any number will do.
        self.fixed_batch, self.fixed_length = prepared.signature.batch, prepared.signature.length
        #: The precision of the products that stay in float.
        self.float_precision = "fp32" if precision == "int8" else precision
        if precision == "int8" and "bf16" in device.precisions and can_calculate(device, "bf16"):
            self.float_precision = "bf16"
        verify(prepared.files)
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profiles:
            self._sessions = self._make_sessions(Path(profiles))
            self.proof = self._prove()
        verify(prepared.files)

    def _make_sessions(self, profiles: Path) -> list[ort.InferenceSession]:
        """One session for all instances where they can share it, else one for each.

        They can where an instance is only its caller's thread, and where the provider schedules
        itself: then it is one for each GPU.
        """
        shape, device = self.parallelism, self.device
        make = partial(
            make_session,
            self.prepared.path,
            device,
            self.float_precision,
            profile=profiles if device.profiles_products else None,
            signature=self.prepared.signature,
            tokens=self.batch_tokens,
        )
        if device.is_gpu:
            on = {gpu: make(Parallelism(1, shape.threads, gpus=(gpu,))) for gpu in shape.used}
            return [on[shape.gpu(instance)] for instance in range(shape.instances)]
        if shape.threads == 1 or device.schedules_itself:
            return [make(replace(shape, pins=()))] * shape.instances
        return [
            make(Parallelism(1, shape.threads, shape.pins[index : index + 1]))
            for index in range(shape.instances)
        ]

    def logits(
        self,
        ids: NDArray[np.int64],
        mask: NDArray[np.int64],
        segments: NDArray[np.int64],
        instance: int = 0,
    ) -> NDArray[np.float32]:
        """Start and end logits, float32 [batch, length, 2], of arrays [batch, length].

        Raises SuiteError unless the model gives one of each for every token, and where a GPU fails.
        """
        signature = self.prepared.signature
        feed = signature.feed(ids, mask, segments)
        gpu = self.parallelism.gpu(instance)
        found = run(self._sessions[instance], signature.wanted, feed, self.device, gpu)
        expected = (*ids.shape, 2) if signature.stacked else ids.shape
        for name, one in zip(signature.wanted, found, strict=True):
            # A model need not declare the shape of its outputs, and may declare a wrong one.
            if one.shape != expected or one.dtype.kind != "f":
                raise SuiteError(
                    f"the model answered a batch of {ids.shape[0]} x {ids.shape[1]} tokens with "
                    f"{name} of {one.dtype} {list(one.shape)}, where float logits of shape "
                    f"{list(expected)} were expected, so nothing is scored or timed: give a "
                    "model with one start and one end logit for each token"
                )
        return signature.logits(found)

    def infer(
        self, features: Inputs, samples: Sequence[int], instance: int = 0
    ) -> list[NDArray[np.float32]]:
        """The logits of `samples`, each float32 [its length, 2], in one batch if the model can.

        Raises SuiteError where they aren't finite, since no figure made of them would mean
        anything.
        """
        size = self.fixed_batch or len(samples)
        answers: list[NDArray[np.float32]] = []
        for start in range(0, len(samples), size):
            chunk = list(samples[start : start + size])
            filled = chunk + chunk[-1:] * (size - len(chunk))
            logits = self.logits(*features.batch(filled, self.fixed_length), instance=instance)
            for row, sample in enumerate(chunk):
                # Without those of the padding, which may be anything.
                own = logits[row, : features.offsets[sample + 1] - features.offsets[sample]]
                if not np.isfinite(own).all():
                    raise NotFinite(sample, f"{self.where(instance)} in {self.precision}")
                answers.append(own)
        return answers

    def warm_up(self, features: Inputs, samples: Sequence[int]) -> None:
        """Calculate the batch `samples` on one instance after the other."""
        for instance in range(self.instances):
            self.infer(features, samples, instance)

    def spread(self, features: Inputs, source: Source) -> None:
        """Answer what `source` has, each instance in a thread that is pinned to its CPUs."""

        def work(instance: int) -> None:
            while (batch := source.take()) is not None:
                try:
                    started = time.perf_counter()
                    logits = self.infer(features, batch.samples, instance)
                    seconds = time.perf_counter() - started
                    source.complete([Answer(batch, logits, seconds)])
                except BaseException as error:  # at once, so that the others stop
                    source.fail(error)

        side_by_side(self.parallelism, work)

    def where(self, instance: int) -> str:
        """What an instance calculates on, as messages name it: the device, and the GPU if any."""
        return nvidia.where(self.device, self.parallelism.gpu(instance))

    def _prove(self) -> str:
        """Say of the sessions what provider and precision they run in, each proven for itself."""
        device, shape = self.device, self.parallelism
        distinct = [self._sessions.index(session) for session in dict.fromkeys(self._sessions)]
        providers = [
            prove_provider(self._sessions[instance], device, shape.gpu(instance))
            for instance in distinct
        ]
        if self.precision != "int8":
            for gpu in shape.used:  # the kernel's own arithmetic: TF32 shows here
                prove_precision(device, self.precision, gpu)
        said: dict[str, list[str]] = {}
        for instance, provider in zip(distinct, providers, strict=True):
            proof = f"{provider}, {self._prove_products(instance)}"
            said.setdefault(proof, []).append(self.where(instance))
        if len(said) > 1:
            return "; ".join(f"{', '.join(places)}: {proof}" for proof, places in said.items())
        (proof,) = said
        return f"{proof}, on each of {len(shape.used)} GPUs" if len(shape.used) > 1 else proof

    def _prove_products(self, instance: int) -> str:
        """Say in what precision an instance's session calculates its matrix products.

        ONNX Runtime decides that by itself, and leaves a quantised product in float, or makes a
        quantised one of a float one, without a word. Where its profile doesn't show it, since the
        provider takes the graph as one, a small product and what the graph stores must do.
        """
        device, signature = self.device, self.prepared.signature
        if not device.profiles_products:
            total, quantised = signature.products, signature.quantised
            if self.precision == "int8":
                rest = f"the rest in {self.float_precision}"
                return f"{quantised} of {total} quantised in the model, {rest}"
            kinds = signature.stored.kinds.items()
            kept = " and ".join(f"{count} of {total} in {kind}" for kind, count in kinds)
            small = f"a small product calculated in {self.precision}"
            return f"which takes the graph as one: {kept} in the model, {small}"
        self.logits(*trial_batch(signature), instance)
        return prove_products(
            self._sessions[instance], device, self.precision, self.parallelism.gpu(instance)
        )


def batch_tokens(
    device: Device, longest: int = MAX_TOKENS, free_bytes: Sequence[int | None] | None = None
) -> int:
    """The padded tokens that a batch may have where the user didn't say.

    No window has more tokens than `longest`, and one of them always has room. `free_bytes` is the
    free memory of each GPU that is used, None for all that are visible, as it is now: any batch may
    go to any of them, so the least decides.
    """
    if not device.is_gpu:
        return max(BATCH_TOKENS, longest)
    free = gpus.free_bytes() if free_bytes is None else free_bytes
    return max(min(map(nvidia.batch_tokens, free), default=MAX_TOKENS), longest)
