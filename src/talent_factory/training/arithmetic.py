"""Count what one image costs in a UNet, layer by layer from its configuration: weights, FLOP, kept numbers.

No model is made and torch is not needed. One multiplication with its addition is two FLOP; only products and
convolutions count, as in `torch.utils.flop_counter`, which the tests hold against these figures. The frozen
model needs gradients of its inputs but none of its weights: that is why a step costs about 2.15 forwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from talent_factory.training.options import Targets

Group = Literal["attention", "transformer", "conv", "fixed"]


class Adaption(NamedTuple):
    """Which layers get low-rank additions, and of what width; rank 0 stands for the untouched base."""

    targets: Targets = "transformer"
    rank: int = 16
    conv_rank: int = 16

    def width(self, group: Group, kernel: int) -> int:
        """The rank that a layer of this group gets, 0 for none."""
        wanted = {
            "attention": ("attention",),
            "transformer": ("attention", "transformer"),
            "transformer+conv": ("attention", "transformer", "conv"),
        }[self.targets]
        if not self.rank or group not in wanted:
            return 0
        return self.conv_rank if group == "conv" and kernel > 1 else self.rank


BASE_ALONE = Adaption(rank=0)


@dataclass
class Segment:
    """A part that gradient checkpointing computes twice: what enters it, and what it keeps inside."""

    entering: int
    inside: int = 0
    forward: float = 0.0


@dataclass
class Work:
    """What one image costs in a model; FLOP, and numbers (not bytes) that wait for the backward pass."""

    parameters: int = 0
    network_parameters: int = 0
    forward: float = 0.0
    backward: float = 0.0
    outside: int = 0
    """Kept outside all segments."""
    products: int = 0
    """Products and convolutions of the frozen model, hence how many calls a forward takes."""
    largest: int = 0
    """The largest single activation."""
    largest_weight: int = 0
    """The largest single weight."""
    segments: list[Segment] = field(default_factory=list)

    @property
    def kept(self) -> int:
        """Numbers that wait for the backward pass."""
        return self.outside + sum(segment.inside for segment in self.segments)

    @property
    def kept_checkpointed(self) -> int:
        """The same with gradient checkpointing: each segment's input, and the inside of one at a time."""
        inside = max((segment.inside for segment in self.segments), default=0)
        return self.outside + sum(segment.entering for segment in self.segments if segment.inside) + inside

    @property
    def recomputed(self) -> float:
        """FLOP of the forwards that gradient checkpointing repeats."""
        return sum(segment.forward for segment in self.segments if segment.inside)


class Counter:
    """Walks through a model and adds up; `live` tells whether a gradient flows through where it stands."""

    def __init__(self, adaption: Adaption, *, plain_attention: bool = False) -> None:
        self.work = Work()
        self.adaption = adaption
        self.plain_attention = plain_attention
        self.live = False
        self._segment: Segment | None = None

    @contextmanager
    def segment(self, entering: int) -> Iterator[None]:
        """All that happens inside belongs to one part that checkpointing would compute again."""
        self._segment = Segment(entering)
        before = self.work.forward
        try:
            yield
        finally:
            self._segment.forward = self.work.forward - before
            self.work.segments.append(self._segment)
            self._segment = None

    def keep(self, numbers: int, *, wanted: bool | None = None) -> None:
        """`numbers` wait for the backward pass, where a gradient flows or `wanted` says so."""
        self.work.largest = max(self.work.largest, numbers)
        if not (self.live if wanted is None else wanted):
            return
        if self._segment is None:
            self.work.outside += numbers
        else:
            self._segment.inside += numbers

    def product(
        self,
        inputs: int,
        outputs: int,
        positions: int,
        *,
        kernel: int = 1,
        bias: bool = True,
        group: Group = "fixed",
        live: bool | None = None,
    ) -> bool:
        """A linear layer or convolution at so many output positions; returns whether a gradient leaves it.

        `live` says whether the gradient of its input is wanted; where the walk stands if None.
        """
        work, flows = self.work, self.live if live is None else live
        work.products += 1
        weights = inputs * outputs * kernel**2
        work.parameters += weights + (outputs if bias else 0)
        work.largest_weight = max(work.largest_weight, weights)
        work.forward += 2.0 * weights * positions
        work.backward += 2.0 * weights * positions if flows else 0.0
        rank = self.adaption.width(group, kernel)
        if rank:
            down, up = inputs * rank * kernel**2, rank * outputs
            work.network_parameters += down + up
            work.forward += 2.0 * (down + up) * positions
            # of the up matrix, of what lies between, of the down matrix, and of the input
            work.backward += 2.0 * positions * (2 * up + down + (down if flows else 0))
            self.keep(rank * positions, wanted=True)
        return flows or bool(rank)

    def norm(self, channels: int) -> None:
        """Scale and shift of a norm."""
        self.work.parameters += 2 * channels

    def attention(self, queries: int, keys: int, width: int, heads: int) -> None:
        """The two products of attention; backward has four (a fused kernel adds one to save memory)."""
        flop = 4.0 * queries * keys * width
        self.work.forward += flop
        if self.live:
            self.work.backward += 2.0 * flop
            # queries, keys, values and the result; then either the weights or one number a row
            self.keep(width * (2 * queries + 2 * keys))
            self.keep(heads * queries * (keys if self.plain_attention else 1))


