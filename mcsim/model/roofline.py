"""How long a pass of a served model takes: the roofline of the devices that share it.

A *pass* runs some tokens through the whole model: all tokens of a prompt (prefill), or one token of
each of the requests that are answered together (decode). It takes the longer of its operations over
the peak and its bytes over the memory bandwidth, and then the two all-reduces of each layer:

    seconds = max(tokens (2 A + 4 L h context) / (n peak), (weights + caches) / (n bandwidth))
              + 2 L all-reduces of tokens x h numbers of two bytes

with A active parameters, L layers of width h, n devices. Weights are read once a pass, whatever the
number of tokens; of a mixture of experts, what some token uses: all but (1 - A / N)^tokens of the N
parameters, as if each were an expert's. Caches are read once for each token.

Sources: Pope et al., "Efficiently Scaling Transformer Inference", MLSys 2023 (arXiv:2211.05102),
section 2; operations: a third of those of training, Chowdhery et al., "PaLM", JMLR 24 (2023),
appendix B; the roofline: Williams, Waterman & Patterson, CACM 52 (2009); all-reduces: Shoeybi et
al., "Megatron-LM", arXiv:1909.08053, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mcsim.model.collectives import AUTO, Level, hierarchical
from mcsim.model.training import TENSOR_COLLECTIVES

_TRAVELLING = 2.0
"""Bytes of a number that devices exchange, whatever the precision of the weights."""


@dataclass(frozen=True)
class Served:
    """A model that is served.

    parameters, active: of the model, and that a token uses. width: bytes of a parameter. cache:
    bytes of a token's keys and values. prompt, output: tokens of a request.
    """

    parameters: float
    active: float
    layers: int
    hidden: int
    width: float
    cache: float
    prompt: int
    output: int

    @property
    def weights(self) -> float:
        """Bytes of all parameters."""
        return self.parameters * self.width

    @property
    def context(self) -> float:
        """Tokens before the one that is made, on average over an answer."""
        return self.prompt + self.output / 2

    @property
    def request_cache(self) -> float:
        """Bytes of the cache of a request at its end."""
        return self.cache * (self.prompt + self.output)

    def operations(self, context: float) -> float:
        """Of a token after so many others."""
        return 2.0 * self.active + 4.0 * self.layers * self.hidden * context

    def weights_read(self, tokens: float) -> float:
        """Bytes of the weights that at least one of so many tokens uses."""
        unused: float = (1.0 - self.active / self.parameters) ** tokens
        return self.weights * (1.0 - unused)


@dataclass(frozen=True)
class Pass:
    """What a pass takes, s: of the devices, and of what they exchange.

    by_memory: whether its bytes bound it, not its operations.
    """

    devices: float
    exchange: float
    by_memory: bool

    @property
    def seconds(self) -> float:
        """Of both."""
        return self.devices + self.exchange


@dataclass(frozen=True)
class Replica:
    """Devices that serve a model together, each a like share of every layer.

    peak, bandwidth: operations and bytes a second that a device reaches. memory: bytes of a device
    for weights and caches. levels: of the network among them, from the innermost; none where it
    costs nothing.
    """

    served: Served
    devices: int
    peak: float
    bandwidth: float
    memory: float
    levels: Sequence[Level] = ()

    @property
    def room(self) -> int:
        """Requests whose caches fit beside the weights; below 0 where those do not fit."""
        left = self.devices * self.memory - self.served.weights
        each = self.served.request_cache
        return -1 if left < 0 else 10**9 if each == 0 else min(int(left / each), 10**9)

    def prefill(self) -> Pass:
        """The prompt of a request."""
        tokens, served = self.served.prompt, self.served
        return self._pass(tokens, served.prompt, served.weights_read(tokens))

    def step(self, batch: int) -> Pass:
        """The next token of each of so many requests."""
        served = self.served
        caches = batch * served.context * served.cache
        return self._pass(batch, served.context, served.weights_read(batch) + caches)

    def time_per_token(self, batch: int) -> float:
        """From a token of an answer to the next, s, where prompts of others come between them.

        Each of the requests begins once in as many steps as an answer has tokens.
        """
        return self.step(batch).seconds + batch * self.prefill().seconds / self.served.output

    def requests_per_second(self, batch: int) -> float:
        """Answered where all places are always taken."""
        return batch / (self.served.output * self.time_per_token(batch))

    def largest_batch(self, time_per_token: float) -> int:
        """The most requests at a time that memory and a bound allow; 0 if not even one."""
        low, high = 0, self.room
        while low < high:
            middle = (low + high + 1) // 2
            if self.time_per_token(middle) <= time_per_token:
                low = middle
            else:
                high = middle - 1
        return max(low, 0)

    def _pass(self, tokens: float, context: float, read: float) -> Pass:
        computing = tokens * self.served.operations(context) / (self.devices * self.peak)
        reading = read / (self.devices * self.bandwidth)
        payload = tokens * self.served.hidden * _TRAVELLING
        phases = hierarchical(self.levels, payload, [AUTO] * len(self.levels))
        number = TENSOR_COLLECTIVES * self.served.layers
        exchange = number * sum(phase.seconds for phase in phases)
        return Pass(max(computing, reading), exchange, reading > computing)
