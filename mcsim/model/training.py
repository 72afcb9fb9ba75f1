"""What training a transformer asks of a device: operations, payloads and memory.

N parameters of which a token uses A; L layers of width h; sequences of s tokens; B tokens a step;
t tensor-parallel ranks, p stages, m microbatches, e expert-parallel ranks, R replicas.

Sources: operations, 6 A + 12 L h s a token: Chowdhery et al., "PaLM", JMLR 24 (2023), appendix B.
Tensor parallelism, two all-reduces of a microbatch's activations in a layer's forward pass and
two in its backward pass: Shoeybi et al., "Megatron-LM", arXiv:1909.08053, section 3. Activations
that are kept, 34 bytes a token and unit of width in each layer (all of a layer computed again: 2,
for one more forward pass, 8 A operations instead of 6 A): Korthikanti et al., "Reducing activation
recomputation in large transformer models", MLSys 2023, tables 2 and 4, and section 5. Both are
divided among the tensor-parallel ranks, as only sequence parallelism does, which the 34 / t of
that table suppose too. Parameters, gradients and Adam's state in mixed precision, 2 + 2 (or 4) + 12
bytes a parameter, and what of it replicas share: Rajbhandari et al., "ZeRO", SC 2020, sections 3
and 7. Experts, an all-to-all to send a layer's tokens out and one to bring them back, in either
direction: Lepikhin et al., "GShard", ICLR 2021, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass

from mcsim.scenario.workload import Model, Parallel

_WIDTH = 2.0
"""Bytes of a number that travels or is multiplied."""
_GRADIENT_WIDTH = {"bf16": 2.0, "fp32": 4.0}
_OPTIMIZER_WIDTH = 12.0
"""Bytes a parameter: a copy of it, momentum and variance, in fp32."""
_KEPT = {"selective": 34.0, "full": 2.0}

TENSOR_COLLECTIVES = 2
"""All-reduces of a layer in a forward pass, and in a backward pass."""
EXPERT_COLLECTIVES = 2
"""All-to-alls of a layer in a forward pass, and in a backward pass."""


@dataclass(frozen=True)
class Training:
    """A model as it is divided among so many replicas."""

    model: Model
    parallel: Parallel
    replicas: int

    @property
    def operations_per_token(self) -> float:
        """Floating-point operations of a forward and a backward pass, none of them done again."""
        model = self.model
        active = model.active_parameters or model.parameters
        return 6.0 * active + 12.0 * model.layers * model.hidden * model.sequence

    @property
    def again(self) -> int:
        """Forward passes that a backward pass begins with: 1 where all is computed again."""
        return int(self.model.recompute == "full")

    @property
    def operations(self) -> float:
        """Of a device in a step, with those that are done again: a forward pass is a third."""
        devices = self.replicas * self.parallel.tensor * self.parallel.pipeline
        done = self.operations_per_token * (1.0 + self.again / 3.0)
        return done * self.model.batch / devices

    @property
    def tokens(self) -> float:
        """Of a microbatch of a replica."""
        return self.model.batch / (self.replicas * self.parallel.microbatches)

    @property
    def sequences(self) -> float:
        """Of a microbatch of a replica."""
        return self.tokens / self.model.sequence

    @property
    def activation(self) -> float:
        """Bytes of a microbatch between two layers."""
        return self.tokens * self.model.hidden * _WIDTH

    @property
    def routed(self) -> float:
        """Bytes that a device sends to the experts of a layer, and back from them."""
        return self.activation * self.model.experts_per_token / self.parallel.tensor

    @property
    def expert_parameters(self) -> float:
        """Of all experts: with k of E experts a token uses all others and k / E of these."""
        model = self.model
        if model.experts is None or model.active_parameters is None:
            return 0.0
        used = model.experts_per_token / model.experts
        return (model.parameters - model.active_parameters) / (1.0 - used)

    @property
    def dense(self) -> float:
        """Parameters on a device that all replicas have."""
        parallel = self.parallel
        rest = max(self.model.parameters - self.expert_parameters, 0.0)
        return rest / (parallel.tensor * parallel.pipeline)

    @property
    def expert(self) -> float:
        """Parameters of experts on a device."""
        parallel = self.parallel
        return self.expert_parameters / (parallel.tensor * parallel.pipeline * parallel.expert)

    @property
    def gradient_width(self) -> float:
        """Bytes of a parameter's gradient."""
        return _GRADIENT_WIDTH[self.model.gradient_precision]

    @property
    def gathered(self) -> float:
        """Bytes of parameters that a device lacks before an operation (ZeRO stage 3): those of its
        piece of the model."""
        if self.parallel.zero < 3:
            return 0.0
        return (self.dense + self.expert) * _WIDTH / self.parallel.chunks

    def memory(self) -> dict[str, float]:
        """Bytes on a device of the first stage, which holds most, by what they are for."""
        zero, replicas = self.parallel.zero, self.replicas
        shares = ((self.dense, replicas), (self.expert, replicas // self.parallel.expert))

        def held(width: float, shared_from: int) -> float:
            return sum(
                count * width / (ranks if zero >= shared_from else 1) for count, ranks in shares
            )

        return {
            "parameters": held(_WIDTH, 3),
            "gradients": held(self.gradient_width, 2),
            "optimizer": held(_OPTIMIZER_WIDTH, 1),
            "activations": self._activations(),
        }

    def _activations(self) -> float:
        """Of the microbatches that the first stage holds at once: as many as there are stages."""
        model, parallel = self.model, self.parallel
        stages, chunks = parallel.pipeline, parallel.chunks
        layers = model.layers * min(parallel.microbatches, stages) / stages
        if chunks > 1:
            layers = model.layers * (1 + (stages - 1) / (stages * chunks))
        kept = _KEPT[model.recompute] if model.kept is None else model.kept
        one = kept * self.tokens * model.hidden / parallel.tensor
        return one * layers