def unet_work(
    config: Mapping[str, Any],
    *,
    height: int,
    width: int,
    words: int,
    adaption: Adaption = BASE_ALONE,
    plain_attention: bool = False,
) -> Work:
    """The work of one latent of `height` x `width` with a prompt of `words` tokens.

    `config` is that of diffusers' UNet2DConditionModel. Raises KeyError or TypeError for one that is not.
    """
    counter = Counter(adaption, plain_attention=plain_attention)
    _UNet(config, counter, words).walk(height, width)
    return counter.work


class _UNet:
    """The order of the parts of UNet2DConditionModel."""

    def __init__(self, config: Mapping[str, Any], counter: Counter, words: int) -> None:
        self.config = config
        self.count = counter
        self.words = words
        self.channels = [int(width) for width in config["block_out_channels"]]
        levels = len(self.channels)
        self.layers = _each(config.get("layers_per_block"), 2, levels)
        self.cross = _each(config.get("cross_attention_dim"), 1280, levels)
        self.depth = _each(config.get("transformer_layers_per_block"), 1, levels)
        heads = config.get("num_attention_heads") or config.get("attention_head_dim")
        self.heads = _each(heads, 8, levels)
        self.linear = bool(config.get("use_linear_projection"))
        self.time = int(config.get("time_embedding_dim") or 4 * self.channels[0])

    def walk(self, height: int, width: int) -> None:
        """Down, middle, up."""
        count, channels, first = self.count, self.channels, self.channels[0]
        area = height * width
        self._embeddings()
        count.product(int(self.config.get("in_channels", 4)), first, area, kernel=3)
        skips, before = [first], first
        last = len(channels) - 1
        sides = [(height, width)]
        for level, kind in enumerate(self.config["down_block_types"]):
            for _ in range(self.layers[level]):
                self._residual(before, channels[level], area)
                before = channels[level]
                if _attends(kind):
                    self._transformer(level, area)
                skips.append(before)
            if level < last:
                height, width = -(-height // 2), -(-width // 2)
                count.keep(before * area)
                area = height * width
                count.live = count.product(before, before, area, kernel=3, group="conv")
                sides.append((height, width))
                skips.append(before)
        self._residual(before, before, area)
        if _attends(self.config.get("mid_block_type") or "UNetMidBlock2DCrossAttn"):
            self._transformer(last, area)
        self._residual(before, before, area)
        for position, kind in enumerate(self.config["up_block_types"]):
            level = last - position
            for _ in range(self.layers[level] + 1):
                self._residual(before + skips.pop(), channels[level], area)
                before = channels[level]
                if _attends(kind):
                    self._transformer(level, area)
            if level:
                area = sides[level - 1][0] * sides[level - 1][1]
                count.keep(before * area)
                count.live = count.product(before, before, area, kernel=3, group="conv")
        count.norm(first)
        for _ in range(3):  # what norm, activation and convolution read
            count.keep(first * area)
        count.product(first, int(self.config.get("out_channels", 4)), area, kernel=3)

    def _embeddings(self) -> None:
        self.count.product(self.channels[0], self.time, 1)
        self.count.product(self.time, self.time, 1)
        if self.config.get("addition_embed_type") == "text_time":
            self.count.product(int(self.config["projection_class_embeddings_input_dim"]), self.time, 1)
            self.count.product(self.time, self.time, 1)

    def _residual(self, inside: int, outside: int, area: int) -> None:
        """Norm, activation, convolution, twice; the step's time is added between."""
        count = self.count
        adapted = bool(count.adaption.width("conv", 3))
        with count.segment(inside * area):
            entry = count.live
            count.norm(inside)
            if inside != outside:
                # what the first norm reads is the input of the shortcut too
                count.keep(inside * area, wanted=adapted and not entry)
                after = count.product(inside, outside, area, group="conv", live=entry)
                count.live = entry
            else:
                after = entry
            count.keep(inside * area)
            count.keep(inside * area)
            count.keep(inside * area, wanted=entry or adapted)
            moved = count.product(inside, outside, area, kernel=3, group="conv", live=entry)
            timed = count.product(self.time, outside, 1, group="conv", live=False)
            count.live = moved or timed or entry
            count.norm(outside)
            for _ in range(3):
                count.keep(outside * area)
            count.live = count.product(outside, outside, area, kernel=3, group="conv") or after

    def _transformer(self, level: int, area: int) -> None:
        """Projection in, blocks of self-attention, cross-attention and feed-forward, projection out."""
        count, width = self.count, self.channels[level]
        projects = bool(count.adaption.width("transformer", 1))
        count.norm(width)
        count.keep(width * area)
        # a convolution keeps its input for the gradient that it must pass on; a linear layer only its weights
        count.keep(width * area, wanted=projects or (count.live and not self.linear))
        count.live = count.product(width, width, area, group="transformer")
        for _ in range(self.depth[level]):
            with count.segment(width * area):
                self._block(width, self.cross[level], self.heads[level], area)
        count.keep(width * area, wanted=projects or (count.live and not self.linear))
        count.live = count.product(width, width, area, group="transformer")

    def _block(self, width: int, cross: int, heads: int, area: int) -> None:
        count = self.count
        for source, length in ((width, area), (cross, self.words)):
            entry, own = count.live, source == width and length == area
            count.norm(width)
            count.keep(width * area)  # what the norm reads
            adapted = bool(count.adaption.width("attention", 1))
            count.keep(width * area, wanted=adapted)  # what the projections read
            flows = count.product(width, width, area, bias=False, group="attention", live=entry)
            for _ in range(2):
                count.product(
                    source, width, length, bias=False, group="attention", live=entry if own else False
                )
            count.live = flows
            count.attention(area, length, width, heads)
            count.live = count.product(width, width, area, group="attention")
        adapted = bool(count.adaption.width("transformer", 1))
        count.norm(width)
        count.keep(width * area)
        count.keep(width * area, wanted=adapted)
        count.live = count.product(width, 8 * width, area, group="transformer")
        # value and gate, and the gate's activation
        count.keep(8 * width * area)
        count.keep(4 * width * area)
        count.keep(4 * width * area, wanted=adapted)
        count.live = count.product(4 * width, width, area, group="transformer")


def text_work(config: Mapping[str, Any], *, words: int, adaption: Adaption = BASE_ALONE) -> Work:
    """The work of one prompt in a CLIP text encoder; its layers are adapted whatever the targets are."""
    count = Counter(adaption)
    width, inner = int(config["hidden_size"]), int(config["intermediate_size"])
    count.work.parameters += int(config["vocab_size"]) * width
    count.work.parameters += int(config.get("max_position_embeddings", 77)) * width
    for _ in range(int(config["num_hidden_layers"])):
        entry = count.live
        count.norm(width)
        count.keep(width * words)
        count.keep(width * words, wanted=bool(adaption.rank))
        for _ in range(3):
            count.live = count.product(width, width, words, group="attention", live=entry)
        count.attention(words, words, width, int(config.get("num_attention_heads", 8)))
        count.live = count.product(width, width, words, group="attention")
        count.norm(width)
        for _ in range(2):
            count.keep(width * words)
        count.product(width, inner, words, group="attention")
        for _ in range(3):
            count.keep(inner * words)
        count.product(inner, width, words, group="attention")
    count.norm(width)
    if config.get("projects"):
        count.product(width, int(config["projection_dim"]), 1, bias=False)
    return count.work


def _each(value: Any, default: int, count: int) -> list[int]:
    value = default if value is None else value
    return [int(item) for item in value] if isinstance(value, list | tuple) else [int(value)] * count


def _attends(kind: str) -> bool:
    if kind in ("CrossAttnDownBlock2D", "CrossAttnUpBlock2D", "UNetMidBlock2DCrossAttn"):
        return True
    if kind in ("DownBlock2D", "UpBlock2D", "UNetMidBlock2D"):
        return False
    raise KeyError(f"unknown block type {kind}")
